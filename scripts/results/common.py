"""What the experiments share: folders, methods with their names in tables, Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lstm_explain as lx

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS, DOCS = ROOT / "models", ROOT / "docs"
DATA = ROOT.parent / "shared" / "data"


def methods(epsilon: float) -> dict[str, lx.Method]:
    """The papers' methods and ours."""
    lrp = {f"LRP-{rule}": lx.LRP(rule, epsilon) for rule in ("all", "half", "prop", "abs")}
    return {
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
