# SPDX-License-Identifier: Apache-2.0
"""What the parent process reads of the drift that its workers measure: the head of their shared file.

It needs no NumPy, which the parent does not load.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from lstm_explain.repository.model_folder import Tag

MAX_VERSIONS = 100  # whose drift is measured at a time
TAG_BYTES = 256  # longer than any tag: see NAME and VERSION in model_folder.py
SUMMARY = struct.Struct(f"<{TAG_BYTES}sQQd")  # tag, samples, comparisons, and the result of the last one


@dataclass(frozen=True)
class VersionDrift:
    """samples: of the version so far. drift: of the last comparison; None before the first one."""

    model: str
    version: int
    samples: int
    drift: float | None


def windows_file(announcements: Path) -> Path:
    """Returns the file that the processes of one server share. announcements: see Settings."""
    return announcements.with_suffix(".drift")


def read(path: Path) -> list[VersionDrift]:
    """Returns the versions that have samples."""
    try:
        with path.open("rb") as file:
            head = file.read(MAX_VERSIONS * SUMMARY.size)
    except FileNotFoundError:  # no worker has started yet, or drift is not measured
        return []
    found = []
    for place in range(0, len(head), SUMMARY.size):
        tag, samples, comparisons, drift = SUMMARY.unpack_from(head, place)
        if samples:
            try:
                name, version, _ = Tag.decoded(tag.rstrip(b"\0"))
            except ValueError:  # a worker is just clearing the place
                continue
            found.append(VersionDrift(name, version, samples, drift if comparisons else None))
    return found
