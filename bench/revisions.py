"""`python -m bench compare REV`: the engine of another commit beside this working tree's.

Each has a process of its own that stays; they take turns at every case, so that a machine that slows down slows both.
A figure is the multiple of ONNX Runtime's forward pass, measured in the same process in the same moment. Exits with 1
where a case is slower than before beyond noise.
"""

from __future__ import annotations

import json
import math
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

ROOT = Path(__file__).resolve().parent.parent
WORKER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from functools import cache
import lstm_explain
from bench.engine import METHODS, Pair
from bench.models import GRID, inputs_of
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
METHODS = ("lrp all", "lrp half", "gradient × input")
ROUNDS, SECONDS = 9, 0.2
# Slower by less than this is not told from noise: equal code, loaded elsewhere in memory, differs by as much.
ALLOWED = 1.05
CHANCE = 0.02


@dataclass
class Case:
    """The multiples of the forward pass, round by round, of before and after; or what went wrong."""

    name: str
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def change(self) -> float:
        return statistics.median(after / before for before, after in zip(self.before, self.after, strict=True))

    @property
    def slower(self) -> bool:
        """By more than is allowed, and in all rounds but one at most: by chance one equal case in fifty.

        A case that answered before and does not now counts as slower.
        """
        if self.errors:
            return "after" in self.errors and "before" not in self.errors
        worse = sum(after > before for before, after in zip(self.before, self.after, strict=True))
        return self.change > ALLOWED and by_chance(worse, len(self.before)) < CHANCE


def by_chance(worse: int, rounds: int) -> float:
    """How likely at least so many of the rounds are worse where both are equal (the sign test)."""
    return sum(math.comb(rounds, k) for k in range(worse, rounds + 1)) / 2.0**rounds


def compare(console: Console, revision: str) -> int:
    with _checked_out(revision) as other, _worker(other) as before, _worker(ROOT) as after:
        cases = []
        for at, T, B in CASES:
            for method in METHODS:
                cases.append(_measure(before, after, (at, T, B, method)))
                console.print(f"[dim]{cases[-1].name}[/dim]")
    _tell(console, revision, cases)
    return int(any(case.slower for case in cases))


def _measure(before: Ask, after: Ask, of: tuple[int, int, int, str]) -> Case:
    from bench.models import GRID

    at, T, B, method = of
    case = Case(f"{GRID[at]}, T {T}, batch {B}, {method}")
    sides = [("before", before, case.before), ("after", after, case.after)]
    for ask in (before, after):
        ask((*of, 0.01))  # compiles the kernels
    for number in range(ROUNDS):
        for side, ask, found in sides if number % 2 else reversed(sides):
            answer = ask((*of, SECONDS))
            if isinstance(answer, str):
                case.errors[side] = answer
            else:
                found.append(answer)
        if case.errors:
            break
    return case


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
    """Questions to a process that measures with the engine of one tree; cases, models and timing are ROOT's."""

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
    table = Table(
        title=f"multiples of the forward pass, {revision} and the working tree: median (least to most) of {ROUNDS}"
    )
    for column in ("case", revision, "working tree", "change"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for case in cases:
        sides = (("before", case.before), ("after", case.after))
        cells = (case.errors.get(side) or _spread(found) for side, found in sides)
        change = "" if case.errors else f"{case.change:.2f}"
        table.add_row(case.name, *cells, f"[red]{change} slower[/red]" if case.slower else change)
    console.print(table)
    slower = [case.name for case in cases if case.slower]
    told = f"slower beyond noise: {'; '.join(slower)}" if slower else "no case is slower beyond noise"
    console.print(f"{told} (more than {ALLOWED - 1:.0%}, and in nearly every round)")


def _spread(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else "-"
