# SPDX-License-Identifier: Apache-2.0
"""Reports on a run: mean relevance per feature and per lag, and drift from another run, as a table and an HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_explain.batch.show import Total
from lstm_explain.batch.stats import Stats
from lstm_explain.errors import InputError
from lstm_explain.evaluate.plot import line_chart
from lstm_explain.repository.relevance_shares import Group

AGGREGATES = "aggregates.parquet"
MAX_BARS = 50  # features on the page, the most relevant first; the table has all
# Describes each `explained_quantity` of an Explanation.
EXPLAINED = {
    "output": "the output itself",
    "logit": "the logit: the value before the output's Softmax or Sigmoid",
    "score": "the score: the value before the output's LogSoftmax, Exp or Softplus",
    "probability": "the output as a probability",
    "margin": "the margin: the output's entry minus the largest other one, or minus the threshold",
}
HEADINGS = {"feature": "Mean |relevance| by feature", "lag": "Mean |relevance| by lag"}


@dataclass(frozen=True)
class Line:
    """One feature, lag (0: the last step) or the explained value itself, over all rows that have it.

    reference_mean, reference_std: of the other run. drift: the difference of the means, in its standard deviations.
    """

    input: str
    kind: str
    position: int
    name: str
    rows: int
    mean: float
    std: float
    reference_mean: float | None = None
    reference_std: float | None = None
    drift: float | None = None


SCHEMA = pa.schema(
    [("input", pa.string()), ("kind", pa.string()), ("position", pa.int64()), ("name", pa.string())]
    + [("rows", pa.int64())]
    + [(name, pa.float64()) for name in ("mean", "std", "reference_mean", "reference_std", "drift")]
)


def lines_of(stats: Stats, names: Mapping[str, Sequence[str]], reference: Path | None) -> list[Line]:
    """names: of the features, by input. reference: the folder of another run. Raises InputError."""
    earlier = {} if reference is None else {(line.input, line.kind, line.position): line for line in read(reference)}
    lines = []
    for (name, kind), sums in stats.groups.items():
        known = names.get(name, ()) if kind == "feature" else ()
        for position, (rows, total, squares) in enumerate(sums.T.tolist()):
            mean = total / rows
            std = math.sqrt(max(squares / rows - mean**2, 0.0))
            old = earlier.get((name, kind, position))
            label = known[position] if position < len(known) else str(position)
            compared = () if old is None else (old.mean, old.std, (mean - old.mean) / old.std if old.std else None)
            lines.append(Line(name, kind, position, label, int(rows), mean, std, *compared))
    return lines


def read(folder: Path) -> list[Line]:
    """Returns the lines of a finished run. Raises InputError."""
    path = folder / AGGREGATES
    try:
        return [Line(**row) for row in pq.read_table(path).to_pylist()]
    except (OSError, pa.ArrowInvalid, TypeError) as error:
        raise InputError(f"{path}: not a finished run: {error}", field="reference") from error


def table(lines: Sequence[Line]) -> pa.Table:
    return pa.Table.from_pylist([asdict(line) for line in lines], SCHEMA)


def page(title: str, lines: Sequence[Line], total: Total, about: Mapping[str, str]) -> str:
    """Returns one self-contained HTML page. about: facts about the job."""
    facts = {
        **about,
        "explained value": EXPLAINED.get(total.quantity, "none: no row was explained"),
        "rows explained": f"{total.explained:,}",
        **({"rows that do not meet the condition": f"{total.left_out:,}"} if total.left_out else {}),
        "rows with a warning": f"{total.warned:,}",
        "rows that failed": f"{total.failed:,}",
        "largest residual": f"{total.worst:.1e} of the explained value",
    }
    groups: dict[Group, list[Line]] = {}
    for line in lines:
        groups.setdefault((line.kind, line.input), []).append(line)
    body = "".join(_section(kind, name, of) for (kind, name), of in groups.items())
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
th {{ text-align: left; font-weight: 500; padding-right: 1rem; white-space: nowrap }} td {{ padding-right: 1rem }}
td.bar {{ width: 100% }} .bar div {{ background: #0072b2; height: .6rem }} .bar div.old {{ background: #d55e00 }}
</style>
<h1>{escape(title)}</h1><table>{rows}</table>{body}</html>
"""


def _section(kind: str, name: str, lines: Sequence[Line]) -> str:
    if kind == "explained":
        (line,) = lines
        text = f"<p>Mean {line.mean:.4g}, standard deviation {line.std:.4g}{_compared(line)}.</p>"
        return f"<h2>Explained value</h2>{text}"
    drawn = _curve(lines) if kind == "lag" else _bars(lines)
    return f"<h2>{HEADINGS[kind]}: {escape(name)}</h2>{drawn}"


def _compared(line: Line) -> str:
    if line.reference_mean is None:
        return ""
    drift = "" if line.drift is None else f": drift {line.drift:+.2f}"
    return f"; reference {line.reference_mean:.4g}{drift}"


def _bars(lines: Sequence[Line]) -> str:
    shown = sorted(lines, key=lambda line: -line.mean)[:MAX_BARS]
    largest = max([*(line.mean for line in shown), *(line.reference_mean or 0.0 for line in shown)]) or 1.0
    rows = "".join(_bar(line, largest) for line in shown)
    left = f"<p>{len(lines) - len(shown)} more in the table.</p>" if len(lines) > len(shown) else ""
    return f"<table>{rows}</table>{left}"


def _bar(line: Line, largest: float) -> str:
    bars = f'<div style="width:{100 * line.mean / largest:.1f}%"></div>'
    if line.reference_mean is not None:
        bars += f'<div class="old" style="width:{100 * line.reference_mean / largest:.1f}%"></div>'
    return f'<tr><th>{escape(line.name)}</th><td>{line.mean:.4g}{_compared(line)}</td><td class="bar">{bars}</td></tr>'


def _curve(lines: Sequence[Line]) -> str:
    curves = {"this run": [line.mean for line in lines]}
    if any(line.reference_mean is not None for line in lines):
        old = (line.reference_mean for line in lines)
        curves["reference"] = [math.nan if mean is None else mean for mean in old]
    x = [float(line.position) for line in lines]
    label = "steps before the last"
    return line_chart(x, curves, "", label, "mean |relevance|")


def worst_drift(lines: Sequence[Line]) -> Line | None:
    """Returns the line that has drifted furthest from the reference."""
    drifting = [line for line in lines if line.drift is not None]
    return max(drifting, key=lambda line: abs(line.drift or 0.0), default=None)
