"""Memory that a worker shares with the process that started it: signs of life, and which models are running.

What is written here outlives the worker. So its parent sees that a worker has come to a standstill, and, when one has
crashed, what it was running.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import IO

from lstm_explain.repository.model_folder import Tag

PLACES, PLACE, HEAD = 256, 256, 64  # so many runs at a time, bytes of each, bytes before the first
_BEATS = struct.Struct("<Q")
_LENGTH = struct.Struct("<H")
NOWHERE = -1


class SharedBoard:
    """fd: of a file from `new_file`. Without it, memory that is shared with nobody."""

    def __init__(self, fd: int = -1) -> None:
        self._memory = mmap.mmap(fd, HEAD + PLACES * PLACE)
        self._beats = 0
        self._free = list(range(HEAD, HEAD + PLACES * PLACE, PLACE))

    def beat(self) -> None:
        """Says that the worker is alive."""
        self._beats += 1
        _BEATS.pack_into(self._memory, 0, self._beats)

    def beats(self) -> int:
        """How often it has said so."""
        return int(_BEATS.unpack_from(self._memory)[0])

    def begin(self, tag: bytes) -> int:
        """A run begins; to be given to `end`. Any thread may call both."""
        try:
            place = self._free.pop()
        except IndexError:
            return NOWHERE
        start = place + _LENGTH.size
        self._memory[start : start + len(tag)] = tag  # which is shorter: see layout.NAME and VERSION
        _LENGTH.pack_into(self._memory, place, len(tag))
        return place

    def end(self, place: int) -> None:
        if place != NOWHERE:
            _LENGTH.pack_into(self._memory, place, 0)
            self._free.append(place)

    def running(self) -> set[Tag]:
        """What has begun and not ended."""
        found = set()
        for place in range(HEAD, HEAD + PLACES * PLACE, PLACE):
            start, length = place + _LENGTH.size, _LENGTH.unpack_from(self._memory, place)[0]
            if length:
                found.add(Tag.decoded(self._memory[start : start + length]))
        return found

    def close(self) -> None:
        self._memory.close()


def new_file(folder: str) -> IO[bytes]:
    """An open file that is gone with the last process that has it open."""
    path = os.path.join(folder, f"board-{os.urandom(8).hex()}")
    file = open(path, "w+b")  # noqa: SIM115 - whoever asked closes it
    os.unlink(path)
    file.truncate(HEAD + PLACES * PLACE)
    return file
