# SPDX-License-Identifier: Apache-2.0
"""The process in which models are tried before a server loads them.

It imports the engine, or begins as a fork of a worker that has, and forks for every model. The fork loads the model as
a server would, explains and predicts made-up inputs, encodes a few texts, and reports the result (forked_trial.py). A
model that crashes, never ends, or asks for too much only ends its own fork. The process itself never reads a model and
starts neither an ONNX Runtime session nor a second thread, which a fork would not survive.

It reads lines of JSON from stdin, {"id": …, the fields of TrialTask} or {"cancel": id}, and writes lines to stdout,
{"id": …, "slow": true} or {"id": …, "result": …}. It ends when stdin ends, or when it has been idle for a while.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, NoReturn

from lstm_explain.serving.prctl import name_process
from lstm_explain.serving.procfs import bytes_without_files, processor_seconds
from lstm_explain.serving.trials.forked_trial import (
    COMPILED,
    COMPILES,
    MAX_COMPILE_SECONDS,
    TrialTask,
    run_trial,
)
from lstm_explain.serving.trials.trial_limits import MIB, TrialResult, ended_result, over_cpu_time, over_memory

PROCESS_NAME = "model-trials"  # as `ps -e` shows it
IDLE_SECONDS = 20.0
POLL_SECONDS = 0.1
MAX_SLOW_TRIALS = 2  # slow trials at a time, in addition to those that are not slow
SLOW_WALL_FACTOR = 5  # multiple of its `slow` seconds after which a trial is slow, since processors are shared
SLOW_NICENESS = 15
MEMORY_TOLERANCE = 64 * MIB  # bytes above the limit; the kernel enforces the limit itself, except for shared memory
PRELOADED = ("lstm_explain.repository.served_model", "numba.core.event", "numpy.ma", "tokenizers")  # every fork uses


@dataclass
class RunningTrial:
    """One fork at work.

    shared: bytes of memory that it shares with this process, without files. buffer: the last line that it wrote, still
    incomplete. report: its result, as JSON. ended_for: why this process ended it. compiling: since when it compiles
    kernels. compile_seconds, compile_cpu: elapsed and processor seconds that compilation has taken.
    """

    number: int
    task: TrialTask
    pid: int
    pipe: int
    shared: int
    start: float = field(default_factory=time.monotonic)
    buffer: bytes = b""
    report: bytes = b""
    slow: bool = False
    ended_for: str = ""
    compiling: float | None = None
    compile_seconds: float = 0.0
    compile_cpu: float = 0.0

    def receive(self, data: bytes) -> None:
        """Reads the lines that the fork writes: when it begins and ends to compile, and its result."""
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        now = time.monotonic()
        for line in lines:
            if line == COMPILES:
                self.compiling = now
            elif line.startswith(COMPILED):
                self.compile_seconds += now - (self.compiling or now)
                self.compile_cpu += float(line.removeprefix(COMPILED))
                self.compiling = None
            else:
                self.report = line

    @property
    def exempt(self) -> bool:
        """Whether it is compiling kernels, which does not count toward its time limit."""
        return self.compiling is not None and time.monotonic() - self.compiling < MAX_COMPILE_SECONDS

    def result(self, status: int) -> TrialResult:
        """Returns the result of a fork that has ended with this wait status."""
        if self.ended_for:
            return ended_result(self.ended_for)
        if self.report:
            return TrialResult(**json.loads(self.report))
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
            return ended_result(over_cpu_time(self.task.cpu))
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return ended_result(f"reading or running it crashed the process ({name})")
        return ended_result(f"the process ended with exit code {os.waitstatus_to_exitcode(status)}")


class TrialProcess:
    """Runs at most `most` trials at a time, in addition to slow ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        self._buffer = b""
        self._waiting: deque[tuple[int, TrialTask]] = deque()
        self._trials: dict[int, RunningTrial] = {}  # by pipe

    def run(self) -> None:
        """Returns when stdin ends or the process has been idle for IDLE_SECONDS."""
        last_busy = time.monotonic()
        while True:
            ready = self._selector.select(POLL_SECONDS if self._trials else IDLE_SECONDS)
            for key, _ in ready:
                if key.fd == 0:
                    if not self._read_tasks():
                        return
                else:
                    self._read_report(self._trials[key.fd])
            if self._trials or self._waiting or ready:
                last_busy = time.monotonic()
            elif time.monotonic() - last_busy >= IDLE_SECONDS:
                return
            self._enforce_limits()
            while self._waiting and sum(not trial.slow for trial in self._trials.values()) < self._most:
                self._begin(*self._waiting.popleft())

    def kill_all(self) -> None:
        for trial in self._trials.values():
            _kill(trial.pid)

    def _read_tasks(self) -> bool:
        """Returns whether more may come."""
        data = os.read(0, 1 << 16)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self._cancel(message["cancel"])
            else:
                self._waiting.append((message.pop("id"), TrialTask(**message)))
        return bool(data)

    def _cancel(self, number: int) -> None:
        self._waiting = deque(item for item in self._waiting if item[0] != number)
        for trial in self._trials.values():
            if trial.number == number:
                self._end(trial, "nobody waits for it any more")

    def _begin(self, number: int, task: TrialTask) -> None:
        reading, writing = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            run_trial(task, writing, parent)
        os.close(writing)
        self._selector.register(reading, selectors.EVENT_READ)
        self._trials[reading] = RunningTrial(number, task, pid, reading, bytes_without_files(os.getpid()))

    def _read_report(self, trial: RunningTrial) -> None:
        data = os.read(trial.pipe, 1 << 16)
        if data:
            trial.receive(data)
            return
        self._selector.unregister(trial.pipe)
        os.close(trial.pipe)
        del self._trials[trial.pipe]
        _kill(trial.pid)  # it has closed its pipe, and may still run
        _, status, _ = os.wait4(trial.pid, 0)
        _send({"id": trial.number, "result": asdict(trial.result(status))})

    def _enforce_limits(self) -> None:
        """Ends trials that exceed a limit, and marks slow ones."""
        now = time.monotonic()
        for trial in list(self._trials.values()):
            task, seconds = trial.task, now - trial.start - trial.compile_seconds
            cpu = processor_seconds(trial.pid) - trial.compile_cpu
            if bytes_without_files(trial.pid) - trial.shared > task.memory + MEMORY_TOLERANCE:
                self._end(trial, over_memory(task.memory))
            elif trial.exempt:
                continue
            elif seconds > task.wall:
                self._end(trial, f"it did not end within {task.wall:g} seconds (--trial-seconds)")
            elif cpu > task.cpu:
                self._end(trial, over_cpu_time(task.cpu))
            elif not trial.slow and (cpu > task.slow or seconds > SLOW_WALL_FACTOR * task.slow):
                self._mark_slow(trial)

    def _mark_slow(self, trial: RunningTrial) -> None:
        trial.slow = True
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, trial.pid, SLOW_NICENESS)
        _send({"id": trial.number, "slow": True})
        slow = sorted((t for t in self._trials.values() if t.slow and not t.ended_for), key=lambda t: t.start)
        for oldest in slow[:-MAX_SLOW_TRIALS]:
            self._end(oldest, f"it went on for {time.monotonic() - oldest.start:.0f} seconds, and others came after it")

    def _end(self, trial: RunningTrial, reason: str) -> None:
        trial.ended_for = trial.ended_for or reason
        _kill(trial.pid)


def _send(message: dict[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


def _kill(pid: int) -> None:
    """Kills a fork and whatever it has started. It stays a zombie, and its id its own, until it is waited for."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def preload() -> None:
    """Imports what every fork uses."""
    for module in PRELOADED:
        with suppress(ImportError):  # tokenizers may be missing
            import_module(module)


def run() -> NoReturn:
    """Tries models until stdin ends, then ends the process, which must have no other thread."""
    from lstm_explain.kernels.background import MODE

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server to handle
    name_process(PROCESS_NAME)
    os.environ[MODE] = "never"  # trials have limits of their own, and whoever serves the model orders what it needs
    preload()
    gc.freeze()  # keeps memory that forks share from being written to
    gc.enable()
    process = TrialProcess(max(1, min(2, len(os.sched_getaffinity(0)))))
    try:
        process.run()
    finally:
        process.kill_all()
        os._exit(0)


def main() -> None:
    from lstm_explain.kernels import cache

    cache.use()
    gc.disable()  # imports leave next to nothing to collect
    run()


if __name__ == "__main__":
    main()
