"""Puts the figures of docs/performance.json into docs/performance.md, between its markers.

    python -m bench --json docs/performance.json && python scripts/performance_doc.py

With --check, only tells by its exit code whether the page is stale.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PAGE, FIGURES = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.json"
MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Row = dict[str, Any]


def page(text: str, figures: dict[str, Any]) -> str:
    return MARKED.sub(lambda found: f"{found[1]}{PARTS[found[2]](figures)}\n{found[3]}", text)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _name(model: Row) -> str:
    return f"{model['D']} → {model['H']}{', both directions' if model['bidirectional'] else ''}"


def machine(figures: dict[str, Any]) -> str:
    m = figures["machine"]
    packages = ", ".join(f"{k} {m[k]}" for k in ("numpy", "numba", "onnxruntime", "onnx", "torch", "captum") if k in m)
    return f"{m['processor']}, {m['cores']} cores; Python {m['python']}, {packages}; commit {m['commit']}."


def grid(figures: dict[str, Any]) -> str:
    rows = figures["engine"]
    methods = list(rows[0]["ratios"])
    cells = [
        [
            _name(row["model"]),
            str(row["T"]),
            str(row["batch"]),
            f"{next(r for r in row['ratios'].values() if r)['theirs_ms']:.2f}",
            *(_ratio(row["ratios"][method]) for method in methods),
        ]
        for row in rows
    ]
    return _table(["model", "T", "batch", "forward, ms", *methods], cells)


def _ratio(ratio: Row | None) -> str:
    return "overflows" if ratio is None else f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def means(figures: dict[str, Any]) -> str:
    rows = figures["engine"]
    methods = list(rows[0]["ratios"])
    lines = []
    for batch in sorted({row["batch"] for row in rows}):
        chosen = [row["ratios"] for row in rows if row["batch"] == batch]
        values = [[r[m]["median"] for r in chosen if r[m]] for m in methods]
        lines.append([str(batch), *(f"{np.exp(np.mean(np.log(v))):.2f}" for v in values)])
    return _table(["batch", *methods], lines)


def growth(figures: dict[str, Any]) -> str:
    fits = figures["scaling"]["exponents"]
    rows = [
        [size, f"{fit['exponent']:.2f}", ", ".join(f"{k}: {v:g}" for k, v in fit["milliseconds"].items())]
        for size, fit in fits.items()
    ]
    return _table(["size", "exponent", "milliseconds"], rows)


def memory(figures: dict[str, Any]) -> str:
    rows = [
        [method, found.get("error") or f"{found['explanation_mb']:.0f} MB", f"{found.get('process_mb', 0):.0f} MB"]
        for method, found in figures["scaling"]["memory"].items()
    ]
    return _table(["method", "explanation", "whole process"], rows)


def peers(figures: dict[str, Any]) -> str:
    rows = figures["peers"]
    names = list(rows[0]["ratios"])
    cells = [[name, *(_ratio(row["ratios"].get(name)) for row in rows)] for name in names]
    return _table(["method", *(_name(row["model"]) for row in rows)], cells)


def profile(figures: dict[str, Any]) -> str:
    runs = figures["pieces"]["profile"]
    cells = [["ONNX Runtime's forward pass", *(f"{run['forward']:.0f}" for run in runs)]]
    cells += [["explanation", *(f"{run['explanation']:.0f}" for run in runs)]]
    labels = [label for label, _ in runs[0]["pieces"]]
    cells += [[label, *(f"{run['pieces'][i][1]:.0f}" for run in runs)] for i, label in enumerate(labels)]
    return _table(["microseconds", *(run["model"] for run in runs)], cells)


def products(figures: dict[str, Any]) -> str:
    rows = figures["pieces"]["products"]
    return _table(list(rows[0]), [[str(r["H"]), *(f"{v:.2f}" for k, v in r.items() if k != "H")] for r in rows])


def clients(figures: dict[str, Any]) -> str:
    rows = [
        [row["client"], *((f"{row[k]:.2f}" for k in ("p50_ms", "p99_ms")) if "p50_ms" in row else (row["missing"], ""))]
        for row in figures["clients"]
    ]
    return _table(["client", "p50, ms", "p99, ms"], rows)


PARTS = {part.__name__: part for part in (machine, grid, means, growth, memory, peers, profile, products, clients)}


def main() -> int:
    text = PAGE.read_text()
    new = page(text, json.loads(FIGURES.read_text()))
    if "--check" in sys.argv[1:]:
        return int(new != text)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
