# SPDX-License-Identifier: Apache-2.0
"""Implements just enough of HTTP/2 to open streams and reset them at once, which no gRPC client does."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
END_STREAM = ACK = 1
END_HEADERS = 4
CANCEL = struct.pack(">I", 8)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()  # of at most 126 bytes


def headers(path: str) -> bytes:
    """The headers of a gRPC call, as literals without indexing."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
              "content-type": "application/grpc", "te": "trailers"}  # fmt: skip
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)


class Connection:
    """Answers the frames that need an answer, and drops the others."""

    def __init__(self, own: socket.socket) -> None:
        self._socket, self._lock = own, threading.Lock()
        self._next = 1
        with suppress(ConnectionError):  # the server has closed it at once
            self._send(HELLO)
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, path: str, body: bytes | None, count: int) -> range:
        """Opens streams, leaves them open, and returns their numbers. body: a message to send on each, or None."""
        streams = range(self._next, self._next + 2 * count, 2)
        self._next = streams.stop
        head, message = headers(path), None if body is None else b"\0" + struct.pack(">I", len(body)) + body
        data = b""
        for stream in streams:
            data += frame(HEADERS, END_HEADERS, stream, head)
            data += b"" if message is None else frame(DATA, END_STREAM, stream, message)
        self._send(data)
        return streams

    def reset(self, streams: range) -> None:
        self._send(b"".join(frame(RST_STREAM, 0, stream, CANCEL) for stream in streams))

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._socket.sendall(data)

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as coming:
                while head := coming.read(9):
                    payload = coming.read(int.from_bytes(head[:3], "big"))
                    if head[3] in (SETTINGS, PING) and not head[4] & ACK:
                        self._send(frame(head[3], ACK, 0, payload if head[3] == PING else b""))
        except OSError:
            pass


@contextmanager
def connected(address: str) -> Iterator[Connection]:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as own:
        yield Connection(own)
        with suppress(OSError):  # the server has closed it
            own.shutdown(socket.SHUT_RDWR)
