# SPDX-License-Identifier: Apache-2.0
"""Imports models that callers send, and deletes models at callers' requests.

An import is written to a hidden folder next to the models, loaded from there as the server would load it, and only then
renamed to its place. A deletion is one rename too. So whenever the server is killed, a version is either complete or
absent; the next start empties the hidden folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from lstm_explain.cancellation import Cancelled
from lstm_explain.durable_files import sync
from lstm_explain.errors import Error, InputError
from lstm_explain.repository.model_folder import (
    CONFIG,
    MODEL,
    NAME,
    VERSION,
    Source,
    find_sources,
    fingerprint,
    source_in,
)
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.errors import AlreadyExists, NoSpace, NotFound, Overloaded, Untrusted
from lstm_explain.serving.models.loader import Loader, ModelMemoryLimits
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.models.version_loads import without_root
from lstm_explain.serving.scheduling.admission import ConcurrencyLimit

log = logging.getLogger(__name__)

STAGING = ".staging"  # not a valid name of a model
MAX_RECEIVING = 2  # imports at a time whose files arrive
MAX_IN_TRIAL = 8  # imports at a time that are on trial, in addition to those
SHA256_BYTES = 32
MAX_FILE_NAME_BYTES = 255
MAX_FILES = 1000


@dataclass(frozen=True)
class AnnouncedFile:
    """A file whose bytes follow, as the caller announces it. name: of the file in the version's folder."""

    name: str
    sha256: bytes
    size: int

    def field(self, name: str) -> str:
        """Returns the path of a field in the caller's messages."""
        return f"{'start' if self.name == MODEL else 'file'}.{name}"

    def check(self, limits: ModelMemoryLimits, size_before: int = 0) -> None:
        """size_before: bytes of the files before this one. Raises InputError."""
        if len(self.sha256) != SHA256_BYTES:
            problem = f"a SHA-256 digest has {SHA256_BYTES} bytes, got {len(self.sha256)}"
            raise InputError(problem, field=self.field("sha256"))
        if self.size < 1:
            raise InputError(f"{self.name!r} cannot have {self.size} bytes", field=self.field("size"))
        try:
            limits.check(size_before + self.size)
        except Error as error:
            raise InputError(str(error), field=self.field("size")) from None

    def check_name(self, received: Collection[str]) -> None:
        """Raises InputError if it may not follow the files with these names."""
        plain = self.name.isprintable() and not self.name.startswith(".") and not set(self.name) & set("/\\")
        if not plain or not 0 < len(self.name.encode()) <= MAX_FILE_NAME_BYTES:
            rule = f"printable, without a folder or a leading '.', at most {MAX_FILE_NAME_BYTES} bytes"
            raise InputError(f"{self.name!r} is not a valid file name: {rule}", field="file.name")
        if self.name == CONFIG:
            raise InputError(f"{CONFIG} must be sent as config_yaml in the first message", field="file.name")
        if self.name in received:
            raise InputError(f"{self.name!r} was already sent", field="file.name")
        if len(received) == MAX_FILES:
            raise InputError(f"a version has at most {MAX_FILES} files", field="file.name")


@dataclass(frozen=True)
class Upload:
    """An import as its first message announces it.

    version: empty for the newest plus one. file: its model.onnx.
    """

    name: str
    version: str
    file: AnnouncedFile
    config: str

    def check(self, limits: ModelMemoryLimits) -> None:
        """Raises InputError."""
        if not NAME.fullmatch(self.name):
            rule = "at most 128 letters, digits, '.', '_' and '-', beginning with a letter or digit"
            raise InputError(f"{self.name!r} is not a valid model name: {rule}", field="start.name")
        if self.version and not VERSION.fullmatch(self.version):
            problem = f"{self.version!r} is not a valid version: versions are whole numbers from 1"
            raise InputError(problem, field="start.version")
        self.file.check(limits)


class Imports:
    """Adds versions to the folder of models and to what is served, and removes them from both."""

    def __init__(self, root: Path, manager: ModelManager, loader: Loader) -> None:
        self._root = root
        self._manager = manager
        self._loader = loader
        self._limits = loader.limits
        self._staging = root / STAGING
        self._receiving = ConcurrencyLimit(MAX_RECEIVING, "imports")
        self._in_trial = ConcurrencyLimit(MAX_IN_TRIAL, "imports")

    def clean(self) -> None:
        """Removes what interrupted imports have left behind. Raises Error if the folder cannot be written to."""
        try:
            self._staging.mkdir(exist_ok=True)
            with (self._staging / "lock").open("ab") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return  # another process is importing
                for path in self._staging.iterdir():
                    if path.is_dir():
                        log.warning("removing what an interrupted import or deletion has left behind")
                        shutil.rmtree(path)
        except OSError as error:
            raise Error(f"cannot import models, since their folder cannot be written to: {error.strerror}") from error

    def add(
        self,
        upload: Upload,
        parts: Iterable[AnnouncedFile | bytes],
        check: Callable[[], None] = lambda: None,
    ) -> ServedModel:
        """Receives, checks, stores and serves a version.

        parts: the bytes of model.onnx, then each further file and its bytes. check: called during the trial; raises
        Cancelled when nobody waits any more. A model that cannot be loaded (which `inspect` calls unreadable) is
        refused; one that only LRP cannot explain is accepted. Raises InputError, AlreadyExists, Overloaded, NoSpace,
        Untrusted.
        """
        upload.check(self._limits)
        with self._workspace() as folder:
            with self._receiving:
                self._refuse_existing(upload)
                candidate = folder / "model" / "candidate"
                candidate.mkdir(parents=True)
                _receive(upload.file, parts, candidate, self._limits)
                if upload.config:
                    with _durable_file(candidate / CONFIG) as file:
                        file.write(upload.config.encode())  # text in a message is always valid Unicode
            with self._in_trial:
                served = self._load(upload, candidate, check)
            published = self._publish(upload, candidate, served)
        self._manager.wait_for(upload.name)
        return published

    def delete(self, name: str, version: str) -> None:
        """Deletes a version, or all versions if none is given. Raises NotFound, NoSpace."""
        with self._workspace() as folder, self._manager.lock:
            sources = find_sources(self._root, name)
            chosen = [s for s in sources if version in ("", str(s.version))]
            if not chosen:
                self._manager.snapshot.entry(name, version)  # raises NotFound, unless the files have just gone
                raise NotFound(f"model {name!r} has no version {version!r}", field="name")
            for number, path in enumerate(_paths_of(sources, chosen)):
                path.rename(folder / str(number))
                sync(path.parent)
        self._manager.remove_deleted(name)

    @contextmanager
    def _workspace(self) -> Iterator[Path]:
        """A temporary folder on the file system of the models. Raises NoSpace where the file system refuses a write."""
        try:
            self._staging.mkdir(exist_ok=True)
            with (self._staging / "lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)  # the kernel releases it when the process ends
                folder = self._staging / uuid.uuid4().hex
                folder.mkdir()
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            log.exception("the folder of models cannot be written to")
            raise NoSpace(f"the folder of models cannot be written to: {error.strerror}") from error

    def _refuse_existing(self, upload: Upload) -> None:
        if upload.version and any(str(s.version) == upload.version for s in find_sources(self._root, upload.name)):
            raise AlreadyExists(f"model {upload.name!r} already has a version {upload.version}", field="start.version")

    def _load(self, upload: Upload, candidate: Path, check: Callable[[], None]) -> ServedModel:
        """Loads the version as it will be served. Raises InputError for any problem with the caller's files."""
        final = self._root / upload.name
        above = final if final.is_dir() else candidate.parent
        try:
            source = source_in(candidate, upload.name, int(upload.version or 1), model_folder=above)
            return self._loader.load(source, check=check)
        except Cancelled as cancelled:
            raise cancelled.cause from None
        except (Overloaded, NoSpace, Untrusted):
            raise
        except Error as error:
            problem = without_root(str(error), self._root)
            field = "start.config_yaml" if problem.startswith(f"{CONFIG}:") else "chunk"
            raise InputError(problem, field=field) from error
        except OSError as error:
            raise InputError(f"a file of the model cannot be read: {error.strerror}", field="chunk") from error
        except Exception as error:
            log.exception("the files that were sent as model %s cannot be loaded", upload.name)
            problem = f"the model cannot be loaded: unexpected {type(error).__name__}; the server's log has more"
            raise InputError(problem, field="chunk") from error

    def _publish(self, upload: Upload, candidate: Path, served: ServedModel) -> ServedModel:
        with self._manager.lock:
            self._refuse_existing(upload)
            newest = max((s.version for s in find_sources(self._root, upload.name)), default=0)
            version = int(upload.version) if upload.version else newest + 1
            staged = candidate.rename(candidate.parent / str(version))
            sync(staged)
            sync(staged.parent)
            final = self._root / upload.name
            try:
                staged.rename(final / str(version)) if final.exists() else staged.parent.rename(final)
            except OSError as error:  # another process was faster, or something else has that name
                raise AlreadyExists(
                    f"model {upload.name!r} already has a version {version}", field="start.name"
                ) from error
            sync(final)
            sync(self._root)
            source = source_in(final / str(version), upload.name, version)
            served = replace(served, card=replace(served.card, version=version, files=fingerprint(source.state())))
            self._manager.add(served, source)
            log.info("model %s version %d is imported", upload.name, version)
            return served


def _receive(
    first: AnnouncedFile, parts: Iterable[AnnouncedFile | bytes], folder: Path, limits: ModelMemoryLimits
) -> None:
    """Writes the files into the folder. Raises InputError."""
    parts, received, size = iter(parts), set[str](), 0
    announced: AnnouncedFile | None = first
    while announced is not None:
        received.add(announced.name)
        size += announced.size
        announced = _receive_one(announced, parts, folder / announced.name)
        if announced is not None:
            announced.check_name(received)
            announced.check(limits, size)


def _receive_one(announced: AnnouncedFile, parts: Iterator[AnnouncedFile | bytes], path: Path) -> AnnouncedFile | None:
    """Writes one file, and returns the next one that is announced, if any. Raises InputError."""
    digest, size, following = hashlib.sha256(), 0, None
    with _durable_file(path) as file:
        for part in parts:
            if isinstance(part, AnnouncedFile):
                following = part
                break
            size += len(part)
            if size > announced.size:
                raise InputError(f"more than the announced {announced.size} bytes were sent", field="chunk")
            digest.update(part)
            file.write(part)
        if size < announced.size:
            raise InputError(f"{size} of the announced {announced.size} bytes were sent", field="chunk")
        if digest.digest() != announced.sha256:
            problem = "the SHA-256 digest of the file is not the announced one"
            raise InputError(problem, field=announced.field("sha256"))
    return following


@contextmanager
def _durable_file(path: Path) -> Iterator[BinaryIO]:
    """A new file whose content is on the disk when the context ends."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _paths_of(sources: list[Source], chosen: list[Source]) -> list[Path]:
    """Returns the paths that belong to the chosen sources; a model's whole folder if no version stays in it."""
    folders = {s.folder for s in sources if not s.bare}
    kept = {s.folder for s in sources if s not in chosen}
    whole = sorted(folders - kept)
    single = [s.model_file.parent for s in chosen if not s.bare and s.folder in kept]
    bare = [path for s in chosen if s.bare for path in (s.model_file, s.config_file) if path.is_file()]
    return [*whole, *single, *bare]
