# SPDX-License-Identifier: Apache-2.0
"""Counts what each caller uses, in memory that all worker processes of a server share.

Requests and cost are counted in buckets: what a caller uses goes in, a minute's quota drains in a minute, evenly, and a
caller whose bucket is full must wait. So a caller may use a minute's quota at once, and then as much as drains.
Callers are distinguished by name, so a token that replaces another one of the same name continues its count.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from pathlib import Path

from lstm_explain.serving.shared_memory import SharedMemory

KEY_BYTES = 16  # of the hash of a name
PROCESSES = 128  # with open streams of one caller at the same time
SLOTS = 4096  # twice as many as a file of tokens may have names with quotas
MINUTE = 60.0

_BUCKET = struct.Struct("<dd")  # the level, and when it was right (time.monotonic, which all processes share)
_CELL = struct.Struct("<II")  # a process, and its open streams
REQUESTS, COST = KEY_BYTES, KEY_BYTES + _BUCKET.size
STREAMS = COST + _BUCKET.size
SLOT_BYTES = STREAMS + PROCESSES * _CELL.size


class Quotas:
    """path: of a file that the processes share; without it, the counts are this process's own. Thread-safe."""

    def __init__(self, path: Path | None = None) -> None:
        self._shared = SharedMemory(path, SLOTS * SLOT_BYTES)
        self._memory = self._shared.data
        self._places: dict[str, tuple[int, bytes]] = {}

    def add_request(self, name: str, most: int) -> float:
        """Counts a request of the caller. Returns 0, or the seconds to wait if `most` in a minute would be exceeded."""
        return self._add(name, REQUESTS, 1.0, most, most - 1.0)

    def add_cost(self, name: str, cost: float, most: int) -> float:
        """Counts the cost of a request. Returns 0, or the seconds to wait if nothing is left of `most` in a minute.

        A request that costs more than what is left is admitted, and the next ones wait for longer: otherwise one that
        costs more than a minute's quota could never run.
        """
        return self._add(name, COST, cost, most, most * (1.0 - 1e-9))

    def open_stream(self, name: str, most: int) -> bool:
        """Counts an open stream of the caller; returns whether there is room for it. Call `close_stream` afterwards."""
        with self._shared.locked():
            slot = self._slot(name)
            cells = [(at, *_CELL.unpack_from(self._memory, at)) for at in self._cells(slot)]
            if sum(count for _, _, count in cells) >= most:
                cells = [(at, pid, count if _is_alive(pid) else self._write(at, 0, 0)) for at, pid, count in cells]
                if sum(count for _, _, count in cells) >= most:
                    return False
            own = os.getpid()
            mine = [(at, count) for at, pid, count in cells if pid == own]
            at, count = (mine or [(at, 0) for at, _, count in cells if not count] or [(-1, 0)])[0]
            if at < 0:
                return False
            self._write(at, own, count + 1)
            return True

    def close_stream(self, name: str) -> None:
        with self._shared.locked():
            for at in self._cells(self._slot(name)):
                pid, count = _CELL.unpack_from(self._memory, at)
                if pid == os.getpid() and count:
                    self._write(at, pid, count - 1)

    def _add(self, name: str, field: int, amount: float, most: int, limit: float) -> float:
        """Adds to a bucket whose level is at most `limit`. Returns 0, or the seconds until it is."""
        with self._shared.locked():
            at = self._slot(name) + field
            level, since = _BUCKET.unpack_from(self._memory, at)
            now, rate = time.monotonic(), most / MINUTE
            level = max(0.0, level - (now - since) * rate)
            if level > limit + 1e-9:
                return float((level - limit) / rate)
            _BUCKET.pack_into(self._memory, at, level + amount, now)
            return 0.0

    def _slot(self, name: str) -> int:
        """Returns where the counts of a caller are: in the first slot, from the one that its hash selects, that is its
        own or free.
        """
        known, key = self._places.get(name) or (-1, hashlib.sha256(name.encode()).digest()[:KEY_BYTES])
        if known >= 0 and self._memory[known : known + KEY_BYTES] == key:
            return known
        first = int.from_bytes(key[:4], "little") % SLOTS
        for offset in range(SLOTS):
            at = (first + offset) % SLOTS * SLOT_BYTES
            found = self._memory[at : at + KEY_BYTES]
            if found == key or not any(found):
                break
        else:  # names of thousands of callers that have gone
            at = first * SLOT_BYTES
            self._memory[at : at + SLOT_BYTES] = bytes(SLOT_BYTES)
        self._memory[at : at + KEY_BYTES] = key
        self._places[name] = at, key
        return at

    def _cells(self, slot: int) -> range:
        return range(slot + STREAMS, slot + SLOT_BYTES, _CELL.size)

    def _write(self, at: int, pid: int, count: int) -> int:
        _CELL.pack_into(self._memory, at, pid, count)
        return count


def _is_alive(pid: int) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
