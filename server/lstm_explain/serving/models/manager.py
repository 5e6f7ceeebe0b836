# SPDX-License-Identifier: Apache-2.0
"""Keeps what is served in step with the folder of models and with what callers and other processes ask for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import RLock

from lstm_explain.errors import ModelError
from lstm_explain.repository.misplaced import NO_VERSION, Misplaced, find_misplaced
from lstm_explain.repository.model_folder import MODEL, NAME, Source, Tag, find_sources, fingerprint
from lstm_explain.repository.model_route import Route, read_route
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.errors import NotFound, NotReady
from lstm_explain.serving.models.announcements import Announcements, Event
from lstm_explain.serving.models.loader import Loader, ModelMemoryLimits
from lstm_explain.serving.models.model_table import ModelTable
from lstm_explain.serving.models.snapshot import (
    NO_ROUTE,
    Entry,
    Evicted,
    Failed,
    Key,
    Quarantined,
    Ready,
    Snapshot,
    Unloaded,
)
from lstm_explain.serving.models.version_loads import VersionLoad, VersionLoads
from lstm_explain.serving.shared_board import SharedBoard

log = logging.getLogger(__name__)


class ModelManager:
    """Serves the models of the folder `root`.

    loader: by default, one without trials. board: where a load is marked while it runs. announcements: of the other
    processes of the server, if there are any. on_change: called after every change, with the new snapshot. on_unload:
    called when a model has left memory. on_release: called with each version that leaves quarantine, because a caller
    has loaded it or its files have changed or gone.
    """

    def __init__(
        self,
        root: Path,
        limits: ModelMemoryLimits = ModelMemoryLimits(),  # noqa: B008 - frozen
        *,
        loader: Loader | None = None,
        board: SharedBoard | None = None,
        announcements: Announcements | None = None,
        on_change: Callable[[Snapshot], None] = lambda _: None,
        on_unload: Callable[[], None] = lambda: None,
        on_release: Callable[[Key], None] = lambda _: None,
    ) -> None:
        self._root = root
        self._announcements = announcements
        self._on_release = on_release
        self._loader = loader or Loader(limits)
        self._table = ModelTable(limits.loaded_bytes, on_change, on_unload)
        self._loads = VersionLoads(root, self._table, self._loader, board or SharedBoard())
        self._quarantined: Mapping[Key, tuple[str, str]] = {}  # the fingerprint of the files, and the reason
        self._unloaded: set[str] = set() if announcements is None else announcements.unloaded()
        self._reported: set[str] = set()  # misplaced models that the log has mentioned

    @property
    def snapshot(self) -> Snapshot:
        return self._table.snapshot

    @property
    def lock(self) -> RLock:
        """Held for every change, and never while a model is tried or loaded."""
        return self._table.lock

    def cached(self, name: str, version: str = "") -> ServedModel | None:
        """Returns what `ready` returns, if it is known without a search."""
        served = self.snapshot.resolved.get((name, version))
        if served is not None:
            self._table.touch(served)
        return served

    def ready(self, name: str, version: str = "") -> ServedModel:
        """Returns the model that answers a request; an evicted one is loaded again. Raises NotFound, NotReady."""
        served = self.cached(name, version)
        if served is None:
            snapshot = self.snapshot_with(name, version)
            entry = snapshot.ready(name, version)
            if isinstance(entry, Evicted):
                served = self._reload_evicted((entry.name, entry.version))
            else:
                served = snapshot.resolved[name, version] = entry
            self._table.touch(served)
        return served

    def snapshot_with(self, name: str, version: str = "") -> Snapshot:
        """Returns the snapshot. If it lacks this version, announcements of other processes are followed first."""
        try:
            self.snapshot.entry(name, version)
        except NotFound:
            self.follow()
        return self.snapshot

    def load(self) -> Snapshot:
        """Brings the snapshot up to date with the folder. Files that have not changed are not loaded again.

        Does not wait for models whose trial is slow, once others can be served. Raises OSError if the folder cannot be
        listed.
        """
        self._loads.wait(self.scan())
        return self.snapshot

    def scan(self) -> list[VersionLoad]:
        """Begins what `load` does, without waiting."""
        with self.lock:
            sources, misplaced = find_sources(self._root), find_misplaced(self._root)
            if not sources:
                misplaced.append(Misplaced("", NO_VERSION, f"no model: expected <model>/1/{MODEL} or <model>.onnx"))
            return self._reconcile(sources, misplaced, self.snapshot)

    def wait_for(self, name: str) -> None:
        """Waits for the versions of a model that are being loaded."""
        self._loads.wait(self._loads.running(name))

    def reload(self, name: str) -> None:
        """Loads every version of a model again. Raises NotFound, and NotReady if one cannot be loaded."""
        try:
            for load in self._begin_reload(name):
                load.done.wait()
            self._raise_problems(name)
        finally:
            self._announce("load", name)

    def unload(self, name: str) -> None:
        """Takes a model out of service; it leaves memory when its running requests are done. Raises NotFound."""
        self.snapshot_with(name)
        self._unload(name)
        self._announce("unload", name)

    def add(self, served: ServedModel, source: Source) -> None:
        """Adds a loaded model whose files are now at `source`, and the other versions of a model that was unloaded.

        Does not wait for the other versions; `wait_for` does.
        """
        self._loader.record_pass(source)
        with self.lock:
            self._table.make_room(served.card.memory, source.key)
            self._loads.record(source.key, source.state())
            self._table.touch(served)
            self._table.change({source.key: served, (source.name, NO_VERSION): None})
            was_unloaded = source.name in self._unloaded
            self._unloaded.discard(source.name)
            if was_unloaded:
                self._scan_model(source.name)
        self._announce("load" if was_unloaded else "change", source.name)

    def remove_deleted(self, name: str) -> None:
        """Removes the versions of a model whose files have been deleted."""
        self._update_model(name)
        self._announce("change", name)

    def update_routes(self, name: str) -> None:
        """Reads which version of the model answers, and lets the other processes do so."""
        self._read_routes(find_sources(self._root, name))
        self._announce("change", name)

    def follow(self) -> None:
        """Does what other processes of the server have announced."""
        if self._announcements is not None:
            self._announcements.follow(
                {"load": self._reload_quietly, "unload": self._unload, "change": self._update_model}
            )

    def quarantine(self, reasons: Mapping[Tag, str]) -> None:
        """Takes exactly these versions out of service, for the given reasons; others leave quarantine."""
        self._quarantined = {tag.key: (tag.files, reason) for tag, reason in reasons.items()}
        held = {entry.name for entry in self.snapshot if isinstance(entry, Quarantined)}
        for name in held | {tag.name for tag in reasons if tag.name in self.snapshot.models}:
            try:
                self._update_model(name)
            except OSError as error:
                log.error("the files of model %s cannot be listed: %s", name, error.strerror)

    def _announce(self, event: Event, name: str) -> None:
        if self._announcements is not None:
            self._announcements.post(event, name)

    def _reload_quietly(self, name: str) -> None:
        self._loads.wait(self._begin_reload(name))
        self._raise_problems(name)

    def _begin_reload(self, name: str) -> list[VersionLoad]:
        with self.lock:
            self._unloaded.discard(name)
            self._release([key for key in self._quarantined if key[0] == name])
            self._loads.forget_model(name)
            loads = self._scan_model(name, again=True)
            if not loads and name not in self.snapshot.models:
                raise NotFound(f"there is no model {name!r}", field="model_name")
            return loads

    def _raise_problems(self, name: str) -> None:
        versions = self.snapshot.models.get(name, {}).values()
        problems = [(e, problem) for e in versions if (problem := _problem(e))]
        if problems:
            message = "; ".join(f"{_title(e.name, e.version)} failed to load: {problem}" for e, problem in problems)
            raise NotReady(message, field="model_name")

    def _unload(self, name: str) -> None:
        with self.lock:
            if name not in self.snapshot.models:
                raise NotFound(f"there is no model {name!r}", field="model_name")
            self._unloaded.add(name)
            self._loads.forget_model(name)
            self._table.change({(name, v): Unloaded(name, v) for v in self.snapshot.models[name]})
            log.info("model %s is unloaded", name)

    def _update_model(self, name: str) -> None:
        self._loads.wait(self._scan_model(name))

    def _scan_model(self, name: str, *, again: bool = False) -> list[VersionLoad]:
        with self.lock:
            sources = find_sources(self._root, name) if NAME.fullmatch(name) else []
            misplaced = find_misplaced(self._root, name) if NAME.fullmatch(name) else []
            return self._reconcile(sources, misplaced, (e for e in self.snapshot if e.name == name), again=again)

    def _reconcile(
        self, sources: Sequence[Source], misplaced: Sequence[Misplaced], known: Iterable[Entry], *, again: bool = False
    ) -> list[VersionLoad]:
        """Begins to load new or changed sources, and removes known entries whose files have gone."""
        failed = {(m.name, m.version): Failed(m.name, m.version, m.reason) for m in misplaced if m.name}
        for source in sources:  # the model does have a version
            failed.pop((source.name, NO_VERSION), None)
        gone = {(e.name, e.version) for e in known} - {source.key for source in sources} - set(failed)
        self._loads.forget(gone)
        for key in gone:
            log.info("%s is gone", _title(*key))
        self._table.change(dict.fromkeys(gone))
        self._release(gone & self._quarantined.keys())
        self._unloaded -= {name for name, _ in gone if name not in self.snapshot.models}
        for reason in {m.reason for m in misplaced} - self._reported:
            log.warning("in the folder of models: %s", reason)
        self._reported |= {m.reason for m in misplaced}
        new = {key: entry for key, entry in failed.items() if self.snapshot.get(key) != entry}
        self._table.change({key: entry for key, entry in new.items() if key[0] not in self._unloaded})
        self._table.change_routes({name: NO_ROUTE for name, _ in gone})
        self._read_routes(sources)
        loads: list[VersionLoad] = []
        for source in sources:
            load = self._begin_if_changed(source, loads[-1] if loads else None, again=again)
            if load is not None:
                loads.append(load)
        return loads

    def _read_routes(self, sources: Iterable[Source]) -> None:
        """A route that cannot be read stays as it was."""
        routes: dict[str, Route] = {}
        for name, folder in {source.name: source.folder for source in sources if not source.bare}.items():
            try:
                routes[name] = read_route(folder)
            except (ModelError, OSError, UnicodeDecodeError) as error:
                routes[name] = self.snapshot.route(name)
                if (problem := f"model {name}: {error}") not in self._reported:
                    self._reported.add(problem)
                    log.error("model %s: which version answers cannot be read: %s", name, error)
        self._table.change_routes(routes)

    def _begin_if_changed(self, source: Source, after: VersionLoad | None, *, again: bool) -> VersionLoad | None:
        """Begins to load a version if its files have changed since they were last loaded."""
        known = self.snapshot.get(source.key)
        if source.name in self._unloaded:
            if not isinstance(known, Unloaded):
                self._table.change({source.key: Unloaded(source.name, source.version)})
            return None
        try:
            state = source.state()
        except OSError as error:
            self._table.change({source.key: Failed(*source.key, f"cannot be read: {error.strerror}")})
            return None
        files, reason = self._quarantined.get(source.key, ("", ""))
        if files == fingerprint(state):
            self._loads.cancel(source.key)
            self._loads.record(source.key, state)
            if not isinstance(known, Quarantined):
                self._table.change({source.key: Quarantined(*source.key, reason)})
            return None
        if files:
            self._release([source.key])
        settled = isinstance(known, Ready | Failed) and not isinstance(known, Quarantined)
        if settled and self._loads.is_up_to_date(source.key, state):
            return None
        return self._loads.begin(source, state, after, again=again)

    def _release(self, keys: Iterable[Key]) -> None:
        """Lets these versions out of quarantine."""
        released = set(keys)
        self._quarantined = {key: entry for key, entry in self._quarantined.items() if key not in released}
        for key in released:
            self._on_release(key)

    def _reload_evicted(self, key: Key) -> ServedModel:
        """Returns an evicted version, in memory again. Several callers wait for one load. Raises NotReady."""
        with self.lock:
            entry = self.snapshot.ready(key[0], str(key[1]))
            if isinstance(entry, ServedModel):
                return entry
            source = next((s for s in find_sources(self._root, key[0]) if s.key == key), None)
            load = None if source is None else self._loads.begin(source, source.state())
            if load is None:
                self._table.change({key: Failed(*key, "its files are gone")})
        if load is not None:
            load.done.wait()
            if isinstance(load.entry, ServedModel):
                return load.entry
        raise NotReady(f"model {key[0]!r} version {key[1]} cannot be loaded again", field="model")


def _problem(entry: Entry) -> str:
    if isinstance(entry, Failed):
        return entry.reason
    return entry.card.problem if isinstance(entry, Ready) else ""


def _title(name: str, version: int) -> str:
    """Returns the version as messages name it, or the model alone where it has no version."""
    return f"model {name} version {version}" if version != NO_VERSION else f"model {name}"
