# SPDX-License-Identifier: Apache-2.0
"""Shared by the experiments: folders, methods with their names in tables, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lstm_explain as lx

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS, DOCS = ROOT / "models", ROOT / "docs"
DATA = ROOT.parent / "shared" / "data"


DEFAULT = "LRP-all, default stabiliser"


def methods(epsilon: float) -> dict[str, lx.Method]:
    """Return the methods of the papers and of this project; `epsilon` is the papers' stabiliser."""
    lrp = {f"LRP-{rule}": lx.LRP(rule, epsilon) for rule in ("all", "half", "prop", "abs")}
    return {
        DEFAULT: lx.LRP(),
        **lrp,
        "Gradient": lx.Gradient(),
        "Gradient × Input": lx.GradientTimesInput(),
        "Integrated Gradients": lx.IntegratedGradients(),
        "Occlusion": lx.Occlusion(),
        "Contextual Decomposition": lx.ContextualDecomposition(),
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the rest numbers."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


BROKEN = "does not hold"


def held(claim: str, holds: bool) -> str:
    """Format a claim with its verdict. A claim that does not hold makes `make results` fail."""
    return f"{claim[0].upper()}{claim[1:]}: {'holds' if holds else BROKEN}."


def percent(share: float) -> str:
    return f"{100 * share:.2f}" if share < 100 else f"{100 * share:.1e}"
