# SPDX-License-Identifier: Apache-2.0
"""Who hears of the progress of a request: a function of the caller, or a bar on the terminal or in the notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lstm_explain_client.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.progress import Progress

Report = Callable[[int, int], object]  # with the runs of the model that are done, and all that are expected
ProgressLike = bool | Report | None


def is_wanted(progress: ProgressLike) -> bool:
    """Return whether an argument asks for progress. A function may be falsy."""
    return progress is not None and progress is not False


class Reports:
    """What the requests of one call have asked for. Call `close` at the end.

    Bars go to stderr, and nowhere if that is neither a terminal nor a notebook.
    """

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._asked: dict[str, Report] = {}
        self._tasks: dict[str, Any] = {}

    def ask(self, identity: str, progress: ProgressLike, label: str) -> bool:
        """Note what a request asks for, and return whether it asks for anything. Raise InvalidRequest."""
        if not is_wanted(progress):
            return False
        if progress is not True and not callable(progress):
            raise InvalidRequest(f"progress is {progress!r}; expected True or a function", field="progress")
        self._asked[identity] = self._bar(identity, label) if progress is True else progress
        return True

    def tell(self, identity: str, done: int, total: int) -> None:
        report = self._asked.get(identity)
        if report is not None:
            report(done, total)

    def answered(self, identity: str) -> None:
        """Forget a request."""
        self._asked.pop(identity, None)
        task = self._tasks.pop(identity, None)
        if task is not None and self._bars is not None:
            self._bars.remove_task(task)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _bar(self, identity: str, label: str) -> Report:
        def report(done: int, total: int) -> None:
            bars = self._opened()
            if identity not in self._tasks:
                self._tasks[identity] = bars.add_task(label, total=total, completed=done)  # draws it at once
            bars.update(self._tasks[identity], completed=done, total=total)

        return report

    def _opened(self) -> Progress:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            console = Console(stderr=True)
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            shown = console.is_terminal or console.is_jupyter
            self._bars = Progress(*columns, console=console, transient=True, disable=not shown)
            self._bars.start()
        return self._bars
