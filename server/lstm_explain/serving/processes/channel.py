# SPDX-License-Identifier: Apache-2.0
"""Carries messages between a worker and its parent: one JSON object per line, over a pair of sockets.

To the worker: `quarantine`, at the start and whenever it changes (see quarantine.py); `listen`, when it must serve.
From the worker: `warm`, when it is able to serve; `ready`, when it serves; `leaving`, when it is about to stop;
`failed`, with the reason, when it cannot start; `released`, when a version leaves quarantine. When one process ends,
the other one reads the end of the file.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

Message = dict[str, Any]


class Channel:
    """One end of the pair of sockets."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._pending = b""

    def send(self, kind: str, **fields: object) -> None:
        """Sends a message. Does nothing if the other process has gone: the reader notices that."""
        with suppress(OSError):
            self.socket.sendall(json.dumps({"kind": kind, **fields}).encode() + b"\n")

    def messages(self) -> Iterator[Message]:
        """Yields every message as it arrives, until the other process has gone."""
        with self.socket.makefile("rb") as lines, suppress(OSError):
            for line in lines:
                yield json.loads(line)

    def poll(self) -> list[Message] | None:
        """Returns the messages since the last call, without waiting; None once the other process has gone."""
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
