"""`python -m bench [--quick] [--json FILE]`: prints the tables and writes the figures."""

from __future__ import annotations

import os

# One thread for everything that is compared; set before NumPy loads its BLAS.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from bench import engine


def machine() -> dict[str, str | int | None]:
    packages = {name: version(name) for name in ("numpy", "numba", "onnxruntime", "onnx")}
    return {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a part of the grid")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure")
    parser.add_argument("--json", type=Path, default=Path("bench/results.json"), help="where the figures go")
    arguments = parser.parse_args()
    console = Console(width=180)
    console.print(machine())
    figures = {"machine": machine(), "engine": engine.run(console, quick=arguments.quick, seconds=arguments.seconds)}
    arguments.json.write_text(json.dumps(figures, indent=1))
    console.print(f"figures in {arguments.json}")


if __name__ == "__main__":
    main()
