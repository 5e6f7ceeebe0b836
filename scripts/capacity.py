# SPDX-License-Identifier: Apache-2.0
"""Measures one server process: `python scripts/capacity.py` prints the capacity tables of docs/operations.md.

The tables show the time until ready, the memory without models and with each of models/ (shared memory counted once,
after the spare process has warmed up and the trials have ended), and the rates and times of answers by number of
callers. Callers and server share the machine, so the rates are lower bounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lstm_explain_client import Client  # noqa: E402
from scripts.soak import children, server  # noqa: E402

REVIEW = "not a bad film , but far too long for what little it has to say about people"
SECONDS_TO_SETTLE = 30  # until the spare process is warm and that of the trials has ended
Request = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each line of the second table")
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "onnxruntime", "grpcio"))
    print(f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}\n")
    print("| models | ready after | memory | with `--no-spare` |\n|---|---|---|---|")
    for names in (
        [],
        ["addition"],
        ["sentiment"],
        ["discharge"],
        ["addition", "subtraction", "sentiment", "discharge"],
    ):
        _memory(names)
    print("\n| request | callers | answers/s | p50 | p95 |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), ["--models", str(ROOT / "models")]) as running:
        for what, request in _requests().items():
            for callers in (1, 4, 16):
                print(f"| {what} | {callers} | {_load(running[1], request, callers, arguments.seconds)} |", flush=True)


def _requests() -> dict[str, Request]:
    rng = np.random.default_rng(0)
    year = rng.normal(size=(1, 365, 5)).astype(np.float32)
    return {
        "sentiment, 16 words, LRP": {"model": "sentiment", "inputs": {"tokens": REVIEW}},
        "discharge, 365 days, LRP": {"model": "discharge", "inputs": {"weather": year}},
        "discharge, 16 × 365 days, LRP": {"model": "discharge", "inputs": {"weather": year.repeat(16, 0)}},
        "discharge, 365 days, integrated gradients": {
            "model": "discharge",
            "inputs": {"weather": year},
            "method": "integrated_gradients",
        },
    }


def _memory(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "models")
        models.mkdir()
        for name in names:
            shutil.copytree(ROOT / "models" / name, models / name)
        seconds, spared = _held(Path(folder), models, "--spare")
        _, alone = _held(Path(folder), models, "--no-spare")
    print(f"| {', '.join(names) or 'none'} | {seconds:.1f} s | {spared:.0f} MiB | {alone:.0f} MiB |", flush=True)


def _held(folder: Path, models: Path, flag: str) -> tuple[float, float]:
    """Return the seconds until ready, and the memory in MiB after a while."""
    started = time.monotonic()
    with server(folder, ["--models", str(models), flag]) as (process, _):
        seconds = time.monotonic() - started
        time.sleep(SECONDS_TO_SETTLE)
        held = [Path(f"/proc/{p}/smaps_rollup").read_text() for p in (process.pid, *children(process.pid))]
    return seconds, sum(int(text.partition("\nPss:")[2].split()[0]) for text in held) / 2**10


def _load(address: str, request: Request, callers: int, seconds: float) -> str:
    times: list[float] = []
    with Client(address) as client:
        client.explain(**request)
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=_call, args=(client.explain, request, times, end)) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    times.sort()
    p95 = times[int(0.95 * (len(times) - 1))]
    return f"{len(times) / seconds:.0f} | {statistics.median(times) * 1e3:.1f} ms | {p95 * 1e3:.1f} ms"


def _call(explain: Callable[..., Any], request: Request, times: list[float], end: float) -> None:
    while (started := time.monotonic()) < end:
        explain(**request)
        times.append(time.monotonic() - started)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1] for line in path.read_text().splitlines() if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()


if __name__ == "__main__":
    main()
