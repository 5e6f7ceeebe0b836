# SPDX-License-Identifier: Apache-2.0
"""Sends the progress of a run, which computes in a thread, to its caller."""

from __future__ import annotations

import asyncio
import time

from lstm_explain.serving.stream import Send
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb

SECONDS_BETWEEN = 0.1  # also before the first message: whoever gets an answer earlier needs no progress


class ProgressMessages:
    """Receives the progress of one request of a stream, in any thread. Create it in the event loop.

    Where a run is repeated (a batch that failed as a whole), `done` waits until the new run has got as far.
    """

    def __init__(self, item_id: str, send: Send[pb.ExplainStreamResponse]) -> None:
        self._id, self._send, self._loop = item_id, send, asyncio.get_running_loop()
        self._next, self._done = time.monotonic() + SECONDS_BETWEEN, 0

    def __call__(self, done: int, total: int) -> None:
        self._done = max(self._done, done)
        now = time.monotonic()
        if now >= self._next:
            self._next = now + SECONDS_BETWEEN
            progress = pb.Progress(done=self._done, total=max(self._done, total))
            self._loop.call_soon_threadsafe(self._send, pb.ExplainStreamResponse(id=self._id, progress=progress))
