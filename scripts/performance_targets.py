# SPDX-License-Identifier: Apache-2.0
"""Write the table of goals and measurements from the figures of one processor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from bench.timing import spread

Figures = dict[str, Any]
# the quantity, its bound ("at most" or "at least"), the measured value, and whether it meets the bound
Line = tuple[str, str, str, str]
YES, NO, CHANCE = "yes", "**no**", "within noise"
OTHERS = ("lrp half", "lrp prop", "lrp abs", "gradient × input")
IG = "integrated gradients, 50 steps"


def geometric(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def medians(rows: list[Figures], method: str, kind: str = "ratios") -> list[float]:
    cells = [row[kind][method] for row in rows]
    return [cell["median"] for cell in cells if "error" not in cell]


def _most(what: str, bound: float, measured: float | Figures, form: str = "{:.2f}") -> Line:
    return what, f"at most {form.format(bound)}", *_judged(measured, lambda value: value <= bound)


def _least(what: str, bound: float, measured: float | Figures, form: str = "{:.2f}") -> Line:
    return what, f"at least {form.format(bound)}", *_judged(measured, lambda value: value >= bound)


def _judged(measured: float | Figures, kept: Callable[[float], bool]) -> tuple[str, str]:
    """Format a value in hundredths, as the table shows it, and judge it.

    If the median misses the bound but a quartile meets it, the difference is within noise.
    """
    if isinstance(measured, float | int):
        return f"{measured:.2f}", YES if kept(round(measured, 2)) else NO
    median, low, high = (round(measured[name], 2) for name in ("median", "low", "high"))
    near = CHANCE if kept(low) or kept(high) else NO
    return f"{median:.2f} ({low:.2f} to {high:.2f})", YES if kept(median) else near


def of_engine(figures: Figures) -> Iterator[Line]:
    rows = figures["engine"]
    one, many = ([row for row in rows if row["batch"] == batch] for batch in (1, 32))
    for label, bound, chosen in (
        ("H ≥ 128", 1.4, [row for row in one if row["model"]["H"] >= 128]),
        ("H < 128", 2.0, [row for row in one if row["model"]["H"] < 128]),
    ):
        yield _most(f"LRP-all, batch 1, {label}, maximum", bound, max(medians(chosen, "lrp all")))
    yield _most("LRP-all, batch 1, geometric mean", 1.5, geometric(medians(one, "lrp all")))
    if many:
        yield _most("LRP-all, batch 32, geometric mean", 2.0, geometric(medians(many, "lrp all")))
    for method in OTHERS:
        yield _most(f"{method}, batch 1, geometric mean", 2.5, geometric(medians(one, method)))
    yield _most(f"{IG}, batch 1, maximum", 100, max(medians(one, IG, "many")), "{:.0f}")


def of_lengths(figures: Figures) -> Iterator[Line]:
    rows, epsilon = figures["lengths"], "lrp all, epsilon 0.001"
    steps = f"T = {min(row['T'] for row in rows)} to {max(row['T'] for row in rows):,}"
    for method, bound in ((epsilon, 1.15), ("lrp all", 1.4), ("gradient × input", 1.6)):
        yield _most(f"{method}, {steps}, geometric mean", bound, geometric(medians(rows, method)))
    for method in (epsilon, "lrp all"):
        yield _most(f"{method}, {steps}, maximum", 1.7, max(medians(rows, method)))
    apart = [a - b for a, b in zip(medians(rows, "lrp all"), medians(rows, epsilon), strict=True)]
    added = [row["added"]["median"] if "added" in row else d for row, d in zip(rows, apart, strict=True)]
    yield _most(f"relative stabiliser, forward passes added, {steps}, maximum", 0.25, max(added))
    long = [row for row in rows if row["model"]["fading"] and row["T"] >= 1000 and row["model"]["H"] >= 128]
    if long:
        yield _most(f"{epsilon}, fading, T ≥ 1,000, H ≥ 128, maximum", 1.05, max(medians(long, epsilon)))


def of_batches(figures: Figures) -> Iterator[Line]:
    epsilon = "lrp all, epsilon 0.001"
    for batch, method, bound in ((8, epsilon, 1.4), (32, epsilon, 1.4), (32, "gradient × input", 1.7)):
        rows = [row for row in figures["batches"] if row["batch"] == batch]
        if rows:
            yield _most(f"{method}, T = {rows[0]['T']}, batch {batch}, maximum", bound, max(medians(rows, method)))


def of_peers(figures: Figures) -> Iterator[Line]:
    ratios = [row["ratios"] for row in figures["peers"]["rows"]]
    theirs = f"Captum IntegratedGradients{IG.removeprefix('integrated gradients')}"
    if theirs in ratios[0]:
        worst = max(r[IG]["median"] / r[theirs]["median"] for r in ratios)
        yield _most(f"{IG} ÷ Captum's, maximum", 0.6, worst)


def of_growth(figures: Figures) -> Iterator[Line]:
    fits = figures["scaling"]["exponents"]
    for size in ("T", "batch"):
        yield _most(f"exponent of {size}, maximum", 1.05, max(fit["exponent"] for fit in fits[size].values()))
    memory = [found["explanation_mb"] for found in figures["scaling"]["memory"].values() if "error" not in found]
    yield _most("memory of T = 10,000, H = 256, MB, maximum", 1000, max(memory), "{:,.0f}")


def of_scans(figures: Figures) -> Iterator[Line]:
    cells = figures["scans"]["cells"]
    first = medians([row for row in cells if row["model"].startswith("selective scan")], "lrp all")
    yield _most("lrp all, selective scan of 1,000 steps", 3.0, max(first))
    for form, which in (("Scan or Loop", False), ("unrolled", True)):
        rows = [row for row in cells if row["model"].endswith("unrolled") is which]
        if not rows:
            continue
        yield _most(f"cell as {form}, maximum", 5.0, max(m for name in rows[0]["ratios"] for m in medians(rows, name)))
    if "loading" in figures["scans"]:
        yield _most("exponent of the time to load an unrolled cell", 1.05, figures["scans"]["loading"]["exponent"])


def of_service(figures: Figures) -> Iterator[Line]:
    service = figures["service"]
    works, starts = service["works"], service["starts"]
    for work in works:
        if work["name"].startswith("sentiment"):
            what = f"Explain p50 ÷ (ModelInfer p50 + engine), {work['name']}"
            yield _most(what, 1.5, work["ratios"]["predict"])
    gains = sorted((work["ratios"]["batching"] for work in works), key=lambda ratio: ratio["median"])
    yield _least("rate with batching ÷ without, 16 callers, minimum", 1.0, gains[0])
    yield _least("rate with batching ÷ without, 16 callers, maximum", 1.3, gains[-1])
    yield _most("wrong answers under load", 0, sum(work["wrong"] for work in works), "{:.0f}")
    for ratios in (work["ratios"] for work in works if "echo rate" in work["ratios"]):
        yield _least("Explain ÷ echo, rate, 16 callers", 0.6, ratios["echo rate"])
        yield _most("Explain ÷ echo, p50, 1 caller", 1.5, ratios["echo p50"])
    yield _most("seconds until ready, maximum", 10, max(start["ready_s"] for start in starts), "{:.1f}")
    first = spread([start["first_ms"] for start in starts], [start["median_ms"] for start in starts])
    yield _most("first explanation ÷ median of the following ones", 2.0, first)


PARTS: dict[str, Callable[[Figures], Iterator[Line]]] = {
    "engine": of_engine,
    "lengths": of_lengths,
    "batches": of_batches,
    "peers": of_peers,
    "scans": of_scans,
    "scaling": of_growth,
    "service": of_service,
}


def lines(figures: Figures) -> list[list[str]]:
    """Return one row per goal: quantity, goal, measured, met."""
    return [list(line) for part, tell in PARTS.items() if part in figures for line in tell(figures)]
