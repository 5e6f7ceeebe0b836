"""`python -m bench [--quick] [--part PART] [--json FILE]`: prints the tables and writes the figures.

`python -m bench compare REV` holds the engine of another commit beside this one.
"""

from __future__ import annotations

import os

# One thread for everything that is compared; set before NumPy loads its BLAS.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import importlib.util
import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import clients, engine, peers, pieces, revisions, scaling
from bench.models import GRID

PARTS = ("engine", "scaling", "peers", "pieces", "clients")
ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, str | int | None]:
    names = ["numpy", "numba", "onnxruntime", "onnx", *(n for n in ("torch", "captum") if importlib.util.find_spec(n))]
    packages = {name: version(name) for name in names}
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    here = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {**here, "commit": commit.stdout.strip(), **packages}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("command", nargs="*", metavar="compare REV", help="compare this working tree with a commit")
    parser.add_argument("--quick", action="store_true", help="a part of the grid")
    parser.add_argument("--part", action="append", choices=PARTS, help="default: every part")
    parser.add_argument("--model", action="append", type=int, help="of the grid, by number; default: every one")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each figure")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "results.json", help="figures are added to this")
    arguments = parser.parse_args()
    console = Console(width=180)
    if arguments.command:
        if arguments.command[0] != "compare" or len(arguments.command) != 2:
            parser.error("the one command is: compare REV")
        sys.exit(revisions.compare(console, arguments.command[1]))
    console.print(machine())
    quick, seconds, parts = arguments.quick, arguments.seconds, arguments.part or list(PARTS)
    if quick:
        seconds = min(seconds, 0.15)
    figures: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    figures["machine"] = machine()
    if "engine" in parts:
        shapes = [GRID[i] for i in arguments.model or range(len(GRID))]
        rows = engine.run(console, shapes, quick=quick, seconds=seconds)
        new = [row["model"] for row in rows]
        figures["engine"] = [row for row in figures.get("engine", []) if row["model"] not in new] + rows
    if "scaling" in parts:
        figures["scaling"] = scaling.run(console, quick=quick)
    if "peers" in parts:
        figures["peers"] = peers.run(console, seconds=seconds)
    if "pieces" in parts:
        figures["pieces"] = pieces.run(console)
    if "clients" in parts:
        figures["clients"] = clients.run(console, calls=50 if quick else 300)
    arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    console.print(f"figures in {arguments.json}")


if __name__ == "__main__":
    main()
