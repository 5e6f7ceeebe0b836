# SPDX-License-Identifier: Apache-2.0
"""`python -m bench [--quick] [--part PART] [--json FILE]`: prints the tables and writes the figures.

`python -m bench compare REV` compares the engine with that of another commit; `python -m bench frames [--list]` counts
the Python frames between a request and its kernels.

If a measurement fails, the command says so at once and again at the end, continues with the others, and exits with 1.
"""

from __future__ import annotations

import os

# Everything that is compared runs on one thread. This must be set before NumPy loads its BLAS.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LSTM_EXPLAIN_KERNELS", "wait")  # the kernels are what is measured

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import (
    callers,
    clients,
    compiled,
    conditions,
    engine,
    first_minute,
    frames,
    peers,
    pieces,
    prefixes,
    revisions,
    scaling,
    scans,
    service,
    service_page,
    targets,
)
from bench.machine import file_of, machine
from bench.models import EXPORTED, FADING, GRID, OTHER_CELLS

ROOT = Path(__file__).resolve().parent.parent


def _engine(console: Console, arguments: argparse.Namespace, before: list[Any]) -> list[Any]:
    """Measure the engine. With --model, keep the rows of the other models."""
    shapes = [GRID[i] for i in arguments.model or range(len(GRID))]
    rows = engine.run(console, shapes, quick=arguments.quick, seconds=arguments.seconds)
    new = [row["model"] for row in rows]
    return [row for row in before if row["model"] not in new] + rows


def _service(console: Console, arguments: argparse.Namespace) -> dict[str, Any]:
    figures = service.measure(*((0.3, 1) if arguments.quick else (0.5, 5)))
    service_page.tell(console, figures)
    return figures


PARTS: dict[str, Callable[[Console, argparse.Namespace, Any], Any]] = {
    "engine": _engine,
    "lengths": lambda console, a, _: engine.run_lengths(console, FADING + GRID, quick=a.quick, seconds=a.seconds),
    "exported": lambda console, a, _: engine.run_lengths(console, EXPORTED, quick=a.quick, seconds=a.seconds),
    "batches": lambda console, a, _: engine.run_batches(console, GRID, quick=a.quick, seconds=a.seconds),
    "cells": lambda console, a, _: engine.run_cells(console, OTHER_CELLS, seconds=a.seconds),
    "scaling": lambda console, a, _: scaling.run(console, quick=a.quick),
    "scans": lambda console, a, _: scans.run(console, seconds=a.seconds),
    "compiled": lambda console, a, _: compiled.run(console, seconds=a.seconds),
    "targets": lambda console, a, _: targets.run(console, seconds=a.seconds),
    "conditions": lambda console, a, _: conditions.run(console, seconds=a.seconds),
    "prefixes": lambda console, a, _: prefixes.run(console, seconds=a.seconds),
    "peers": lambda console, a, _: peers.run(console, seconds=a.seconds, python=a.captum),
    "pieces": lambda console, a, _: pieces.run(console),
    "service": lambda console, a, _: _service(console, a),
    "first-minute": lambda console, a, _: first_minute.run(console, quick=a.quick),
    "callers": lambda console, a, _: callers.run(console, quick=a.quick),
    "clients": lambda console, a, _: clients.run(console, calls=50 if a.quick else 300),
}


def failures(figures: Any, place: str = "") -> Iterator[str]:
    """Return every place where the figures contain an error."""
    if isinstance(figures, list):
        figures = dict(enumerate(figures))
    if not isinstance(figures, dict):
        return
    if isinstance(figures.get("error"), str):
        yield f"{place}: {figures['error']}"
    for key, value in figures.items():
        yield from failures(value, f"{place} / {key}" if place else str(key))


def measure(console: Console, arguments: argparse.Namespace) -> list[str]:
    """Measure the parts one after another, save each result at once, and return the failures."""
    file: Path = arguments.json
    here, failed = machine(), []
    console.print(here)
    for part in arguments.part or PARTS:
        figures: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        began = time.monotonic()
        try:
            figures[part] = PARTS[part](console, arguments, figures.get(part, []))
        except Exception as error:  # whatever it is: the other parts go on, and the end tells
            console.print_exception()
            failed.append(f"{part}: {type(error).__name__}: {error}")
            continue
        figures["machine"] = here
        figures["commits"] = {**figures.get("commits", {}), part: here["commit"]}
        failed += failures(figures[part], part)
        file.write_text(json.dumps(figures, indent=1) + "\n")
        console.print(f"{part}: {time.monotonic() - began:.0f} s; figures in {file}\n")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("command", nargs="*", metavar="compare REV | frames", help="instead of the tables")
    parser.add_argument("--list", action="store_true", help="frames: name them")
    parser.add_argument("--quick", action="store_true", help="a part of the grid, less time")
    parser.add_argument("--part", action="append", choices=PARTS, help="default: every part")
    parser.add_argument("--model", action="append", type=int, help="of the grid, by number; default: every one")
    parser.add_argument("--seconds", type=float, help="for each figure; default: 0.4, or 0.15 with --quick")
    parser.add_argument("--captum", type=Path, metavar="PYTHON", help="an interpreter that has torch and Captum")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "results.json", help="figures are added to this")
    parser.add_argument(
        "--record", action="store_true", help="add them to docs/performance, to the file of this kind of processor"
    )
    arguments = parser.parse_args()
    console = Console(width=200)
    if arguments.command:
        if arguments.command == ["frames"]:
            frames.run(console, listed=arguments.list)
            return
        if arguments.command[0] != "compare" or len(arguments.command) != 2:
            parser.error("the commands are: compare REV, frames")
        sys.exit(revisions.compare(console, arguments.command[1]))
    if arguments.record:
        arguments.json = file_of(machine())
    arguments.seconds = arguments.seconds or (0.15 if arguments.quick else 0.4)
    failed = measure(console, arguments)
    for line in failed:
        console.print(f"[red]failed[/red] {line}", highlight=False)
    sys.exit(int(bool(failed)))


if __name__ == "__main__":
    main()
