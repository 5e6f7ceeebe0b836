"""Tries models in another process (trial_process.py) before this one takes them in."""

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
from dataclasses import asdict
from pathlib import Path

from lstm_explain.repository.model_folder import Source, find_sources
from lstm_explain.serving.trials.limits import TrialLimits, TrialResult
from lstm_explain.serving.trials.results import TrialResults

log = logging.getLogger(__name__)

SECONDS_BETWEEN_CHECKS = 0.1
ATTEMPTS = 2  # of one trial: the process may have been leaving, or may have been ended for another model
ENDED = "the process in which it was tried has ended twice"
ONE_THREAD = ("LSTM_EXPLAIN_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Process = subprocess.Popen[bytes]
_early: list[Process] = []


def begin_early(models: Path, verdicts: Path | None) -> None:
    """Starts the process while this one is still busy importing: then both are ready at about the same time.

    Not where there is nothing to try, or another process of the server has tried it.
    """
    with suppress(OSError):
        if find_sources(models) and not (verdicts is not None and verdicts.exists()):
            _early.append(_started())


class Trial:
    """One model on trial. slow: it goes on for long, and may end by its bounds only. settled: `verdict` is there."""

    def __init__(self, task: dict[str, object]) -> None:
        self.task = task
        self.attempts = 0
        self.slow = threading.Event()
        self.settled = threading.Event()
        self.verdict = TrialResult(False, ENDED, of_trial=True)

    def settle(self, verdict: TrialResult) -> None:
        self.verdict = verdict
        self.settled.set()


class Trials:
    """Safe to call from several threads. The other process is started when it is needed, and leaves when it is not."""

    def __init__(self, bounds: TrialLimits, verdicts: TrialResults | None = None) -> None:
        self.bounds = bounds
        self.verdicts = verdicts or TrialResults()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._process: Process | None = None
        self._open: dict[int, Trial] = {}

    def verdict(
        self,
        source: Source,
        mark: str,
        size: int,
        *,
        again: bool = False,
        check: Callable[[], None] = lambda: None,
        begun: Callable[[Trial], None] = lambda _: None,
    ) -> TrialResult:
        """Whether the model may be taken in: as known from these very files, or else by a trial.

        mark: the source's fingerprint. again: a verdict against it does not count, what failed is to be tried anew.
        check: called while it is tried; what it raises ends the trial. begun: is given the trial, if there is one.
        """
        known = self.verdicts.get(mark)
        if known is not None and (known.passed or not again):
            return known
        trial = Trial(
            {
                "name": source.name,
                "version": source.version,
                "model_file": str(source.model_file.absolute()),
                "config_file": str(source.config_file.absolute()),
                "folder": str(source.folder.absolute()),
                **asdict(self.bounds.of_size(size)),
            }
        )
        begun(trial)
        number = next(self._numbers)
        self._send(number, trial)
        try:
            while not trial.settled.wait(SECONDS_BETWEEN_CHECKS):
                check()
        except BaseException:
            self._cancel(number)
            raise
        if trial.verdict.reason != ENDED:  # which is not known to be this model's fault
            self.verdicts.put(mark, trial.verdict)
        return trial.verdict

    def pass_(self, mark: str) -> None:
        """These files are those of a model that has passed, in another place."""
        self.verdicts.put(mark, TrialResult(True))

    def _send(self, number: int, trial: Trial) -> None:
        with self._lock:
            trial.attempts += 1
            if trial.attempts > ATTEMPTS:
                trial.settle(trial.verdict)
                return
            self._open[number] = trial
            line = json.dumps({"id": number, **trial.task}).encode() + b"\n"
            if self._process is None or not _give(self._process, line):
                self._process = self._start()
                _give(self._process, line)

    def _cancel(self, number: int) -> None:
        with self._lock:
            self._open.pop(number, None)
            if self._process is not None:
                _give(self._process, json.dumps({"cancel": number}).encode() + b"\n")

    def _start(self) -> Process:
        process = _early.pop() if _early else _started()
        threading.Thread(target=self._listen, args=(process,), name="trials", daemon=True).start()
        return process

    def _listen(self, process: Process) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            with self._lock:
                trial = self._open.get(said["id"]) if "slow" in said else self._open.pop(said["id"], None)
            if trial is None:
                continue
            if "slow" in said:
                trial.slow.set()
            else:
                trial.settle(TrialResult(**said["verdict"]))
        process.wait()
        with self._lock:
            left = {}
            if self._process is process:
                self._process = None
                left, self._open = self._open, {}
        for number, trial in left.items():
            self._send(number, trial)


def _started() -> Process:
    """Ends when its stdin does, and that with this process, however it ends."""
    environment = os.environ | dict.fromkeys(ONE_THREAD, "1") | {"TOKENIZERS_PARALLELISM": "false"}
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


def _give(process: Process, line: bytes) -> bool:
    """False: nobody takes it any more."""
    assert process.stdin is not None
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[process.stdin.write(rest) :]
    except OSError:
        return False
    return True
