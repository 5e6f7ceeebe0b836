# SPDX-License-Identifier: Apache-2.0
"""Draws the progress bar of commands that may take long: on stderr, and only if that is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from lstm_explain.progress import Report


def open_bar(*columns: ProgressColumn) -> Progress:
    """Returns a bar that disappears at the end. Use it as a context manager."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeElapsedColumn())
    return Progress(*shown, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def runs_bar(method: str) -> Iterator[Report]:
    """Yields what receives the progress of an explanation. The bar appears with the first report."""
    from rich.progress import MofNCompleteColumn

    with open_bar(MofNCompleteColumn()) as bar:
        task = bar.add_task(f"{method}: runs of the model", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)
