"""`python -m bench compare REV`: the engine of another commit beside this working tree's, in alternating processes.

Both explain the same few cases as multiples of ONNX Runtime's forward pass; exits with 1 where the working tree is
slower than the other by more than both's spread and a tenth.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
CASE = """
import json, sys
import numpy as np, onnxruntime as ort
import lstm_explain as lx
sys.path.insert(0, sys.argv[1])
from bench.engine import Pair, METHODS
from bench.models import GRID, inputs_of
found = {}
for at, T, B in ((0, 30, 1), (0, 100, 8), (1, 100, 1), (2, 100, 1), (3, 100, 1), (2, 100, 32)):
    pair, x = Pair(GRID[at]), inputs_of(GRID[at], T, B)
    for name in ("lrp all", "lrp half", "gradient × input"):
        ratio = pair.measure(x, METHODS[name], 0.2)
        found[f"{GRID[at]}, T {T}, batch {B}, {name}"] = ratio and ratio.median
print(json.dumps(found))
"""
ALLOWED = 1.1


def compare(console: Console, revision: str, rounds: int = 3) -> int:
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", other, revision], cwd=ROOT, check=True)
        try:
            runs: dict[Path, list[dict[str, float | None]]] = {other: [], ROOT: []}
            for tree in (other, ROOT):
                _run(tree)  # compiles the kernels
            for _ in range(rounds):
                for tree in (other, ROOT):
                    runs[tree].append(_run(tree))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)
    return _report(console, revision, runs[other], runs[ROOT])


def _run(tree: Path) -> dict[str, float | None]:
    environment = {**os.environ, "PYTHONPATH": str(tree / "server")}
    # Cases, models and timing are this tree's for both.
    command = [sys.executable, "-c", CASE, str(ROOT)]
    done = subprocess.run(command, env=environment, cwd=tree, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def _report(
    console: Console, revision: str, before: list[dict[str, float | None]], after: list[dict[str, float | None]]
) -> int:
    table = Table(title=f"multiples of the forward pass, {revision} and the working tree: median (range) of processes")
    for column in ("case", revision, "working tree", "change"):
        table.add_column(column, justify="left" if column == "case" else "right")
    slower = 0
    for case in after[0]:
        old, new = (np.array([r[case] for r in runs if r.get(case)], float) for runs in (before, after))
        if not len(old) or not len(new):
            continue
        change = float(np.median(new) / np.median(old))
        worse = change > ALLOWED and new.min() > old.max()
        slower += worse
        cells = (f"{np.median(a):.2f} ({a.min():.2f} to {a.max():.2f})" for a in (old, new))
        table.add_row(case, *cells, f"{'[red]' if worse else ''}{change:.2f}")
    console.print(table)
    return int(slower > 0)
