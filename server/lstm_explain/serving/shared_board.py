# SPDX-License-Identifier: Apache-2.0
"""Memory that a worker shares with its parent process: a heartbeat, and the models that are running.

It outlives the worker. So the parent notices that a worker hangs, and knows which models were running when it crashed.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import IO

from lstm_explain.repository.model_folder import Tag

MAX_RUNS, RUN_BYTES, HEADER_BYTES = 256, 256, 64  # runs at a time, bytes of each, bytes before the first
_BEATS = struct.Struct("<Q")
_LENGTH = struct.Struct("<H")
NO_PLACE = -1


class SharedBoard:
    """fd: of a file from `new_file`; without it, the memory is not shared."""

    def __init__(self, fd: int = -1) -> None:
        self._memory = mmap.mmap(fd, HEADER_BYTES + MAX_RUNS * RUN_BYTES)
        self._beats = 0
        self._free = list(range(HEADER_BYTES, HEADER_BYTES + MAX_RUNS * RUN_BYTES, RUN_BYTES))

    def beat(self) -> None:
        """Sends a heartbeat."""
        self._beats += 1
        _BEATS.pack_into(self._memory, 0, self._beats)

    def beats(self) -> int:
        """Returns the number of heartbeats so far."""
        return int(_BEATS.unpack_from(self._memory)[0])

    def begin(self, tag: bytes) -> int:
        """Marks that a run begins; returns its place, which `end` takes. Thread-safe."""
        try:
            place = self._free.pop()
        except IndexError:
            return NO_PLACE
        start = place + _LENGTH.size
        self._memory[start : start + len(tag)] = tag  # shorter than a place: see NAME and VERSION in model_folder.py
        _LENGTH.pack_into(self._memory, place, len(tag))
        return place

    def end(self, place: int) -> None:
        """Marks that a run has ended."""
        if place != NO_PLACE:
            _LENGTH.pack_into(self._memory, place, 0)
            self._free.append(place)

    def running(self) -> set[Tag]:
        """Returns the versions whose runs have begun and not ended."""
        found = set()
        for place in range(HEADER_BYTES, HEADER_BYTES + MAX_RUNS * RUN_BYTES, RUN_BYTES):
            start, length = place + _LENGTH.size, _LENGTH.unpack_from(self._memory, place)[0]
            if length:
                found.add(Tag.decoded(self._memory[start : start + length]))
        return found

    def close(self) -> None:
        self._memory.close()


def new_file(folder: str) -> IO[bytes]:
    """Returns an open file that disappears with the last process that has it open."""
    path = os.path.join(folder, f"board-{os.urandom(8).hex()}")
    file = open(path, "w+b")  # noqa: SIM115 - the caller closes it
    os.unlink(path)
    file.truncate(HEADER_BYTES + MAX_RUNS * RUN_BYTES)
    return file
