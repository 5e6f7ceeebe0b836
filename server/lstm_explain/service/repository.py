"""The folder of models.

DIR/<model>/<version>/model.onnx with DIR/<model>/model.yaml, versions being whole numbers from 1; or DIR/<model>.onnx
with DIR/<model>.yaml, which is version 1.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lstm_explain.errors import Error
from lstm_explain.service.errors import NotFound, NotReady
from lstm_explain.service.served import ServedModel, load_served

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Source:
    """Where one version lies."""

    name: str
    version: int
    model_file: Path
    config_file: Path

    def state(self) -> tuple[tuple[str, int, int], ...]:
        """Changes when a file that the version is made of does: name, time and size of each."""
        beside = self.model_file.parent.iterdir() if self.model_file.name == "model.onnx" else [self.model_file]
        folder = self.config_file.parent.glob("*") if self.model_file.name == "model.onnx" else [self.config_file]
        files = sorted({p for p in (*beside, *folder) if p.is_file()})
        return tuple((p.name, (s := p.stat()).st_mtime_ns, s.st_size) for p in files)


@dataclass(frozen=True)
class Failed:
    """A version that could not be loaded, and why."""

    name: str
    version: int
    reason: str


Entry = ServedModel | Failed


@dataclass(frozen=True)
class Snapshot:
    """Every version of every model at one moment: name, then version, ascending."""

    models: Mapping[str, Mapping[int, Entry]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for versions in self.models.values() for entry in versions.values())

    def entry(self, name: str, version: str = "") -> Entry:
        """The entry; without a version the newest that is ready, or else the newest. Raises NotFound."""
        versions = self.models.get(name)
        if not versions:
            raise NotFound(f"there is no model {name!r}", field="model")
        if not version:
            ready = [e for e in versions.values() if isinstance(e, ServedModel)]
            return ready[-1] if ready else list(versions.values())[-1]
        found = versions.get(int(version)) if VERSION.fullmatch(version) else None
        if found is None:
            there = ", ".join(str(v) for v in versions)
            raise NotFound(f"there is no version {version!r} of model {name!r}, there are {there}", field="version")
        return found

    def ready(self, name: str, version: str = "") -> ServedModel:
        """The model to serve with. Raises NotFound, NotReady."""
        entry = self.entry(name, version)
        if isinstance(entry, Failed):
            raise NotReady(f"model {name!r} version {entry.version} failed to load: {entry.reason}", field="model")
        return entry


class Repository:
    """Serves an immutable snapshot, which `load` swaps for the next one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._snapshot = Snapshot()
        self._states: dict[tuple[str, int], tuple[tuple[str, int, int], ...]] = {}
        self._loading = threading.Lock()

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def load(self) -> Snapshot:
        """Brings the snapshot up to date with the folder; what has not changed there is not loaded again."""
        with self._loading:
            models: dict[str, dict[int, Entry]] = {}
            for source in find_sources(self._root):
                models.setdefault(source.name, {})[source.version] = self._entry(source)
            self._states = {key: state for key, state in self._states.items() if key[1] in models.get(key[0], {})}
            self._snapshot = Snapshot(models)
            return self._snapshot

    def _entry(self, source: Source) -> Entry:
        key = (source.name, source.version)
        try:
            state = source.state()
        except OSError as error:
            return Failed(source.name, source.version, f"cannot be read: {error.strerror}")
        known = self._snapshot.models.get(source.name, {}).get(source.version)
        if known is not None and self._states.get(key) == state:
            return known
        entry = self._load(source)
        self._states[key] = state
        if isinstance(entry, Failed) and isinstance(known, ServedModel):
            log.error("model %s version %d stays as it was", source.name, source.version)
            return known
        return entry

    def _load(self, source: Source) -> Entry:
        try:
            served = load_served(source.name, source.version, source.model_file, source.config_file)
        except Error as error:
            reason = self._without_root(str(error))
        except Exception as error:  # one model must not keep the others from being served
            log.exception("model %s version %d failed to load", source.name, source.version)
            return Failed(source.name, source.version, f"unexpected {type(error).__name__}; the server's log has more")
        else:
            log.info("model %s version %d is ready", source.name, source.version)
            return served
        log.error("model %s version %d failed to load: %s", source.name, source.version, reason)
        return Failed(source.name, source.version, reason)

    def _without_root(self, text: str) -> str:
        """Callers learn nothing of the host's folders."""
        for root in (self._root.resolve(), self._root.absolute(), self._root):
            text = text.replace(f"{root}/", "")
        return text


def find_sources(root: Path) -> list[Source]:
    """Every version in the folder, by name and ascending version; what is not named like one is left out."""
    sources = [source for path in root.iterdir() for source in _sources_of(path)]
    unique = {(s.name, s.version): s for s in sources}  # a folder's version 1 and a bare file may clash
    if len(unique) < len(sources):
        log.warning("a model is there twice, as a folder and as a file")
    return [unique[key] for key in sorted(unique)]


def _sources_of(path: Path) -> list[Source]:
    if path.is_file() and path.suffix == ".onnx" and NAME.fullmatch(path.stem):
        return [Source(path.stem, 1, path, path.with_suffix(".yaml"))]
    if not path.is_dir() or not NAME.fullmatch(path.name):
        return []
    versions = [v for v in path.iterdir() if VERSION.fullmatch(v.name) and (v / "model.onnx").is_file()]
    return [Source(path.name, int(v.name), v / "model.onnx", path / "model.yaml") for v in versions]
