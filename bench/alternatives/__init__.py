"""The way back: our kernel beside the same pass as an ONNX graph, and in C++ and Cython where built.

`scripts/alternatives_environment.sh DIR` builds them; `--rivals DIR` measures them. One thread, batch 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench.alternatives import graph, rivals
from bench.alternatives.way import NotHereError, Way
from bench.engine import Pair, told
from bench.models import GRID, Shape, inputs_of
from bench.timing import compare

OURS = "our kernel (Numba)"
WAYS: dict[str, Callable[[Way, Path | None], rivals.Call]] = {
    "an ONNX graph": lambda way, _: graph.call(way),
    "an operator for ONNX Runtime, in C++": rivals.operator,
    "C++ through nanobind": lambda way, folder: rivals.module("with_nanobind", way, folder),
    "· compiled for every x86-64": lambda way, folder: rivals.module("every/with_nanobind", way, folder),
    "Cython": lambda way, folder: rivals.module("with_cython", way, folder),
    OURS: lambda way, _: rivals.ours(way),
}


@dataclass(frozen=True)
class Case:
    """Without steps it is the call that is measured, with all its arguments."""

    shape: Shape
    T: int
    rule: str = "all"
    steps: bool = True

    def __str__(self) -> str:
        return f"LRP-{self.rule}, {self.shape}, T = {self.T}{'' if self.steps else ', the call alone'}"


CASES = [
    Case(GRID[0], 30, steps=False),
    Case(GRID[0], 30),
    *(Case(GRID[number], 100, rule) for rule in ("all", "half") for number in (0, 2, 3)),
]


def measure(case: Case, folder: Path | None, seconds: float) -> dict[str, Any]:
    """As multiples of the forward pass. Who answers something else is not measured; who fails says so, others go on."""
    pair, x = Pair(case.shape), inputs_of(case.shape, case.T, 1)
    way, cells = Way.of(pair, x, case.rule, steps=case.steps), {}
    wanted = rivals.ours(way)().copy()
    for name, make in WAYS.items():
        try:
            call = make(way, folder)
            if case.steps:
                np.testing.assert_allclose(call(), wanted, atol=1e-4 * np.abs(wanted).max())
            cells[name] = asdict(compare(call, lambda: pair.session.run(None, {"x": x}), seconds))
        except NotHereError as reason:
            cells[name] = {"missing": str(reason)}
        except Exception as error:  # whatever it is: the others go on, and the cell says it
            cells[name] = {"error": f"{type(error).__name__}: {error}"}
    return cells


def run(console: Console, *, folder: Path | None, seconds: float) -> dict[str, Any]:
    """A row a case, and what the rivals were compiled with."""
    rows, compiled = [], (folder / "versions").read_text().strip() if folder else ""
    for case in CASES:
        cells = measure(case, folder, seconds)
        console.print(f"Way back of {case}:")
        for name, cell in cells.items():
            console.print(f"  {name}: {cell.get('missing') or told(cell)}")
        model = asdict(case.shape)
        rows.append({"model": model, "T": case.T, "rule": case.rule, "steps": case.steps, "ratios": cells})
    return {"compiled": compiled, "rows": rows}
