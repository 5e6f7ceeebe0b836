# SPDX-License-Identifier: Apache-2.0
"""Runs in a forked process of the trial process: it confines itself, loads and runs one model, and reports the result.

Kernels that no cache holds are compiled when they are first needed. That takes many times as long as the trial and is
not the model's fault, so compilation does not count against the trial's limits of time.
"""

from __future__ import annotations

import json
import math
import os
import resource
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from lstm_explain.serving.prctl import die_with_parent
from lstm_explain.serving.trials.trial_limits import MIB, TrialResult, ended_result, over_memory

# Lines that a fork writes to its parent before the result: compilation begins; it ended after this much processor time.
COMPILES, COMPILED = b"compiles", b"compiled "
MAX_COMPILE_SECONDS = 600  # without a pause
MAX_CPU_SECONDS = 100_000  # the hard limit
MAX_FILE_BYTES = 64 * MIB  # a fork writes compiled kernels to the cache, and nothing else
FIRST_TO_KILL = "1000"  # oom_score_adj
SAMPLE_TEXTS = (
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
    """A version to try: the fields of repository.model_folder.Source, and those of TrialLimits."""

    name: str
    version: int
    model_file: str
    config_file: str
    folder: str
    memory: int
    cpu: float
    wall: float
    slow: float


def run_trial(task: TrialTask, pipe: int, parent: int) -> NoReturn:
    """Tries the model, writes the result to `pipe`, and ends the process. `parent` is the process that forked it."""
    try:
        _die_with(parent)
        _confine(task, pipe)
        _exempt_compilation(task, pipe)
        result = _try_model(task)
        os.write(pipe, json.dumps(asdict(result)).encode() + b"\n")
    finally:
        os._exit(0)


def _die_with(parent: int) -> None:
    """Asks the kernel to kill this process when its parent ends, and ends it if the parent has already ended."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(0)


def _confine(task: TrialTask, pipe: int) -> None:
    """Keeps this process from disturbing or exhausting the others."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, max(pipe + 1, 256))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_KILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    _limit(resource.RLIMIT_CPU, math.ceil(task.cpu), MAX_CPU_SECONDS)
    data = _data_bytes() + task.memory
    _limit(resource.RLIMIT_DATA, data, data)
    os.environ["LSTM_EXPLAIN_MAX_RUNTIME_BYTES"] = str(task.memory)


def _exempt_compilation(task: TrialTask, pipe: int) -> None:
    """Reports when Numba compiles, and extends the limit of processor time by what that takes."""
    from numba.core import event

    class CompileListener(event.Listener):  # type: ignore[misc]
        depth, start, total = 0, 0.0, 0.0

        def on_start(self, event: object) -> None:
            self.depth += 1
            if self.depth == 1:
                self.start = time.process_time()
                os.write(pipe, COMPILES + b"\n")
                _limit(resource.RLIMIT_CPU, math.ceil(self.start + MAX_COMPILE_SECONDS), MAX_CPU_SECONDS)

        def on_end(self, event: object) -> None:
            self.depth -= 1
            if self.depth == 0:
                seconds = time.process_time() - self.start
                self.total += seconds
                os.write(pipe, COMPILED + f"{seconds}\n".encode())
                _limit(resource.RLIMIT_CPU, math.ceil(task.cpu + self.total), MAX_CPU_SECONDS)

    event.register("numba:compile", CompileListener())


def _limit(kind: int, soft: int, hard: int) -> None:
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def _data_bytes() -> int:
    """Returns the bytes of writable memory that this process has mapped, touched or not."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _try_model(task: TrialTask) -> TrialResult:
    from lstm_explain.cancellation import CancelScope, cancel_scope
    from lstm_explain.errors import Error
    from lstm_explain.graph.sandbox import skip_sandbox
    from lstm_explain.repository.model_folder import Source
    from lstm_explain.repository.served_model import load_served, run_once

    source = Source(task.name, task.version, Path(task.model_file), Path(task.config_file), Path(task.folder))
    scope, problem = CancelScope(lambda: None), ""
    try:
        with skip_sandbox(), cancel_scope(scope):
            run_once(load_served(source), SAMPLE_TEXTS)
    except Error as error:
        problem = str(error)
    except MemoryError:
        scope.out_of_memory = True
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except Exception as error:
        problem = f"unexpected {type(error).__name__}: {error}"[:500]
    if scope.out_of_memory:
        return ended_result(over_memory(task.memory))
    return TrialResult(not problem, problem)
