"""What a worker and its parent say to each other: a JSON object a line, over a pair of sockets.

To the worker: `verdicts` (see quarantine.py), first of all and whenever they change; `listen`, once it is to serve.
From it: `warm`, when it could serve; `ready`, when it does; `leaving`, when it has been told to end; `failed`, with the
reason, when it cannot start; `trusted`, when a version is not to stay in quarantine.
When either of the two has gone, the other one sees the end of the file.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

Message = dict[str, Any]


class Control:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._pending = b""

    def tell(self, what: str, **more: object) -> None:
        """Nothing happens if the other process has gone: whoever reads finds that out."""
        with suppress(OSError):
            self.socket.sendall(json.dumps({"what": what, **more}).encode() + b"\n")

    def heard(self) -> Iterator[Message]:
        """Waits for every message, until the other process has gone."""
        with self.socket.makefile("rb") as lines, suppress(OSError):
            for line in lines:
                yield json.loads(line)

    def news(self) -> list[Message] | None:
        """What has come since the last time, without waiting; None once the other process has gone."""
        try:
            data = self.socket.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self._pending = (self._pending + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.socket.close()
