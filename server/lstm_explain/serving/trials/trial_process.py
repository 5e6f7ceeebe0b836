"""The process in which models are tried before a server takes them in.

It imports the engine once, and forks for every model. The fork loads the model as a server would, explains and predicts
something made up, encodes a few texts, and says how that went; a model that crashes, never ends, or asks for too much
ends nothing but its own fork. Here itself nothing foreign is ever read: no ONNX Runtime session, and no second thread,
which a fork would not survive.

Lines of JSON come in on stdin ({"id": …, the fields of Task} or {"cancel": id}) and go out on stdout ({"id": …, "slow":
true} or {"id": …, "verdict": …}). It leaves when stdin ends, or when nothing has come for a while.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import resource
import selectors
import signal
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from lstm_explain.serving.trials.limits import MIB, TrialResult

IDLE_SECONDS = 20.0
SECONDS_BETWEEN_LOOKS = 0.1
COMPILES, COMPILED = b"compiles", b"compiled "
MOST_COMPILING = 600  # seconds without a pause
MOST_SECONDS = 100_000  # of processor time: the hard limit
MOST_SLOW = 2  # trials that go on for long, beside the others
MOST_WRITTEN = 64 * MIB  # bytes of one file: compiled kernels are kept
SLOW_WALL = 5  # times as many seconds as of processor time: others want the processors, too
NICE = 15  # of a slow trial
BEYOND_MEMORY = 64 * MIB
DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
FIRST_TO_GO = "1000"  # oom_score_adj
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ENGINE = (
    "lstm_explain.repository.served_model",
    "numba.core.event",
    "numpy.ma",
    "tokenizers",
)  # what a fork needs at once
TEXTS = (
    "the film is not bad",
    "It's 12.5% of £3,000; see https://example.org/?q=1 (or not)!",
    "été naïve 北京 🙂 \u0301\u200d",
    "a" * 48 + "!",
    "aA1 " * 64,
    "!?.,;:" * 32,
    " \t" * 32 + ".",
)


@dataclass(frozen=True)
class TrialTask:
    """A version to try: where it lies, as in catalogue.layout.Source, and the bounds of its trial."""

    name: str
    version: int
    model_file: str
    config_file: str
    folder: str
    memory: int
    cpu: float
    wall: float
    slow: float


@dataclass
class RunningTrial:
    """One fork at work. resident: pages that it shares with this process. told: what it has said so far.

    Our own kernels are compiled when they are first needed and nothing is in their cache, which takes many times what a
    trial does and is not the model's fault. compiling: since when it does, if so. spared: seconds that this took
    altogether; spared_cpu: of processor time.
    """

    number: int
    task: TrialTask
    pid: int
    pipe: int
    resident: int
    began: float = field(default_factory=time.monotonic)
    told: bytes = b""
    verdict: bytes = b""
    slow: bool = False
    ended_for: str = ""
    compiling: float | None = None
    spared: float = 0.0
    spared_cpu: float = 0.0

    def hear(self, came: bytes) -> None:
        """What the fork says: that it begins to compile, that it is done after so much processor time, its verdict."""
        *lines, self.told = (self.told + came).split(b"\n")
        now = time.monotonic()
        for line in lines:
            if line == COMPILES:
                self.compiling = now
            elif line.startswith(COMPILED):
                self.spared += now - (self.compiling or now)
                self.spared_cpu += float(line.removeprefix(COMPILED))
                self.compiling = None
            else:
                self.verdict = line

    @property
    def may_compile(self) -> bool:
        """Whether it does, and its time does not count yet."""
        return self.compiling is not None and time.monotonic() - self.compiling < MOST_COMPILING


class TrialProcess:
    """most: trials at a time, beside slow ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        self._coming = b""
        self._waiting: deque[tuple[int, TrialTask]] = deque()
        self._trials: dict[int, RunningTrial] = {}  # by pipe

    def run(self) -> None:
        """Until nothing more comes."""
        last = time.monotonic()
        while True:
            ready = self._selector.select(SECONDS_BETWEEN_LOOKS if self._trials else IDLE_SECONDS)
            for key, _ in ready:
                if key.fd == 0:
                    if not self._read():
                        return
                else:
                    self._hear(self._trials[key.fd])
            if self._trials or self._waiting or ready:
                last = time.monotonic()
            elif time.monotonic() - last >= IDLE_SECONDS:
                return
            self._look()
            while self._waiting and sum(not trial.slow for trial in self._trials.values()) < self._most:
                self._begin(*self._waiting.popleft())

    def end(self) -> None:
        """Leaves nothing behind."""
        for trial in self._trials.values():
            _kill(trial.pid)

    def _read(self) -> bool:
        """Whether more may come."""
        came = os.read(0, 1 << 16)
        *lines, self._coming = (self._coming + came).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "cancel" in said:
                self._cancel(said["cancel"])
            else:
                self._waiting.append((said.pop("id"), TrialTask(**said)))
        return bool(came)

    def _cancel(self, number: int) -> None:
        self._waiting = deque(item for item in self._waiting if item[0] != number)
        for trial in self._trials.values():
            if trial.number == number:
                self._end(trial, "nobody waits for it any more")

    def _begin(self, number: int, task: TrialTask) -> None:
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(task, theirs)
        os.close(theirs)
        self._selector.register(ours, selectors.EVENT_READ)
        self._trials[ours] = RunningTrial(number, task, pid, ours, _resident(os.getpid()))

    def _hear(self, trial: RunningTrial) -> None:
        came = os.read(trial.pipe, 1 << 16)
        if came:
            trial.hear(came)
            return
        self._selector.unregister(trial.pipe)
        os.close(trial.pipe)
        del self._trials[trial.pipe]
        _kill(trial.pid)  # it has nothing more to say
        _, status, _ = os.wait4(trial.pid, 0)
        _say({"id": trial.number, "verdict": asdict(_verdict(trial, status))})

    def _look(self) -> None:
        """Ends what takes too much, and lets slow trials make way."""
        now = time.monotonic()
        for trial in list(self._trials.values()):
            task, seconds = trial.task, now - trial.began - trial.spared
            used = _processor_seconds(trial.pid) - trial.spared_cpu
            if (_resident(trial.pid) - trial.resident) * PAGE > task.memory + BEYOND_MEMORY:
                self._end(trial, too_much_memory(task.memory))
            elif trial.may_compile:
                continue
            elif seconds > task.wall:
                self._end(trial, f"it did not end within {task.wall:g} seconds (--trial-seconds)")
            elif used > task.cpu:
                self._end(trial, _too_much_time(task))
            elif not trial.slow and (used > task.slow or seconds > SLOW_WALL * task.slow):
                self._slow(trial)

    def _slow(self, trial: RunningTrial) -> None:
        trial.slow = True
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, trial.pid, NICE)
        _say({"id": trial.number, "slow": True})
        slow = sorted((t for t in self._trials.values() if t.slow and not t.ended_for), key=lambda t: t.began)
        for oldest in slow[:-MOST_SLOW]:
            self._end(oldest, f"it went on for {time.monotonic() - oldest.began:.0f} seconds, and others came after it")

    def _end(self, trial: RunningTrial, why: str) -> None:
        trial.ended_for = trial.ended_for or why
        _kill(trial.pid)


def _verdict(trial: RunningTrial, status: int) -> TrialResult:
    task = trial.task
    if trial.ended_for:
        why = trial.ended_for
    elif trial.verdict:
        return TrialResult(**json.loads(trial.verdict))
    elif os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        why = _too_much_time(task)
    elif os.WIFSIGNALED(status):
        why = f"reading or running it crashed the process ({signal.Signals(os.WTERMSIG(status)).name})"
    else:
        why = f"the process ended with exit code {os.waitstatus_to_exitcode(status)}"
    return TrialResult(False, f"the trial of the model was ended: {why}", True)


def too_much_memory(most: int) -> str:
    return f"it took more than {most // MIB} MiB of memory (--trial-memory)"


def _too_much_time(task: TrialTask) -> str:
    return f"it took more than {task.cpu:g} seconds of processor time (--trial-cpu-seconds)"


def _say(what: dict[str, Any]) -> None:
    line = json.dumps(what).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


def _kill(pid: int) -> None:
    """With whatever it has started. It stays a zombie, and its number its own, until it is waited for."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _resident(pid: int) -> int:
    """Pages; 0 if it has just ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0


def _processor_seconds(pid: int) -> float:
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(numbers[11]) + int(numbers[12])) / TICKS


# --- the fork --------------------------------------------------------------------------------------------------------


def _child(task: TrialTask, pipe: int) -> NoReturn:
    """Tries the model, says how that went, and ends."""
    try:
        _confine(task, pipe)
        _spare_compiling(task, pipe)
        verdict = _attempt(task)
        os.write(pipe, json.dumps(asdict(verdict)).encode() + b"\n")
    finally:
        os._exit(0)


def _confine(task: TrialTask, pipe: int) -> None:
    """Nothing of this process may outlive, disturb or exhaust the others."""
    os.setsid()
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, max(pipe + 1, 256))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_WRITTEN, MOST_WRITTEN))
    _limit(resource.RLIMIT_CPU, math.ceil(task.cpu), MOST_SECONDS)
    data = _own_data() + task.memory
    _limit(resource.RLIMIT_DATA, data, data)
    os.environ["LSTM_EXPLAIN_MAX_RUNTIME_BYTES"] = str(task.memory)


def _spare_compiling(task: TrialTask, pipe: int) -> None:
    """Processor time that Numba takes does not count."""
    from numba.core import event

    class Compiling(event.Listener):  # type: ignore[misc]
        depth, began, spared = 0, 0.0, 0.0

        def on_start(self, event: object) -> None:
            self.depth += 1
            if self.depth == 1:
                self.began = time.process_time()
                os.write(pipe, COMPILES + b"\n")
                _limit(resource.RLIMIT_CPU, math.ceil(self.began + MOST_COMPILING), MOST_SECONDS)

        def on_end(self, event: object) -> None:
            self.depth -= 1
            if self.depth == 0:
                took = time.process_time() - self.began
                self.spared += took
                os.write(pipe, COMPILED + f"{took}\n".encode())
                _limit(resource.RLIMIT_CPU, math.ceil(task.cpu + self.spared), MOST_SECONDS)

    event.register("numba:compile", Compiling())


def _limit(kind: int, soft: int, hard: int) -> None:
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def _own_data() -> int:
    """Bytes of writable memory that the process has, touched or not."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _attempt(task: TrialTask) -> TrialResult:
    from lstm_explain.cancellation import CancelScope, cancel_scope
    from lstm_explain.errors import Error
    from lstm_explain.graph.sandbox import skip_sandbox
    from lstm_explain.repository.model_folder import Source
    from lstm_explain.repository.served_model import load_served, run_once

    source = Source(task.name, task.version, Path(task.model_file), Path(task.config_file), Path(task.folder))
    watch, problem = CancelScope(lambda: None), ""
    try:
        with skip_sandbox(), cancel_scope(watch):
            run_once(load_served(source), TEXTS)
    except Error as error:
        problem = str(error)
    except MemoryError:
        watch.out_of_memory = True
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except Exception as error:
        problem = f"unexpected {type(error).__name__}: {error}"[:500]
    if watch.out_of_memory:
        return TrialResult(False, f"the trial of the model was ended: {too_much_memory(task.memory)}", True)
    return TrialResult(not problem, problem)


def main() -> None:
    from lstm_explain.kernels import cache

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to hear
    cache.use()
    for module in ENGINE:
        with suppress(ImportError):  # tokenizers may be missing
            import_module(module)
    gc.collect()
    gc.freeze()  # what forks share stays shared
    trying = TrialProcess(max(1, min(2, len(os.sched_getaffinity(0)))))
    try:
        trying.run()
    finally:
        trying.end()
        os._exit(0)


if __name__ == "__main__":
    main()
