# SPDX-License-Identifier: Apache-2.0
"""Shows explanations for several targets as a page or in the terminal, drawn by `render`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from lstm_explain_client import naming, render, views
from lstm_explain_client.explained_batch import ExplainedBatch
from lstm_explain_client.render import html
from lstm_explain_client.render import terminal as tty
from lstm_explain_client.render.scale import clean
from lstm_explain_client.target_tables import Table, by_target, explained, summed

MOST_ROWS = 64  # targets with a row of their own
MOST_SECTIONS = 12  # targets whose features and ledger a page shows one by one

Several = Sequence[ExplainedBatch]


def page(explanations: Several, title: str, steps: Sequence[Any] | None) -> str:
    """Return a complete document: for each sample all targets side by side, their sum, and then each on its own."""
    first = explanations[0]
    sections: list[str | tuple[str, str]] = (
        [render.warnings(_warnings(explanations))] if _warnings(explanations) else []
    )
    for sample in range(len(first)):
        which = f"Sample {sample}: " if len(first) > 1 else ""
        sections.append((f"{which}{len(explanations)} targets", _overview(explanations, sample, steps)))
        for one in explained(explanations, sample)[:MOST_SECTIONS]:
            sections.append((naming.heading(one, sample), views.sample_html(one, sample, steps=steps)))
    if len(explanations) > MOST_SECTIONS:
        sections.append(f"<p>… and {len(explanations) - MOST_SECTIONS} more targets, which the first picture shows</p>")
    return html.page(sections, title or (f"{first.model}: why" if first.model else "Why"))


def notebook(explanations: Several) -> str:
    """Return all targets of the first sample side by side, as a fragment."""
    first = explanations[0]
    more = f"<p>… and {len(first) - 1} more samples</p>" if len(first) > 1 else ""
    return render.warnings(_warnings(explanations)) + _overview(explanations, 0, None) + more


def _overview(explanations: Several, sample: int, steps: Sequence[Any] | None) -> str:
    if left := _left_out(explanations, sample):
        items = "".join(f"<li>{html.text(line)}</li>" for line in left)
        note = html.fragment(f'<div class="lx-left-out">Not explained:<ul>{items}</ul></div>')
        if len(left) == len(explanations):
            return note
    else:
        note = ""
    sums = [table for table in summed(explanations, sample, steps) if len(table.rows) > 1]
    over = "; a cell is the sum over the features" if sums else ""
    parts = [note, f"<p>Each target by time step{over}.</p>", *map(_matrix, by_target(explanations, sample, steps))]
    if sums:
        parts += ["<p>Each feature by time step; a cell is the sum over the targets.</p>", *map(_matrix, sums)]
    return "".join(parts)


def _left_out(explanations: Several, sample: int) -> list[str]:
    """Return why a condition left the sample unexplained, for each such target."""
    return [why for one in explanations if (why := one.why_not(sample))]


def _matrix(table: Table) -> str:
    return render.matrix(table.relevance, table.rows, steps=table.steps, most_features=MOST_ROWS, total=table.total)


def terminal(explanations: Several, sample: int | None = None) -> Group:
    """Return tables of targets by time steps for every sample, or of one, for the terminal."""
    if not explanations:
        return Group(Text("no targets"))
    which = range(len(explanations[0])) if sample is None else (sample,)
    warned = _warnings(explanations)
    alerts = [tty.warnings(warned)] if warned else []
    return Group(*alerts, *(part for i in which for part in _sample(explanations, i)))


def _sample(explanations: Several, sample: int) -> Iterator[RenderableType]:
    first = explanations[0]
    which = f"Sample {sample}: " if len(first) > 1 else ""
    title = Text(clean(f"{which}{len(explanations)} targets"), "bold")
    yield title.append(f"  {clean(naming.how(first))}", "dim not bold")
    for line in _left_out(explanations, sample):
        yield Text(f"Not explained: {clean(line)}")
    for table in by_target(explanations, sample, None):
        yield _Heatmap(table)


@dataclass(frozen=True, eq=False)
class _Heatmap:
    """Target by step, as wide as the terminal allows."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label = min(tty.MOST_LABEL, max(map(len, self.table.rows)))
        width = max(10, min(tty.MOST_COLUMNS, options.max_width - label - tty.MOST_NUMBER - 10))
        yield tty.matrix(
            self.table.relevance, self.table.rows, steps=self.table.steps, width=width, most_features=MOST_ROWS
        )


def _warnings(explanations: Several) -> list[str]:
    return list(dict.fromkeys(warning for one in explanations for warning in one.warnings))
