# SPDX-License-Identifier: Apache-2.0
"""Loads versions into the table of models in background threads, so that a slow one holds up no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue

from lstm_explain.cancellation import Cancelled
from lstm_explain.errors import Error
from lstm_explain.repository.model_folder import Source, State, Tag, fingerprint
from lstm_explain.repository.served_model import ServedModel, memory_of
from lstm_explain.serving.errors import Dropped
from lstm_explain.serving.models.loader import Loader
from lstm_explain.serving.models.model_table import ModelTable
from lstm_explain.serving.models.snapshot import Entry, Failed, InTrial, Key, Ready
from lstm_explain.serving.shared_board import SharedBoard
from lstm_explain.serving.trials.trial_runner import Trial

log = logging.getLogger(__name__)

MAX_THREADS = 16
POLL_SECONDS = 0.02


@dataclass(eq=False)
class VersionLoad:
    """A version that is being loaded.

    state: the state of its files at the beginning. again: whether to retry a version that failed before. after: the
    load that must end before this one, unless it is slow. entry: the result. done: set when `entry` is final.
    """

    source: Source
    state: State
    again: bool = False
    after: VersionLoad | None = None
    done: threading.Event = field(default_factory=threading.Event)
    entry: Entry | None = None
    trial: Trial | None = None
    cancelled: bool = False

    @property
    def slow(self) -> bool:
        """Whether it may take as long as the limits of its trial allow."""
        return self.trial is not None and self.trial.slow.is_set()

    def wait_for_turn(self) -> None:
        """Makes models enter memory, and be evicted, in the order of their names. Raises Cancelled."""
        while self.after is not None and not self.after.slow and not self.after.done.wait(POLL_SECONDS):
            self.check()
        self.after = None

    def check(self) -> None:
        """Raises Cancelled if the load was cancelled."""
        if self.cancelled:
            raise Cancelled(Dropped("the model has gone, or its files have changed"))


class VersionLoads:
    """Loads versions of the models in the folder `root`. board: where a load is marked while it runs."""

    def __init__(self, root: Path, table: ModelTable, loader: Loader, board: SharedBoard) -> None:
        self._root = root
        self._table = table
        self._loader = loader
        self._board = board
        self._running: dict[Key, VersionLoad] = {}
        self._states: dict[Key, State] = {}  # of the files at the last load of each version, even a failed one
        self._threads = _DaemonThreads()

    def begin(
        self, source: Source, state: State, after: VersionLoad | None = None, *, again: bool = False
    ) -> VersionLoad:
        """Begins to load a version, or joins the load of the same files that is running."""
        running = self._running.get(source.key)
        if running is not None and running.state == state:
            return running
        self.cancel(source.key)
        load = self._running[source.key] = VersionLoad(source, state, again, after)
        self._threads.run(lambda: self._run(load))
        return load

    def cancel(self, key: Key) -> None:
        """Cancels the load of a version, if there is one."""
        load = self._running.pop(key, None)
        if load is not None:
            load.cancelled = True
            if isinstance(self._table.snapshot.get(key), InTrial):
                self._table.change({key: None})

    def running(self, name: str) -> list[VersionLoad]:
        """Returns the loads of a model's versions."""
        with self._table.lock:
            return [load for key, load in self._running.items() if key[0] == name]

    def wait(self, loads: Iterable[VersionLoad]) -> None:
        """Waits until each load is done, or is slow while another model can be served."""
        for load in loads:
            while not load.done.wait(POLL_SECONDS):
                if load.slow and any(isinstance(entry, Ready) for entry in self._table.snapshot):
                    break

    def is_up_to_date(self, key: Key, state: State) -> bool:
        """Returns whether the last load of the version, now over, was of files in this state."""
        return key not in self._running and self._states.get(key) == state

    def record(self, key: Key, state: State) -> None:
        """Records that files in this state need not be loaded."""
        self._states[key] = state

    def forget(self, keys: Iterable[Key]) -> None:
        """Cancels the loads of these versions and forgets which of their files were loaded."""
        for key in keys:
            self._states.pop(key, None)
            self.cancel(key)

    def forget_model(self, name: str) -> None:
        """The same for all versions of a model."""
        self.forget([key for key in {*self._states, *self._running} if key[0] == name])

    def _run(self, load: VersionLoad) -> None:
        source = load.source
        try:
            entry = self._load(load)
            with self._table.lock:
                if self._running.get(source.key) is load:
                    del self._running[source.key]
                    if source.model_file.is_file():  # otherwise the next scan finds that it has gone
                        self._states[source.key] = load.state
                        load.entry = self._enter(source, entry)
        except Cancelled:
            log.info("loading model %s version %d was cancelled", source.name, source.version)
        finally:
            load.done.set()

    def _enter(self, source: Source, entry: ServedModel | Failed) -> Entry:
        """Puts the result of a load into the table. A version that cannot be loaded again stays as it was."""
        known, result = self._table.snapshot.get(source.key), entry
        if isinstance(entry, ServedModel):
            self._table.make_room(entry.card.memory, source.key)
            self._table.touch(entry)
            log.info("model %s version %d is ready", source.name, source.version)
        elif isinstance(known, ServedModel):
            log.error("model %s version %d stays as it was", source.name, source.version)
            result = replace(known, card=replace(known.card, problem=entry.reason))
        self._table.change({source.key: result})
        return result

    def _load(self, load: VersionLoad) -> ServedModel | Failed:
        """Raises Cancelled."""
        source = load.source

        def on_trial(trial: Trial) -> None:
            load.trial = trial

        def check() -> None:
            load.check()
            if load.slow:
                self._show_in_trial(load)

        @contextmanager
        def marked() -> Iterator[None]:
            place = self._board.begin(Tag(*source.key, fingerprint(source.state())).encoded())
            try:
                yield
            finally:
                self._board.end(place)

        def make_room(size: int) -> None:
            load.wait_for_turn()
            with self._table.lock:
                self._table.make_room(memory_of(size), source.key)

        try:
            return self._loader.load(
                source,
                again=load.again,
                check=check,
                on_trial=on_trial,
                before_load=make_room,
                around_load=marked,
            )
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        except Error as error:
            reason = without_root(str(error), self._root)
        except Exception as error:  # one model must not keep the others from being served
            log.exception("model %s version %d failed to load", source.name, source.version)
            reason = f"unexpected {type(error).__name__}; the server's log has more"
        log.error("model %s version %d failed to load: %s", source.name, source.version, reason)
        return Failed(source.name, source.version, reason)

    def _show_in_trial(self, load: VersionLoad) -> None:
        """Lists a version whose trial is slow, unless an entry for it is there."""
        key = load.source.key
        with self._table.lock:
            if self._running.get(key) is load and self._table.snapshot.get(key) is None:
                log.warning("the trial of model %s version %d takes long", *key)
                self._table.change({key: InTrial(*key)})


class _DaemonThreads:
    """Up to MAX_THREADS threads, started as they are needed. The process does not wait for them when it ends."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = self._busy = 0

    def run(self, work: Callable[[], None]) -> None:
        """Runs the work in a thread, without waiting for it."""
        with self._lock:
            self._busy += 1
            if self._busy > self._count < MAX_THREADS:
                self._count += 1
                threading.Thread(target=self._loop, name="loading", daemon=True).start()
        self._waiting.put(work)

    def _loop(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                work()
            except Exception:
                log.exception("loading failed")
            with self._lock:
                self._busy -= 1


def without_root(text: str, root: Path) -> str:
    """Returns the text without the path of the folder of models, so that callers learn nothing about the host's
    folders.
    """
    for folder in (root.resolve(), root.absolute(), root):
        text = text.replace(f"{folder}/", "")
    return text
