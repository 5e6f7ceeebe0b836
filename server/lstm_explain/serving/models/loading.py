"""How a version comes into memory: tried in another process first, then loaded here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from queue import SimpleQueue

from lstm_explain.cancellation import Cancelled, CancelScope, cancel_scope
from lstm_explain.errors import Error, ModelError
from lstm_explain.graph.sandbox import skip_sandbox
from lstm_explain.repository.model_folder import Source, State
from lstm_explain.repository.served_model import ServedModel, load_served, memory_of
from lstm_explain.serving.errors import Dropped
from lstm_explain.serving.models.snapshot import Entry
from lstm_explain.serving.trials.results import fingerprint
from lstm_explain.serving.trials.trials import Trial, Trials

log = logging.getLogger(__name__)

ATTEMPTS = 3  # while the files change
MOST_HANDS = 16
SECONDS_BETWEEN_LOOKS = 0.02


@dataclass(frozen=True)
class ModelMemoryLimits:
    """model_bytes: the most that one version's files may have. loaded_bytes: the most that all models in memory may
    take, by the estimate of `memory_of`. None: any number.
    """

    model_bytes: int | None = None
    loaded_bytes: int | None = None

    def check(self, size: int) -> None:
        """Raises Error if a model whose files have `size` bytes can never be loaded."""
        if self.model_bytes is not None and size > self.model_bytes:
            raise Error(f"the model has {size} bytes, more than --max-model-bytes allows ({self.model_bytes})")
        if self.loaded_bytes is not None and memory_of(size) > self.loaded_bytes:
            needs = f"about {memory_of(size)} bytes of memory"
            raise Error(f"the model takes {needs}, more than --max-loaded-bytes allows ({self.loaded_bytes})")


@dataclass(eq=False)
class VersionLoading:
    """A version on its way into memory. again: what failed before is tried anew. after: the one that is loaded before
    it, unless that is slow. entry: what became of it.
    """

    source: Source
    state: State
    again: bool = False
    after: VersionLoading | None = None
    done: threading.Event = field(default_factory=threading.Event)
    entry: Entry | None = None
    trial: Trial | None = None
    cancelled: bool = False

    @property
    def slow(self) -> bool:
        """Whether it may take as long as the bounds of its trial allow."""
        return self.trial is not None and self.trial.slow.is_set()

    def wait_for_turn(self) -> None:
        """So that models come into memory, and leave it, in the order of their names. Raises Cancelled."""
        while self.after is not None and not self.after.slow and not self.after.done.wait(SECONDS_BETWEEN_LOOKS):
            self.check()
        self.after = None

    def check(self) -> None:
        """Raises Cancelled if nobody wants it any more."""
        if self.cancelled:
            raise Cancelled(Dropped("the model has gone, or is another one now"))


class Loader:
    """trials: None where models are trusted: they are loaded without. describe: raises Error for a version that callers
    could not be told of; it is not taken in.
    """

    def __init__(
        self,
        room: ModelMemoryLimits,
        trials: Trials | None = None,
        describe: Callable[[ServedModel], object] = lambda _: None,
    ) -> None:
        self.room = room
        self._trials = trials
        self._describe = describe
        self._one = threading.Lock()  # at a time: they take memory, and the interpreter

    def served(
        self,
        source: Source,
        *,
        again: bool = False,
        check: Callable[[], None] = lambda: None,
        begun: Callable[[Trial], None] = lambda _: None,
        before: Callable[[int], None] = lambda _: None,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> ServedModel:
        """The version in memory, of the very files that were tried.

        check, begun: see Trials.verdict. before: called with the size of its files before they are loaded here.
        around: put around that. Raises Error, OSError, and what `check` raises.
        """
        for _ in range(ATTEMPTS):
            size, mark = source.size(), fingerprint(source)
            self.room.check(size)
            if self._trials is not None:
                verdict = self._trials.verdict(source, mark, size, again=again, check=check, begun=begun)
                if not verdict.passed:
                    raise ModelError(verdict.reason)
            before(size)
            with self._one, around():
                served = load_served(source) if self._trials is None else _loaded(source, self._trials, size)
            self._describe(served)
            if fingerprint(source) == mark:
                return served
        raise ModelError("its files change while they are loaded")

    def passed(self, source: Source) -> None:
        """What was tried elsewhere now lies at `source`."""
        if self._trials is not None:
            self._trials.pass_(fingerprint(source))


def _loaded(source: Source, trials: Trials, size: int) -> ServedModel:
    """Of a version that has come through its trial. It is bounded all the same: it may be a matter of chance."""
    seconds = trials.bounds.of_size(size).wall
    end = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > end:
            raise Cancelled(ModelError(f"it was not loaded within {seconds:g} seconds (--trial-seconds)"))

    about = f"loading model {source.name} version {source.version}"
    try:
        with skip_sandbox(), cancel_scope(CancelScope(check, about=lambda: about)):
            return load_served(source)
    except Cancelled as stopped:
        raise stopped.cause from None


class LoaderThreads:
    """Threads for what may take long, started as they are needed. The process does not wait for them when it ends."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = self._busy = 0

    def do(self, work: Callable[[], None]) -> None:
        """Does not wait."""
        with self._lock:
            self._busy += 1
            if self._busy > self._count < MOST_HANDS:
                self._count += 1
                threading.Thread(target=self._run, name="loading", daemon=True).start()
        self._waiting.put(work)

    def _run(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                work()
            except Exception:
                log.exception("loading failed")
            with self._lock:
                self._busy -= 1
