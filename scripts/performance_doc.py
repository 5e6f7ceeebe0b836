# SPDX-License-Identifier: Apache-2.0
"""Write the figures of docs/performance/*.json, a file per kind of processor, into docs/performance.md, between its
markers.

    make bench ARGS=--record && .venv/bin/python scripts/performance_doc.py

Parts that were never measured stay as they are. With --check, the script writes nothing; its exit code says whether the
page is stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench import service_page  # noqa: E402
from bench.machine import FIGURES  # noqa: E402
from scripts import performance_targets  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"
MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Row = dict[str, Any]
Figures = dict[str, Any]


def measured() -> list[Figures]:
    """Return the figures of every kind of processor."""
    return [json.loads(file.read_text()) for file in sorted(FIGURES.glob("*.json"))]


def page(text: str, by_processor: list[Figures]) -> str:
    """Fill every marked part with a table per processor that has figures for it."""

    def part(found: re.Match[str]) -> str:
        of, tell = PARTS[found[2]]
        there = [
            figures
            for figures in by_processor
            if of in figures or (of == "goals" and performance_targets.lines(figures))
        ]
        tables = [f"{_heading(figures, of)}{tell(figures)}" for figures in there]
        return "\n\n".join([found[1].rstrip(), *tables, found[3]]) if there else found[0]

    return MARKED.sub(part, text)


def _heading(figures: Figures, part: str) -> str:
    if part == "commits":  # the description of the machine
        return ""
    if part == "goals":  # of several parts
        return f"{figures['machine']['processor']}:\n\n"
    commit = figures["commits"].get(part)
    return f"{figures['machine']['processor']}{f' (commit {commit})' if commit else ''}:\n\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _name(model: Row) -> str:
    marks = [", both directions"] * model["bidirectional"] + [", fading"] * model.get("fading", False)
    return f"{model['D']} → {model['H']}{''.join(marks)}"


def machine(figures: dict[str, Any]) -> str:
    return f"{_described(figures['machine'])}; {_commits(figures['commits'])}."


def _described(m: Row) -> str:
    names = ("numpy", "numba", "onnxruntime", "onnx", "torch", "captum")
    packages = ", ".join(f"{name} {m[name]}" for name in names if name in m)
    return f"{m['processor']}, {m['cores']} cores; Python {m['python']}, {packages}"


def _commits(by_part: dict[str, str]) -> str:
    parts: dict[str, list[str]] = {}
    for part, commit in by_part.items():
        parts.setdefault(commit, []).append(part)
    if len(parts) == 1:
        return f"commit {next(iter(parts))}"
    return "commits " + ", ".join(f"{commit} ({', '.join(of)})" for commit, of in parts.items())


def _cells(row: Row, kind: str, methods: list[str]) -> list[str]:
    forward = next((f"{cell['theirs_ms']:.2f}" for cell in row[kind].values() if "error" not in cell), "")
    return [
        _name(row["model"]),
        str(row["T"]),
        str(row["batch"]),
        forward,
        *(_ratio(row[kind].get(m)) for m in methods),
    ]


def grid(figures: dict[str, Any]) -> str:
    methods = list(figures["engine"][0]["ratios"])
    rows = [_cells(row, "ratios", methods) for row in figures["engine"]]
    return _table(["model", "T", "batch", "forward, ms", *methods], rows)


def lengths(figures: dict[str, Any], part: str = "lengths") -> str:
    methods = list(figures[part][0]["ratios"])
    cells = [_cells(row, "ratios", methods) for row in figures[part]]
    return _table(["model", "T", "forward, ms", *methods], [[*row[:2], *row[3:]] for row in cells])


def batches(figures: dict[str, Any]) -> str:
    methods = list(figures["batches"][0]["ratios"])
    cells = [_cells(row, "ratios", methods) for row in figures["batches"]]
    return _table(["model", "batch", "forward, ms", *methods], [[row[0], *row[2:]] for row in cells])


def many(figures: dict[str, Any]) -> str:
    rows = [row for row in figures["engine"] if "many" in row]
    methods = list(dict.fromkeys(name for row in rows for name in row["many"]))
    cells = [_cells(row, "many", methods) for row in rows]
    return _table(["model", "T", "forward, ms", *methods], [[*row[:2], *row[3:]] for row in cells])


def _ratio(cell: Row | None) -> str:
    if cell is None or "missing" in cell:
        return (cell or {}).get("missing", "")
    return "fails" if "error" in cell else service_page.shown(cell)


def means(figures: dict[str, Any]) -> str:
    rows = figures["engine"]
    methods = list(rows[0]["ratios"])
    lines = []
    for batch in sorted({row["batch"] for row in rows}):
        chosen = [row for row in rows if row["batch"] == batch]
        found = [performance_targets.medians(chosen, method) for method in methods]
        lines.append([str(batch), *(f"{performance_targets.geometric(values):.2f}" for values in found)])
    return _table(["batch", *methods], lines)


def cells(figures: dict[str, Any]) -> str:
    """Return a table of medians, with all batch sizes of a model and length in one row."""
    rows, chosen = figures["cells"], ("lrp all", "lrp half", "gradient × input")
    batches = sorted({row["batch"] for row in rows})
    by_line: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        by_line.setdefault((f"{row['model']['op']} {_name(row['model'])}", str(row["T"])), {})[row["batch"]] = row
    lines = [
        [*line, *(f"{found[b]['ratios'][method]['median']:.2f}" for method in chosen for b in batches)]
        for line, found in by_line.items()
    ]
    return _table(["model", "T", *(f"{method}, batch {b}" for method in chosen for b in batches)], lines)


def targets(figures: dict[str, Any]) -> str:
    return _table(["quantity", "goal", "measured", "met"], performance_targets.lines(figures))


def growth(figures: dict[str, Any]) -> str:
    rows = []
    for size, by_method in figures["scaling"]["exponents"].items():
        for method, fit in by_method.items():
            parts = ", ".join(f"{k}: {v:g}" for k, v in fit["milliseconds"].items())
            rows.append([size, method, f"{fit['exponent']:.2f}", parts])
    return _table(["size", "method", "exponent", "milliseconds"], rows)


def memory(figures: dict[str, Any]) -> str:
    found = figures["scaling"]["memory"]
    rows = [
        [method, *(f"{f[k]:.0f} MB" if k in f else "fails" for k in ("explanation_mb", "process_mb"))]
        for method, f in found.items()
    ]
    return _table(["method", "explanation", "whole process"], rows)


def peers(figures: dict[str, Any]) -> str:
    rows = figures["peers"]["rows"]
    names = list(rows[0]["ratios"])
    cells = [[name, *(_ratio(row["ratios"].get(name)) for row in rows)] for name in names]
    for theirs, ours in AGAINST.items():
        if theirs in names:
            medians = [[row["ratios"][name]["median"] for name in (theirs, ours)] for row in rows]
            cells.append([f"{theirs} ÷ our {ours}", *(f"{a / b:.1f}" for a, b in medians)])
    table = _table(["method", *(f"{_name(row['model'])}, T = {row['T']}" for row in rows)], cells)
    return f"{_described(figures['peers']['machine'])}.\n\n{table}"


def profile(figures: dict[str, Any]) -> str:
    runs = figures["pieces"]["profile"]
    rows = [("ONNX Runtime's forward pass", [run["forward"] for run in runs])]
    rows += [("explanation", [run["explanation"] for run in runs])]
    labels = [label for label, _ in runs[0]["pieces"]]
    rows += [(label, [run["pieces"][i][1] for run in runs]) for i, label in enumerate(labels)]
    cells = [[label, *("" if v is None else f"{v:.0f}" for v in values)] for label, values in rows]
    return _table(["microseconds", *(f"{run['method']}, {run['model']}" for run in runs)], cells)


def products(figures: dict[str, Any]) -> str:
    rows = figures["pieces"]["products"]
    return _table(list(rows[0]), [[str(r["H"]), *(f"{v:.2f}" for k, v in r.items() if k != "H")] for r in rows])


def clients(figures: dict[str, Any]) -> str:
    rows = [
        [row["client"], *((f"{row[k]:.2f}" for k in ("p50_ms", "p99_ms")) if "p50_ms" in row else (row["missing"], ""))]
        for row in figures["clients"]
    ]
    return _table(["client", "p50, ms", "p99, ms"], rows)


def service(figures: dict[str, Any]) -> str:
    return service_page.page(figures["service"])


def scans(figures: dict[str, Any]) -> str:
    rows = [
        [row["model"], str(row["T"]), f"{next(iter(row['ratios'].values()))['theirs_ms']:.1f}",
         *(_ratio(cell) for cell in row["ratios"].values()), f"{row['load_s']:.2f}", f"{row['first_s']:.2f}"]
        for row in figures["scans"]["cells"]
    ]  # fmt: skip
    methods = list(figures["scans"]["cells"][0]["ratios"])
    table = _table(["cell", "T", "forward, ms", *methods, "load, s", "first explanation, s"], rows)
    loading = figures["scans"].get("loading")
    if loading is None:
        return table
    seconds = ", ".join(
        f"{s:.1f} s for {int(nodes):,} nodes ({loading['runtime'][nodes]:.1f})"
        for nodes, s in loading["seconds"].items()
    )
    return (
        f"{table}\n\nProcessor time to load an unrolled LSTM, and what of it ONNX Runtime takes to open the file: "
        f"{seconds}. Without ONNX Runtime's part it grows as nodes^{loading['exponent']:.2f}."
    )


def first_minute(figures: dict[str, Any]) -> str:
    found = figures["first-minute"]
    settings = [name for name in ("background", "wait") if name in found]
    rows = [["ready", *("{:.1f} ({:.1f})".format(*found[s]["ready_s"]) for s in settings)]]
    for name in found[settings[0]]["seconds"]:
        pairs = (found[s]["seconds"][name] for s in settings)
        rows.append([name, *("{:.2f} ({:.2f}), {:.2f} ({:.2f})".format(*first, *second) for first, second in pairs)])
    return f"{_table(['seconds', *settings], rows)}\n\nThe load average of the machine was {found['load']:.0f}."


AGAINST = {
    "Captum InputXGradient": "gradient × input",
    "Captum IntegratedGradients, 50 steps": "integrated gradients, 50 steps",
    "Captum GradientShap, 50 samples": "integrated gradients, 50 steps",
}
# Maps the name of a marker on the page to the part of the figures that it shows, and the function that formats it.
PARTS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "machine": ("commits", machine),
    "targets": ("goals", targets),
    "means": ("engine", means),
    "grid": ("engine", grid),
    "many": ("engine", many),
    "lengths": ("lengths", lengths),
    "exported": ("exported", partial(lengths, part="exported")),
    "batches": ("batches", batches),
    "cells": ("cells", cells),
    "scans": ("scans", scans),
    "growth": ("scaling", growth),
    "memory": ("scaling", memory),
    "peers": ("peers", peers),
    "profile": ("pieces", profile),
    "products": ("pieces", products),
    "service": ("service", service),
    "clients": ("clients", clients),
    "first_minute": ("first-minute", first_minute),
}


def main() -> int:
    text = PAGE.read_text()
    new = page(text, measured())
    if "--check" in sys.argv[1:]:
        return int(new != text)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
