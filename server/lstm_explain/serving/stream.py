"""Many requests over one stream: answers as they are ready, or in order, and memory that stays bounded."""

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


LARGE = 1 << 20  # bytes of a request that is done before the next of its stream is read


@dataclass(frozen=True)
class _End:
    """Nothing more comes in; `requests` came. `error` is why, if not because the caller was done."""

    requests: int
    error: Exception | None


async def answers(
    requests: AsyncIterator[Request],
    work: Callable[[Request], Coroutine[Any, Any, Answer]],
    window: int,
    *,
    in_order: bool = False,
    places: StreamPermits | None = None,
    streams: StreamLimit | None = None,
) -> AsyncGenerator[Answer, None]:
    """Yields work(request) for each, at most `window` requests read ahead of their answers, behind a large one none.

    in_order: answers in the order of the requests; else as they are ready. places: each request takes one of them,
    beside all other streams, before it is worked on. streams: what ends this one when it waits for its caller too long.

    What is taken from the iterator is on its way to the caller when the next answer is asked for: so a caller that
    does not read stops the reading of its requests. Raises what `requests` raises, when what came before is answered.
    To be closed: then it cancels what is at work, and waits for it.
    """
    flow = _Flow(requests, work, window, in_order, places)
    reader = flow.reader = asyncio.create_task(flow.read())
    answered, end = 0, None
    deadline = None if streams is None else asyncio.create_task(flow.end_when_idle(streams))
    try:
        while end is None or answered < end.requests:
            item = await flow.next.get()
            if isinstance(item, _End):
                end = item
                continue
            answer = await item
            flow.since, flow.writing = time.monotonic(), True
            yield answer
            flow.writing = False
            answered += 1
            flow.room.release()
    finally:
        if deadline is not None:
            deadline.cancel()
        await flow.stop(reader)
    if end.error is not None:
        raise end.error


class _Flow(Generic[Request, Answer]):
    def __init__(
        self,
        requests: AsyncIterator[Request],
        work: Callable[[Request], Coroutine[Any, Any, Answer]],
        window: int,
        in_order: bool,
        places: StreamPermits | None,
    ) -> None:
        self._requests = requests
        self._work = work
        self._in_order = in_order
        self._places = places
        self._at_work: set[asyncio.Task[Answer]] = set()
        self._handler = asyncio.current_task()
        self._ended: Error | None = None
        self.reader: asyncio.Task[None] | None = None
        self.since, self.writing = time.monotonic(), False
        self.room = asyncio.Semaphore(window)
        self.next: asyncio.Queue[asyncio.Task[Answer] | _End] = asyncio.Queue()

    async def read(self) -> None:
        count = 0
        error: Exception | None = None
        try:
            async for request in self._requests:
                await self.room.acquire()
                if self._places is not None:
                    await self._places.take()
                task = self._begin(request)
                count += 1
                if received.get() > LARGE:
                    await asyncio.wait([task])
        except asyncio.CancelledError:
            if self._ended is None:
                raise
            error = self._ended
        except Exception as problem:  # told by whoever takes the answers
            error = problem
        self.next.put_nowait(_End(count, error))

    def waits_since(self) -> float | None:
        return None if self._at_work and not self.writing else self.since

    def end(self, error: Error) -> None:
        self._ended = error
        if self.writing and self._handler is not None:  # nobody takes what it would be told
            self._handler.cancel()
        elif self.reader is not None:
            self.reader.cancel()

    async def end_when_idle(self, streams: StreamLimit) -> None:
        """Ends the stream when its caller has let it wait for too long."""
        streams.open.add(self)
        try:
            while True:
                since = self.waits_since()
                left = streams.deadline if since is None else since + streams.deadline - time.monotonic()
                if left <= 0:
                    return self.end(Idle(f"nothing came, and nothing was taken, for {streams.deadline:g} seconds"))
                await asyncio.sleep(left)
        finally:
            streams.open.discard(self)

    async def stop(self, reader: asyncio.Task[None]) -> None:
        tasks = [reader, *self._at_work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, request: Request) -> asyncio.Task[Answer]:
        task = asyncio.create_task(self._work(request))
        self._at_work.add(task)
        task.add_done_callback(self._done)
        if self._in_order:
            self.next.put_nowait(task)
        return task

    def _done(self, task: asyncio.Task[Answer]) -> None:
        self._at_work.discard(task)
        self.since = time.monotonic()
        if self._places is not None:
            self._places.give_back()
        if not self._in_order:
            self.next.put_nowait(task)
