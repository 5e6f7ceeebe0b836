# SPDX-License-Identifier: Apache-2.0
"""Adds up the shares of the most recent samples of each version, in memory that all workers share.

It holds sums over samples and no sample. The window of a version consists of BLOCKS blocks of BLOCK_ROWS samples. It is
compared with the reference whenever a block is full; the next block then takes the place of the oldest one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.repository.drift_reference import MAX_POSITIONS, DriftReference
from lstm_explain.repository.model_folder import Tag
from lstm_explain.repository.relevance_shares import Array
from lstm_explain.serving.drift.statistic import distances
from lstm_explain.serving.drift.summaries import MAX_VERSIONS, SUMMARY, TAG_BYTES
from lstm_explain.serving.shared_memory import SharedMemory

BLOCKS, BLOCK_ROWS = 5, 100

_SUMMARY = np.dtype([("tag", f"S{TAG_BYTES}"), ("samples", "<u8"), ("comparisons", "<u8"), ("drift", "<f8")])
_WINDOW = np.dtype(
    [
        ("block", "<u8"),  # that is being filled
        ("rows", "<u8", (BLOCKS,)),
        ("sums", "<f8", (BLOCKS, 2, MAX_POSITIONS)),  # of shares and of their squares
    ]
)
assert _SUMMARY.itemsize == SUMMARY.size


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a window with the reference.

    drift: the largest distance, see `distances`. before: the one of the comparison before this one, or 0. position: of
    the share with the largest distance. mean: its mean over the window.
    """

    drift: float
    before: float
    position: int
    mean: float


class DriftWindows:
    """path: of the file that the processes share; without it, the windows are this process's own. Thread-safe."""

    def __init__(self, path: Path | None = None) -> None:
        head = MAX_VERSIONS * _SUMMARY.itemsize
        self._shared = SharedMemory(path, head + MAX_VERSIONS * _WINDOW.itemsize)
        self._summaries: npt.NDArray[Any] = np.frombuffer(self._shared.data, _SUMMARY, MAX_VERSIONS)
        self._windows: npt.NDArray[Any] = np.frombuffer(self._shared.data, _WINDOW, MAX_VERSIONS, head)
        # Views of the fields: to take one takes as long as to add to it.
        self._tags, self._samples = self._summaries["tag"], self._summaries["samples"]
        self._blocks, self._rows, self._sums = (self._windows[name] for name in ("block", "rows", "sums"))
        self._places: dict[bytes, int] = {}

    def add(self, tag: bytes, shares: Array, reference: DriftReference) -> Comparison | None:
        """Adds a sample of the version with this tag, and compares the window if that fills a block. A version beyond
        MAX_VERSIONS is not measured.
        """
        with self._shared.locked():
            place = self._place(tag)
            if place is None:
                return None
            block, size = int(self._blocks[place]) % BLOCKS, len(shares)
            sums = self._sums[place, block]
            sums[0, :size] += shares
            sums[1, :size] += shares * shares
            self._samples[place] += 1
            rows = self._rows[place, block] = int(self._rows[place, block]) + 1
            if rows < BLOCK_ROWS:
                return None
            return _compared(self._summaries[place], self._windows[place], reference)

    def keep(self, versions: Collection[tuple[str, int]]) -> None:
        """Forgets all versions but these."""
        with self._shared.locked():
            for place, tag in self._used():
                if Tag.decoded(tag).key not in versions:
                    self._clear(place)

    def _place(self, tag: bytes) -> int | None:
        """Returns where the window of a version is. A version whose files have changed begins again."""
        place = self._places.get(tag)
        if place is not None and self._tags[place] == tag:
            return place
        own = tag[: tag.rindex(b"\0") + 1]  # the name and the version, without the state of the files
        place = next((at for at, other in self._used() if other.startswith(own)), None)
        if place is None:
            place = next((at for at in range(MAX_VERSIONS) if not self._tags[at]), None)
        if place is not None:
            if self._tags[place] != tag:
                self._clear(place)
                self._tags[place] = tag
            self._places[tag] = place
        return place

    def _used(self) -> Iterator[tuple[int, bytes]]:
        return ((place, tag) for place, tag in enumerate(self._tags.tolist()) if tag)

    def _clear(self, place: int) -> None:
        self._summaries[place], self._windows[place] = np.zeros((), _SUMMARY), np.zeros((), _WINDOW)


def _compared(summary: Any, window: Any, reference: DriftReference) -> Comparison:
    """Compares the window and begins the next block."""
    sums = window["sums"][:, :, : len(reference.means)].sum(axis=0)
    rows = int(window["rows"].sum())
    found = distances(reference, rows, *sums)
    position, before = int(found.argmax()), float(summary["drift"])
    summary["drift"], summary["comparisons"] = found[position], summary["comparisons"] + 1
    block = window["block"] = (int(window["block"]) + 1) % BLOCKS
    window["sums"][block], window["rows"][block] = 0.0, 0
    return Comparison(float(found[position]), before, position, float(sums[0, position] / rows))
