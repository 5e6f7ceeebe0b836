# SPDX-License-Identifier: Apache-2.0
"""Prints the measures in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lstm_explain.evaluate.summary import Summary


@contextmanager
def follow(count: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=count)
        yield lambda name: bar.update(task, advance=1, description=name)


def print_summary(summary: Summary) -> None:
    console = Console()
    console.print(_measures(summary))
    if len(summary.agreement.names) > 1:
        console.print(_agreement(summary))
    if summary.randomisation is not None:
        console.print(_randomisation(summary))


def _measures(summary: Summary) -> Table:
    table = _table("mean score over a curve, and shares of the explained value", "method", numbers=4)
    for heading, column in zip(
        ("deletion (lower is better)", "insertion (higher is better)", "absorbed", "missing"),
        table.columns[1:],
        strict=True,
    ):
        column.header = heading
    for name, (down, up, absorbed, missing) in summary.rows():
        table.add_row(name, _number(down), _number(up), _percent(absorbed), _percent(missing))
    return table


def _agreement(summary: Summary) -> Table:
    names = summary.agreement.names
    table = _table("rank correlation between methods", "", numbers=len(names))
    for name, column in zip(names, table.columns[1:], strict=True):
        column.header = name
    for name, row in zip(names, summary.agreement.correlation, strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in row))
    return table


def _randomisation(summary: Summary) -> Table:
    checked = summary.randomisation
    assert checked is not None
    title = "rank correlation with the trained model's relevance ± its spread, weights randomised from the output to"
    table = _table(title, "node", numbers=len(checked.correlation))
    for name, column in zip(checked.correlation, table.columns[1:], strict=True):
        column.header = name
    for i, node in enumerate(checked.nodes):
        table.add_row(node, *(f"{c[i]:.2f} ± {checked.spread[name][i]:.2f}" for name, c in checked.correlation.items()))
    return table


def _table(title: str, first: str, *, numbers: int) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for _ in range(numbers):
        table.add_column(justify="right")
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"
