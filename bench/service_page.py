# SPDX-License-Identifier: Apache-2.0
"""Show the figures of the service in the terminal and in docs/performance.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

CLIENTS = ("1", "4", "16", "64")
HEADS = ("1 caller", *(f"{count} callers" for count in CLIENTS[1:]))
GOAL = 0.6  # of the rate of the echo server
NAMES = {
    "echo threads": "bare echo, threads",
    "echo asyncio": "bare echo, asyncio",
    "echo executor": "bare echo, asyncio with an executor",
    "echo processes": "bare echo, two processes",
    "infer": "ModelInfer",
    "explain off": "Explain",
    "explain on": "Explain, batching on",
    "explain workers": "Explain, two processes",
    "explain threads": "Explain, in gRPC's threads",
}


def tell(console: Console, figures: dict[str, Any]) -> None:
    table = Table(title="calls per second, p50 and p99 in ms, by number of callers")
    for column in ("work", "call", *CLIENTS):
        table.add_column(column)
    for work in figures["works"]:
        for name, by_clients in work["calls"].items():
            table.add_row(work["name"], NAMES[name], *(_cell(by_clients[c]) for c in CLIENTS))
        console.print(f"{work['name']}: {work['answers']} answers, {work['wrong']} wrong")
    console.print(table)
    console.print(figures["starts"])


def _cell(figure: dict[str, float]) -> str:
    lost = f", {figure['errors']} errors" if figure["errors"] else ""
    return f"{figure['rate']:,.0f}/s, {figure['p50_ms']:.2f}, {figure['p99_ms']:.1f}{lost}"


def page(figures: dict[str, Any]) -> str:
    """Return the part of docs/performance.md that is generated from the figures."""
    lines = [f"| | | {' | '.join(HEADS)} |", "|---|---|" + "---|" * len(HEADS)]
    for work in figures["works"]:
        for name, by_clients in work["calls"].items():
            cells = " | ".join(_cell(by_clients[c]) for c in CLIENTS)
            lines.append(f"| {work['name']} | {NAMES[name]} | {cells} |")
    lines += ["", "| | answers | wrong | batching on ÷ off, 16 callers | Explain p50 ÷ (ModelInfer p50 + engine) |"]
    lines += ["|---|---|---|---|---|"]
    for work in figures["works"]:
        batching, predict = (shown(work["ratios"][name]) for name in ("batching", "predict"))
        lines.append(f"| {work['name']} | {work['answers']:,} | {work['wrong']} | {batching} | {predict} |")
    whole = [work for work in figures["works"] if "echo threads" in work["calls"]]
    beside = [_beside_the_echo(figures, work) for work in whole]
    parts = [[_starts(figures["starts"])], _way(figures["way"]), _processor(whole)]
    return "\n".join([*lines, "", *beside, *(line for part in parts for line in ("", *part))])


def _starts(starts: list[dict[str, float]]) -> str:
    ready, connection = (float(np.median([start[name] for start in starts])) for name in ("ready_s", "connection_ms"))
    ratios = sorted(s["first_ms"] / s["median_ms"] for s in starts)
    return (
        f"{len(starts)} starts: ready after {ready:.1f} s (median); the first call of a connection took "
        f"{connection:.1f} ms, the first explanation took {float(np.median(ratios)):.1f} times the median of the "
        f"following ones ({ratios[0]:.1f} to {ratios[-1]:.1f})."
    )


def _way(way: dict[str, float]) -> list[str]:
    pieces = sorted((piece for piece in way.items() if piece[0] != "all"), key=lambda piece: -piece[1])
    rows = [f"| {name} | {value:.0f} |" for name, value in pieces]
    title = "`Explain` of one sentence without gRPC, in one thread, with everything in the cache"
    return [f"| {title} | µs |", "|---|---:|", *rows, f"| total | {way['all']:.0f} |"]


def _processor(works: list[dict[str, Any]]) -> list[str]:
    rows = []
    for work in works:
        for name, by_clients in work["calls"].items():
            label = NAMES[name] if name.startswith("echo") else f"{NAMES[name]}, {work['name']}"
            cells = " | ".join(f"{by_clients[c]['processor_us']:,.0f}" for c in CLIENTS)
            rows.append(f"| {label} | {cells} |")
    return [
        f"| processor time of the server per call, µs | {' | '.join(HEADS)} |",
        "|---|" + "---:|" * len(HEADS),
        *rows,
    ]


def _beside_the_echo(figures: dict[str, Any], work: dict[str, Any]) -> str:
    ratios, (sent, received) = work["ratios"], work["bytes"]
    echo = figures["cores"] / work["calls"]["echo threads"]["16"]["rate"] * 1e6
    return (
        f"Compared with an echo server for messages of the same size ({sent} bytes in, {received} out), Explain of "
        f"`sentiment` reaches {ratios['echo rate']['median']:.0%} of the call rate at 16 callers in one process, "
        f"{ratios['echoes rate']['median']:.0%} of the rate of two echo processes in two processes, and "
        f"{ratios['echo p50']['median']:.1f} times the p50 at one caller. At 16 callers, an echo takes at most "
        f"{echo:.0f} µs of the {figures['cores']} processors, including the caller's part. {GOAL:.0%} of its rate "
        f"would leave Explain {echo / GOAL - echo:.0f} µs of them for all its own work; without the wire, one call "
        f"after another, that work takes {figures['way']['all']:.0f} µs."
    )


def shown(ratio: dict[str, float]) -> str:
    """Format the median and the quartiles."""
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
