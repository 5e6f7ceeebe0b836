"""Models that callers bring and take away.

What comes in is written to a hidden folder beside the models, checked there as the server would load it, and only then
moved to its place, by one rename. What is deleted leaves by one rename too. So whenever the server is killed, a version
is there in whole or not at all; what is left in the hidden folder goes at the next start.
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
from lstm_explain.serving.errors import AlreadyExists, NoSpace, NotFound, Overloaded
from lstm_explain.serving.models.loading import Loader, ModelMemoryLimits
from lstm_explain.serving.models.manager import ModelManager, without_root
from lstm_explain.serving.scheduling.admission import ConcurrencyLimit

log = logging.getLogger(__name__)

STAGING = ".staging"  # no model has such a name
MOST_AT_A_TIME = 2
MOST_ON_TRIAL = 8  # beside those that are being received
SHA256_BYTES = 32
LONGEST_FILE_NAME = 255
MOST_FILES = 1000


@dataclass(frozen=True)
class AnnouncedFile:
    """What a caller says of a file whose bytes follow. name: as it will be called in the version's folder."""

    name: str
    sha256: bytes
    size: int

    def field(self, name: str) -> str:
        """In the caller's messages."""
        return f"{'start' if self.name == MODEL else 'file'}.{name}"

    def check(self, room: ModelMemoryLimits, before: int = 0) -> None:
        """before: bytes of the files that came before. Raises InputError."""
        if len(self.sha256) != SHA256_BYTES:
            problem = f"a SHA-256 has {SHA256_BYTES} bytes, {len(self.sha256)} came"
            raise InputError(problem, field=self.field("sha256"))
        if self.size < 1:
            raise InputError(f"{self.name!r} cannot have {self.size} bytes", field=self.field("size"))
        try:
            room.check(before + self.size)
        except Error as error:
            raise InputError(str(error), field=self.field("size")) from None

    def check_beside(self, there: Collection[str]) -> None:
        """Whether it may be a further file beside those. Raises InputError."""
        plain = self.name.isprintable() and not self.name.startswith(".") and not set(self.name) & set("/\\")
        if not plain or not 0 < len(self.name.encode()) <= LONGEST_FILE_NAME:
            wanted = f"printable, without a folder, no '.' at its beginning, at most {LONGEST_FILE_NAME} bytes"
            raise InputError(f"{self.name!r} cannot be a file's name: {wanted}", field="file.name")
        if self.name == CONFIG:
            raise InputError(f"{CONFIG} is sent as config_yaml of the start", field="file.name")
        if self.name in there:
            raise InputError(f"{self.name!r} came already", field="file.name")
        if len(there) == MOST_FILES:
            raise InputError(f"a version has at most {MOST_FILES} files", field="file.name")


@dataclass(frozen=True)
class Upload:
    """What a caller says of the version that follows. version: "" for one above the newest. file: its model.onnx."""

    name: str
    version: str
    file: AnnouncedFile
    config: str

    def check(self, room: ModelMemoryLimits) -> None:
        """Raises InputError."""
        if not NAME.fullmatch(self.name):
            wanted = "letters, digits, '.', '_' and '-', first a letter or digit, at most 128"
            raise InputError(f"{self.name!r} cannot be a model's name: {wanted}", field="start.name")
        if self.version and not VERSION.fullmatch(self.version):
            problem = f"{self.version!r} cannot be a version: whole numbers from 1"
            raise InputError(problem, field="start.version")
        self.file.check(room)


class Imports:
    """Adds versions to the folder of models and to what is served, and takes them out of both."""

    def __init__(self, root: Path, repository: ModelManager, loader: Loader) -> None:
        self._root = root
        self._repository = repository
        self._loader = loader
        self._room = loader.room
        self._staging = root / STAGING
        self._limit = ConcurrencyLimit(MOST_AT_A_TIME, "imports")
        self._on_trial = ConcurrencyLimit(MOST_ON_TRIAL, "imports")

    def clean(self) -> None:
        """Removes what imports that never ended have left. Raises Error if the folder cannot be written to."""
        try:
            self._staging.mkdir(exist_ok=True)
            with (self._staging / "lock").open("ab") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return  # another process is importing
                for path in self._staging.iterdir():
                    if path.is_dir():
                        log.warning("an import or a deletion that did not end is cleaned away")
                        shutil.rmtree(path)
        except OSError as error:
            raise Error(f"models cannot be imported, their folder cannot be written to: {error.strerror}") from error

    def add(
        self,
        upload: Upload,
        parts: Iterable[AnnouncedFile | bytes],
        check: Callable[[], None] = lambda: None,
    ) -> ServedModel:
        """Receives, checks, keeps and serves a version. parts: its model.onnx, then each further file with its bytes.

        Refused is what cannot be loaded (what `inspect` calls unreadable); a model that only LRP cannot explain is
        taken. check: called while it is on trial, raises Cancelled when nobody waits any more. Raises InputError,
        AlreadyExists, Overloaded, NoSpace.
        """
        upload.check(self._room)
        with self._workspace() as folder:
            with self._limit:
                self._refuse_double(upload)
                candidate = folder / "model" / "candidate"
                candidate.mkdir(parents=True)
                _receive(upload.file, parts, candidate, self._room)
                if upload.config:
                    with _lasting(candidate / CONFIG) as file:
                        file.write(upload.config.encode())  # a message's text is Unicode
            with self._on_trial:
                served = self._checked(upload, candidate, check)
            published = self._publish(upload, candidate, served)
        self._repository.settle(upload.name)
        return published

    def delete(self, name: str, version: str) -> None:
        """Removes a version, or all without one. Raises NotFound, NoSpace."""
        with self._workspace() as folder, self._repository.changing:
            there = find_sources(self._root, name)
            chosen = [s for s in there if version in ("", str(s.version))]
            if not chosen:
                self._repository.snapshot.entry(name, version)  # raises NotFound, unless the folder lags behind
                raise NotFound(f"there is no model {name!r} with version {version!r}", field="name")
            for number, path in enumerate(_paths(there, chosen)):
                path.rename(folder / str(number))
                _sync(path.parent)
        self._repository.forget(name)

    @contextmanager
    def _workspace(self) -> Iterator[Path]:
        """A new folder on the models' own file system, gone afterwards. Raises NoSpace for what the disk refuses."""
        try:
            self._staging.mkdir(exist_ok=True)
            with (self._staging / "lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)  # the kernel lets go of it when the process dies
                folder = self._staging / uuid.uuid4().hex
                folder.mkdir()
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            log.exception("the folder of models cannot be written to")
            raise NoSpace(f"the folder of models cannot be written to: {error.strerror}") from error

    def _refuse_double(self, upload: Upload) -> None:
        if upload.version and any(str(s.version) == upload.version for s in find_sources(self._root, upload.name)):
            raise AlreadyExists(f"model {upload.name!r} has a version {upload.version}", field="start.version")

    def _checked(self, upload: Upload, candidate: Path, check: Callable[[], None]) -> ServedModel:
        """The version as it will be served. Raises InputError, whatever is wrong: the files are the caller's."""
        final = self._root / upload.name
        above = final if final.is_dir() else candidate.parent
        try:
            source = source_in(candidate, upload.name, int(upload.version or 1), model_folder=above)
            return self._loader.served(source, check=check)
        except Cancelled as stopped:
            raise stopped.cause from None
        except (Overloaded, NoSpace):
            raise
        except Error as error:
            problem = without_root(str(error), self._root)
            field = "start.config_yaml" if problem.startswith(f"{CONFIG}:") else "chunk"
            raise InputError(problem, field=field) from error
        except OSError as error:
            raise InputError(f"a file of the model cannot be read: {error.strerror}", field="chunk") from error
        except Exception as error:
            log.exception("what was sent as model %s cannot be loaded", upload.name)
            problem = f"the model cannot be loaded: unexpected {type(error).__name__}; the server's log has more"
            raise InputError(problem, field="chunk") from error

    def _publish(self, upload: Upload, candidate: Path, served: ServedModel) -> ServedModel:
        with self._repository.changing:
            self._refuse_double(upload)
            newest = max((s.version for s in find_sources(self._root, upload.name)), default=0)
            version = int(upload.version) if upload.version else newest + 1
            staged = candidate.rename(candidate.parent / str(version))
            _sync(staged)
            _sync(staged.parent)
            final = self._root / upload.name
            try:
                staged.rename(final / str(version)) if final.exists() else staged.parent.rename(final)
            except OSError as error:  # another process was faster, or there is something else of that name
                raise AlreadyExists(f"model {upload.name!r} has a version {version}", field="start.name") from error
            _sync(final)
            _sync(self._root)
            source = source_in(final / str(version), upload.name, version)
            served = replace(served, card=replace(served.card, version=version, files=fingerprint(source.state())))
            self._repository.adopt(served, source)
            log.info("model %s version %d is imported", upload.name, version)
            return served


def _receive(
    first: AnnouncedFile, parts: Iterable[AnnouncedFile | bytes], folder: Path, room: ModelMemoryLimits
) -> None:
    """Writes the files into the folder. Raises InputError."""
    parts, there, size = iter(parts), set[str](), 0
    announced: AnnouncedFile | None = first
    while announced is not None:
        there.add(announced.name)
        size += announced.size
        announced = _receive_one(announced, parts, folder / announced.name)
        if announced is not None:
            announced.check_beside(there)
            announced.check(room, size)


def _receive_one(announced: AnnouncedFile, parts: Iterator[AnnouncedFile | bytes], path: Path) -> AnnouncedFile | None:
    """Writes one file; the one that is announced after it, if any. Raises InputError."""
    digest, size, following = hashlib.sha256(), 0, None
    with _lasting(path) as file:
        for part in parts:
            if isinstance(part, AnnouncedFile):
                following = part
                break
            size += len(part)
            if size > announced.size:
                raise InputError(f"more than the announced {announced.size} bytes came", field="chunk")
            digest.update(part)
            file.write(part)
        if size < announced.size:
            raise InputError(f"{size} of the announced {announced.size} bytes came", field="chunk")
        if digest.digest() != announced.sha256:
            problem = "what came has another SHA-256 than was announced"
            raise InputError(problem, field=announced.field("sha256"))
    return following


@contextmanager
def _lasting(path: Path) -> Iterator[BinaryIO]:
    """A new file, whose content is on the disk at the end."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _paths(there: list[Source], chosen: list[Source]) -> list[Path]:
    """What has to go: the model's whole folder if no version stays in it."""
    folders = {s.folder for s in there if not s.bare}
    kept = {s.folder for s in there if s not in chosen}
    whole = sorted(folders - kept)
    single = [s.model_file.parent for s in chosen if not s.bare and s.folder in kept]
    bare = [path for s in chosen if s.bare for path in (s.model_file, s.config_file) if path.is_file()]
    return [*whole, *single, *bare]


def _sync(folder: Path) -> None:
    """Makes the folder's entries last: a rename is only as durable as the folder that it happened in."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
