# SPDX-License-Identifier: Apache-2.0
"""Lets the trial process (trial_process.py) try models, and caches the results."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NoReturn, Protocol

from lstm_explain.repository.model_folder import Source, find_sources
from lstm_explain.serving.trials.results import TrialResults
from lstm_explain.serving.trials.trial_limits import TrialLimits, TrialResult

log = logging.getLogger(__name__)

SECONDS_BETWEEN_CHECKS = 0.1
MAX_ATTEMPTS = 2  # at one trial: the process may have been about to end, or may have been killed for another model
PROCESS_ENDED = "the process in which it was tried has ended twice"
THREAD_VARIABLES = ("LSTM_EXPLAIN_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
VARIABLES = dict.fromkeys(THREAD_VARIABLES, "1") | {"TOKENIZERS_PARALLELISM": "false"}

_started_early: list[Process] = []


class Process(Protocol):
    """The trial process."""

    @property
    def pid(self) -> int: ...
    @property
    def stdin(self) -> IO[bytes] | None: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    def wait(self) -> int: ...


@dataclass(frozen=True)
class ForkedProcess:
    """The trial process as a fork of this one."""

    pid: int
    stdin: IO[bytes]
    stdout: IO[bytes]

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def start_early(models: Path, results: Path | None) -> None:
    """Starts the trial process before this process needs it. Call this before any other thread starts.

    Imports the engine and forks, so that the trial process need not import it again. Starts a new process instead, at
    once, where this process computes with several threads, which a fork would lack.

    Does nothing where there is no model to try, or where another process of the server has tried them already.
    """
    with suppress(OSError):
        if find_sources(models) and not (results is not None and results.exists()):
            one_thread = os.environ.get("LSTM_EXPLAIN_THREADS") == "1"
            _started_early.append((_fork_process() if one_thread else None) or _start_process())


class Trial:
    """One model on trial.

    slow: set when the trial goes on for long and may only end at its limits. done: set when `result` is final.
    """

    def __init__(self, task: dict[str, object]) -> None:
        self.task = task
        self.attempts = 0
        self.slow = threading.Event()
        self.done = threading.Event()
        self.result = TrialResult(False, PROCESS_ENDED, ended=True)

    def finish(self, result: TrialResult) -> None:
        self.result = result
        self.done.set()


class TrialRunner:
    """Thread-safe. The trial process is started when it is needed, and ends by itself when it is idle."""

    def __init__(self, limits: TrialLimits, results: TrialResults | None = None) -> None:
        self.limits = limits
        self.results = results or TrialResults()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._process: Process | None = None
        self._open: dict[int, Trial] = {}

    def result(
        self,
        source: Source,
        fingerprint: str,
        size: int,
        *,
        again: bool = False,
        check: Callable[[], None] = lambda: None,
        on_begin: Callable[[Trial], None] = lambda _: None,
    ) -> TrialResult:
        """Returns the known result for exactly these files, or else that of a new trial.

        fingerprint, size: of the source's files. again: whether to retry a model that failed before. check: called
        during the trial; what it raises cancels the trial. on_begin: called with the trial, if there is one.
        """
        known = self.results.get(fingerprint)
        if known is not None and (known.passed or not again):
            return known
        trial = Trial(
            {
                "name": source.name,
                "version": source.version,
                "model_file": str(source.model_file.absolute()),
                "config_file": str(source.config_file.absolute()),
                "folder": str(source.folder.absolute()),
                **asdict(self.limits.for_size(size)),
            }
        )
        on_begin(trial)
        number = next(self._numbers)
        self._submit(number, trial)
        try:
            while not trial.done.wait(SECONDS_BETWEEN_CHECKS):
                check()
        except BaseException:
            self._cancel(number)
            raise
        if trial.result.reason != PROCESS_ENDED:  # this model need not have caused that
            self.results.put(fingerprint, trial.result)
        return trial.result

    def record_pass(self, fingerprint: str) -> None:
        """Records that these files are a copy of files that have passed."""
        self.results.put(fingerprint, TrialResult(True))

    def _submit(self, number: int, trial: Trial) -> None:
        with self._lock:
            trial.attempts += 1
            if trial.attempts > MAX_ATTEMPTS:
                trial.finish(trial.result)
                return
            self._open[number] = trial
            line = json.dumps({"id": number, **trial.task}).encode() + b"\n"
            if self._process is None or not _write(self._process, line):
                self._process = self._start()
                _write(self._process, line)

    def _cancel(self, number: int) -> None:
        with self._lock:
            self._open.pop(number, None)
            if self._process is not None:
                _write(self._process, json.dumps({"cancel": number}).encode() + b"\n")

    def _start(self) -> Process:
        process = _started_early.pop() if _started_early else _start_process()
        threading.Thread(target=self._read_results, args=(process,), name="trials", daemon=True).start()
        return process

    def _read_results(self, process: Process) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            with self._lock:
                trial = self._open.get(message["id"]) if "slow" in message else self._open.pop(message["id"], None)
            if trial is None:
                continue
            if "slow" in message:
                trial.slow.set()
            else:
                trial.finish(TrialResult(**message["result"]))
        process.wait()
        with self._lock:
            unfinished = {}
            if self._process is process:
                self._process = None
                unfinished, self._open = self._open, {}
        for number, trial in unfinished.items():
            self._submit(number, trial)


def _fork_process() -> ForkedProcess | None:
    """Imports the engine and forks; returns None where a fork would be unsafe, as this process has other threads."""
    from lstm_explain.serving.trials import trial_process

    trial_process.preload()
    try:
        alone = len(os.listdir("/proc/self/task")) == 1
    except OSError:  # not Linux
        alone = False
    if not alone:
        return None
    (their_stdin, stdin), (stdout, their_stdout) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_trial_process(their_stdin, their_stdout)
    os.close(their_stdin)
    os.close(their_stdout)
    return ForkedProcess(pid, open(stdin, "wb", buffering=0), open(stdout, "rb", buffering=0))


def _become_trial_process(stdin: int, stdout: int) -> NoReturn:
    """Tries models in this fork, which keeps nothing open that a process of its own would not have."""
    from lstm_explain.serving.trials import trial_process

    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard, file in enumerate((stdin, stdout, null)):
            os.dup2(file, standard)
        for file in sorted(map(int, os.listdir("/proc/self/fd")))[3:]:
            with suppress(OSError):  # of the list itself
                os.close(file)
        os.environ |= VARIABLES
        trial_process.run()
    finally:
        os._exit(1)


def _start_process() -> Process:
    """Starts the trial process. It ends when its stdin does, and so with this process, however this one ends."""
    environment = os.environ | VARIABLES
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-P", "-m", "lstm_explain.serving.trials.trial_process"]
    return subprocess.Popen(
        command,
        bufsize=0,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _write(process: Process, line: bytes) -> bool:
    """Writes to the process's stdin; False if it no longer reads."""
    assert process.stdin is not None
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[process.stdin.write(rest) :]
    except OSError:
        return False
    return True
