# SPDX-License-Identifier: Apache-2.0
"""Runs the worker, replaces it when it dies or hangs, and collects its output."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_MEMORY = 6 << 30  # of addresses: compilers and thread stacks reserve much more than they use
MOST_OF_RUNTIME = 1 << 30  # what ONNX Runtime may allocate


@dataclass
class Findings:
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)  # memory after each case
    peak: int = 0


def try_all(numbers: Iterable[int], seconds: float = 60.0, family: str = "damaged", processor: int = 60) -> Findings:
    """seconds: the time limit of one case; the first one of a worker has more, because kernels are compiled.

    processor: seconds of the processor after which the worker is ended. A loop without end is bounded by that, as it
    is by the process that tries models for the service; it is no failure.
    """
    found, waiting = Findings(), list(numbers)[::-1]
    while waiting:
        _one_worker(waiting, found, seconds, family, processor)
    return found


def _one_worker(waiting: list[int], found: Findings, seconds: float, family: str, processor: int) -> None:
    """Runs until no case is left, or until the worker is lost."""
    command = [sys.executable, "-m", "tests.fuzzing.worker", str(MOST_MEMORY), str(processor), family]
    environment = os.environ | {"LSTM_EXPLAIN_MAX_RUNTIME_BYTES": str(MOST_OF_RUNTIME)}
    worker = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stdin
    assert worker.stdout
    assert worker.stderr
    answers: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_forward, args=(worker.stdout, answers), daemon=True).start()
    reported: list[str] = []
    threading.Thread(target=_keep_last, args=(worker.stderr, reported), daemon=True).start()
    allowed = seconds + 120.0
    try:
        while waiting:
            number = waiting.pop()
            try:
                worker.stdin.write(f"{number}\n")
                worker.stdin.flush()
                answer = answers.get(timeout=allowed)
            except queue.Empty:
                found.failures[number] = f"HANG: no answer in {allowed:g} s"
                return
            except BrokenPipeError:
                answer = ""
            if not answer:
                code = worker.wait(30)
                if code == -signal.SIGXCPU:
                    found.outcomes["bounded: time"] += 1
                else:
                    found.failures[number] = f"CRASH: exit code {code}: {' '.join(reported[-3:])}"
                return
            _note(found, answer)
            allowed = seconds
    finally:
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stdout, worker.stderr):
            pipe.close()


def _note(found: Findings, answer: str) -> None:
    number, held, peak, outcome = answer.rstrip("\n").split("\t", 3)
    found.held.append(int(held))
    found.peak = max(found.peak, int(peak))
    if outcome.startswith("BUG"):
        found.failures[int(number)] = outcome
    else:
        found.outcomes[outcome] += 1


def _forward(stream: Iterable[str], answers: queue.Queue[str]) -> None:
    try:
        for line in stream:
            answers.put(line)
    except ValueError:  # closed: the worker was killed
        return
    answers.put("")


def _keep_last(stream: Iterable[str], lines: list[str]) -> None:
    try:
        for line in stream:
            lines.append(line.strip())
            del lines[:-20]
    except ValueError:
        return
