# SPDX-License-Identifier: Apache-2.0
"""Shows the progress of a job, and its totals at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lstm_explain.batch.shard import ShardResult

LINE_INTERVAL = 30.0  # seconds between lines where stderr is not a terminal


@dataclass
class Total:
    """The sum of all finished shards.

    worst, warned, quantity, left_out: as in ShardResult. before: rows of earlier runs.
    """

    rows: int = 0
    failed: int = 0
    worst: float = 0.0
    worst_at: str = ""
    before: int = 0
    memory: int = 0
    seconds: float = 0.0
    warned: int = 0
    quantity: str = ""
    left_out: int = 0

    def add(self, done: ShardResult) -> None:
        self.rows, self.failed = self.rows + done.rows, self.failed + done.failed
        self.memory = max(self.memory, done.memory)
        self.left_out += done.left_out
        self.warned, self.quantity = self.warned + done.warned, done.quantity or self.quantity
        if done.worst > self.worst:
            self.worst, self.worst_at = done.worst, done.worst_at
        if done.before:
            self.before += done.rows + done.failed

    @property
    def new(self) -> int:
        """Rows of this run, explained or failed."""
        return self.rows + self.failed - self.before

    @property
    def explained(self) -> int:
        """Rows with an explanation for at least one target."""
        return self.rows - self.left_out

    @property
    def rate(self) -> float:
        return self.new / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "rate": self.rate}


@contextmanager
def follow(rows: int, total: Total) -> Iterator[Callable[[], None]]:
    """Yields a function to call whenever `total` has grown. Shows a bar if stderr is a terminal, otherwise prints
    lines.
    """
    console, began = Console(stderr=True), time.monotonic()
    rate = TextColumn("{task.fields[rate]}")
    columns = (
        TextColumn("explaining"),
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=rows, completed=total.before, rate="")
        last = began

        def update() -> None:
            nonlocal last
            now = time.monotonic()
            total.seconds = now - began
            bar.update(task, completed=total.before + total.new, rate=f"{total.rate:,.0f} rows/s")
            if not console.is_terminal and now - last >= LINE_INTERVAL:
                last = now
                left = (rows - total.before - total.new) / total.rate if total.rate else 0.0
                progress = (
                    f"{total.before + total.new:,} of {rows:,} rows, {total.rate:,.0f} rows/s, {left:,.0f} s left"
                )
                print(f"lstm-explain: {progress}", file=sys.stderr, flush=True)

        yield update


def print_total(total: Total, output: Path) -> None:
    at = f", at {total.worst_at}" if total.worst_at else ""
    print(f"{total.explained:,} rows explained, {total.failed:,} failed")
    if total.left_out:
        print(f"rows that do not meet the condition: {total.left_out:,}; the column `not_explained` says why")
    if total.warned:
        print(f"rows with a warning: {total.warned:,}, in the column `warning`")
    print(f"{total.new:,} of them in this run, in {total.seconds:,.1f} s: {total.rate:,.0f} rows/s")
    print(f"largest residual: {total.worst:.1e} of the explained value{at}")
    print(f"rows in {output / 'rows'}" + (f", failures in {output / 'errors'}" if total.failed else ""))
