# SPDX-License-Identifier: Apache-2.0
"""`python -m bench compare REV`: compares the engine of another commit with that of this working tree.

Each engine runs in its own process. The processes alternate at every case, so that a machine that slows down slows
both. A figure is the multiple of ONNX Runtime's forward pass, measured in the same process at the same time. Equal code
regularly differs by several percent between two processes because of its memory addresses, so there are several pairs
of processes, and each process counts once. The exit code is 1 if a case is slower than before beyond noise.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

import lstm_explain as lx
from bench.models import GRID

ROOT = Path(__file__).resolve().parent.parent
WORKER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from functools import cache
import lstm_explain
from bench.pair import Pair
from bench.models import GRID, inputs_of
from bench.revisions import METHODS
pair_of = cache(lambda at: Pair(GRID[at]))
print(json.dumps(lstm_explain.__file__), flush=True)
for line in sys.stdin:
    at, T, B, method, seconds = json.loads(line)
    try:
        found = pair_of(at).measure(inputs_of(GRID[at], T, B), METHODS[method], seconds).median
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    print(json.dumps(found), flush=True)
"""
# number in the grid, T, batch
CASES = ((0, 30, 1), (0, 100, 8), (1, 100, 1), (2, 100, 1), (3, 100, 1), (2, 100, 32))
# The default stabiliser is not the same in every commit, so epsilon is named.
METHODS: dict[str, lx.Method] = {
    "lrp all": lx.LRP(epsilon=1e-3),
    "lrp half": lx.LRP("half", epsilon=1e-3),
    "gradient × input": lx.GradientTimesInput(),
}
PAIRS, ROUNDS, SECONDS = 4, 3, 0.12
ALLOWED = 1.08  # slower by less cannot be distinguished from noise


@dataclass
class Case:
    """The multiple of the forward pass in every process of the two commits, or the error."""

    name: str
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def change(self) -> float:
        return statistics.median(self.after) / statistics.median(self.before)

    @property
    def slower(self) -> bool:
        """Whether the case is slower by more than the limit, and in every process slower than in any before.

        With four processes each and equal code, the second condition alone holds once in 70. A case that fails now but
        did not fail before counts as slower.
        """
        if self.errors:
            return "after" in self.errors and "before" not in self.errors
        return self.change > ALLOWED and min(self.after) > max(self.before)


def compare(console: Console, revision: str) -> int:
    of = [(at, T, B, method) for at, T, B in CASES for method in METHODS]
    cases = [Case(f"{GRID[at]}, T {T}, batch {B}, {method}") for at, T, B, method in of]
    with _checked_out(revision) as other:
        for number in range(PAIRS):
            with _worker(other) as before, _worker(ROOT) as after:
                for case, question in zip(cases, of, strict=True):
                    _measure(case, before, after, question)
            console.print(f"[dim]{number + 1} of {PAIRS} pairs of processes[/dim]")
    _tell(console, revision, cases)
    return int(any(case.slower for case in cases))


def _measure(case: Case, before: Ask, after: Ask, question: tuple[int, int, int, str]) -> None:
    sides = [("before", before, case.before), ("after", after, case.after)]
    taken: dict[str, list[float]] = {"before": [], "after": []}
    for number in range(ROUNDS + 1):
        for side, ask, _ in sides if number % 2 else reversed(sides):
            if side in case.errors:
                continue
            answer = ask((*question, SECONDS if number else 0.01))  # the first compiles the kernels
            if isinstance(answer, str):
                case.errors[side] = answer
            elif number:
                taken[side].append(answer)
    for side, _, found in sides:
        if taken[side]:
            found.append(statistics.median(taken[side]))


@contextmanager
def _checked_out(revision: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", other, revision], cwd=ROOT, check=True)
        try:
            yield other
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)


class Ask:
    """Calls a process that measures the engine of one tree; cases, models and timing are those of ROOT."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, question: object) -> float | str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> float | str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the measuring process ended with {self._process.wait()}")
        found: float | str = json.loads(line)
        return found


@contextmanager
def _worker(tree: Path) -> Iterator[Ask]:
    paths = ("server", "client/python", "proto/python")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(tree / path) for path in paths)}
    command = [sys.executable, "-c", WORKER, str(ROOT)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, cwd=tree, stdin=pipe, stdout=pipe, text=True) as process:
        ask = Ask(process)
        loaded = Path(str(ask.answer()))
        assert tree in loaded.parents, f"{loaded} is not of {tree}"
        try:
            yield ask
        finally:
            process.terminate()


def _tell(console: Console, revision: str, cases: list[Case]) -> None:
    table = Table(title=f"multiples of the forward pass: median (least to most) of {PAIRS} processes")
    for column in ("case", revision, "working tree", "change"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for case in cases:
        sides = (("before", case.before), ("after", case.after))
        cells = (case.errors.get(side) or _spread(found) for side, found in sides)
        change = "" if case.errors else f"{case.change:.2f}"
        table.add_row(case.name, *cells, f"[red]{change} slower[/red]" if case.slower else change)
    console.print(table)
    slower = [case.name for case in cases if case.slower]
    verdict = f"slower beyond noise: {'; '.join(slower)}" if slower else "no case is slower beyond noise"
    console.print(f"{verdict} (more than {ALLOWED - 1:.0%}, and every process)")


def _spread(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else "-"
