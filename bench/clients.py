# SPDX-License-Identifier: Apache-2.0
"""Measures Explain of `sentiment` by each client, one call after another; the clients alternate at one server."""

from __future__ import annotations

import json
import statistics
import subprocess
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.conformance.runners import OPTIMISED, ROOT, Runner
from tests.serving.running import serving


def run(console: Console, *, calls: int = 300, rounds: int = 3) -> list[dict[str, Any]]:
    """Return a row per client: the median over the rounds of its p50 and p99 in milliseconds, or what is missing."""
    here = [runner for runner in OPTIMISED if not runner.missing()]
    for runner in here:
        runner.make()
    taken: dict[str, list[dict[str, Any]]] = {runner.client: [] for runner in here}
    with serving(ROOT / "models") as server:
        for _ in range(rounds):
            for runner in here:
                taken[runner.client].append(_latency(runner, server.address, calls))
    rows = [_row(runner, taken.get(runner.client, []), calls) for runner in OPTIMISED]
    table = Table(title=f"Explain of sentiment, one caller, {rounds} × {calls} calls a client, taking turns")
    for column in ("client", "p50, ms", "p99, ms"):
        table.add_column(column, justify="left" if column == "client" else "right")
    for row in rows:
        figures = (f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}") if "p50_ms" in row else (row["missing"], "")
        table.add_row(row["client"], *figures)
    console.print(table)
    return rows


def _latency(runner: Runner, address: str, calls: int) -> dict[str, Any]:
    command = [*runner.run, "latency", "--address", address, "--model", "sentiment", "--calls", str(calls)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    return dict(json.loads(done.stdout))


def _row(runner: Runner, taken: list[dict[str, Any]], calls: int) -> dict[str, Any]:
    if not taken:
        return {"client": runner.client, "missing": f"no {', '.join(runner.missing())}"}
    medians = {key: statistics.median(report[key] for report in taken) for key in ("p50_ms", "p99_ms")}
    return {"client": runner.client, "calls": calls * len(taken), **medians}
