# SPDX-License-Identifier: Apache-2.0
"""Answers the requests of one stream, in order or as answers are ready, in bounded memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lstm_explain.errors import Error
from lstm_explain.serving.calls import received
from lstm_explain.serving.errors import Idle
from lstm_explain.serving.scheduling.admission import StreamLimit, StreamPermits

Request = TypeVar("Request")
Answer = TypeVar("Answer")


Send = Callable[[Answer], None]
Work = Callable[[Request, Send[Answer]], Coroutine[Any, Any, Answer]]

LARGE_BYTES = 1 << 20  # a request of more bytes is answered before the next one of its stream is read


@dataclass(frozen=True)
class _End:
    """Marks the end of the requests.

    requests: how many there were. error: why the stream ended, unless the caller ended it.
    """

    requests: int
    error: Exception | None


async def answers(
    requests: AsyncIterator[Request],
    work: Work[Request, Answer],
    window: int,
    *,
    in_order: bool = False,
    permits: StreamPermits | None = None,
    streams: StreamLimit | None = None,
) -> AsyncGenerator[Answer, None]:
    """Yields work(request, send) for each request. At most `window` requests are read ahead of their answers.

    work: may call `send`, in the event loop, with messages that precede its answer. Of those that wait to be written,
    the newest is kept; once there is an answer, none is sent.
    in_order: yields answers in the order of the requests, instead of as they are ready. permits: each request takes one
    before it begins; all streams share them. streams: ends this stream when it waits too long for its caller.

    The next answer is requested when the last one has been written, so a caller that does not read its answers stops
    the reading of its requests. Raises what `requests` raises, once earlier requests are answered. Closing the
    generator cancels running requests and waits for them.
    """
    flow = _Flow(requests, work, window, in_order, permits)
    reader = flow.reader = asyncio.create_task(flow.read())
    answered, end = 0, None
    idle_check = None if streams is None else asyncio.create_task(flow.end_when_idle(streams))
    try:
        while end is None or answered < end.requests:
            item = await flow.next.get()
            if isinstance(item, _End):
                end = item
                continue
            last = isinstance(item, asyncio.Task)
            answer = await item if isinstance(item, asyncio.Task) else item.take()
            if answer is None:
                continue
            flow.last_progress, flow.writing = time.monotonic(), True
            yield answer
            flow.writing = False
            if last:
                answered += 1
                flow.room.release()
    finally:
        if idle_check is not None:
            idle_check.cancel()
        await flow.stop(reader)
    if end.error is not None:
        raise end.error


class _Early(Generic[Answer]):
    """The messages of one request that precede its answer: the newest of them, until it is written."""

    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self._queue = queue
        self._newest: Answer | None = None
        self._over = False

    def send(self, message: Answer) -> None:
        if not self._over:
            if self._newest is None:
                self._queue.put_nowait(self)
            self._newest = message

    def take(self) -> Answer | None:
        """Returns the message to write; None where the answer is there already."""
        message, self._newest = self._newest, None
        return message

    def end(self) -> None:
        self._newest, self._over = None, True


class _Flow(Generic[Request, Answer]):
    """The state of one stream.

    last_progress: when the caller last did its part, or an answer became ready (time.monotonic). writing: whether an
    answer is being written to the caller. room: counts the requests that may still be read ahead. next: what is yielded
    next: requests with an answer, messages that precede one, and at last an _End.
    """

    def __init__(
        self,
        requests: AsyncIterator[Request],
        work: Work[Request, Answer],
        window: int,
        in_order: bool,
        permits: StreamPermits | None,
    ) -> None:
        self._requests = requests
        self._work = work
        self._in_order = in_order
        self._permits = permits
        self._running: set[asyncio.Task[Answer]] = set()
        self._handler = asyncio.current_task()
        self._ended: Error | None = None
        self.reader: asyncio.Task[None] | None = None
        self.last_progress, self.writing = time.monotonic(), False
        self.room = asyncio.Semaphore(window)
        self.next: asyncio.Queue[asyncio.Task[Answer] | _Early[Answer] | _End] = asyncio.Queue()

    async def read(self) -> None:
        count = 0
        error: Exception | None = None
        try:
            async for request in self._requests:
                await self.room.acquire()
                if self._permits is not None:
                    await self._permits.acquire()
                task = self._begin(request)
                count += 1
                if received.get() > LARGE_BYTES:
                    await asyncio.wait([task])
        except asyncio.CancelledError:
            if self._ended is None:
                raise
            error = self._ended
        except Exception as raised:  # raised again by `answers`
            error = raised
        self.next.put_nowait(_End(count, error))

    def idle_since(self) -> float | None:
        return None if self._running and not self.writing else self.last_progress

    def end(self, error: Error) -> None:
        self._ended = error
        if self.writing and self._handler is not None:  # the caller does not read, so it cannot receive the error
            self._handler.cancel()
        elif self.reader is not None:
            self.reader.cancel()

    async def end_when_idle(self, streams: StreamLimit) -> None:
        """Ends the stream when it has waited for its caller for too long."""
        streams.open.add(self)
        try:
            while True:
                since = self.idle_since()
                left = streams.timeout if since is None else since + streams.timeout - time.monotonic()
                if left <= 0:
                    return self.end(
                        Idle(f"the caller sent no request and read no answer for {streams.timeout:g} seconds")
                    )
                await asyncio.sleep(left)
        finally:
            streams.open.discard(self)

    async def stop(self, reader: asyncio.Task[None]) -> None:
        tasks = [reader, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, request: Request) -> asyncio.Task[Answer]:
        early = _Early[Answer](self.next)
        task = asyncio.create_task(self._work(request, early.send))
        self._running.add(task)
        task.add_done_callback(lambda _: early.end())
        task.add_done_callback(self._done)
        if self._in_order:
            self.next.put_nowait(task)
        return task

    def _done(self, task: asyncio.Task[Answer]) -> None:
        self._running.discard(task)
        self.last_progress = time.monotonic()
        if self._permits is not None:
            self._permits.release()
        if not self._in_order:
            self.next.put_nowait(task)
