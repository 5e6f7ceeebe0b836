"""Many requests over one stream: answers as they are ready, or in order, and memory that stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lstm_explain.service.gate import Places

Request = TypeVar("Request")
Answer = TypeVar("Answer")


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
    places: Places | None = None,
) -> AsyncGenerator[Answer, None]:
    """Yields work(request) for each, at most `window` requests read ahead of their answers.

    in_order: answers in the order of the requests; else as they are ready. places: each request takes one of them,
    beside all other streams, before it is worked on.

    What is taken from the iterator is on its way to the caller when the next answer is asked for: so a caller that
    does not read stops the reading of its requests. Raises what `requests` raises, when what came before is answered.
    To be closed: then it cancels what is at work, and waits for it.
    """
    flow = _Flow(requests, work, window, in_order, places)
    reader = asyncio.create_task(flow.read())
    answered, end = 0, None
    try:
        while end is None or answered < end.requests:
            item = await flow.next.get()
            if isinstance(item, _End):
                end = item
                continue
            yield await item
            answered += 1
            flow.room.release()
    finally:
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
        places: Places | None,
    ) -> None:
        self._requests = requests
        self._work = work
        self._in_order = in_order
        self._places = places
        self._at_work: set[asyncio.Task[Answer]] = set()
        self.room = asyncio.Semaphore(window)
        self.next: asyncio.Queue[asyncio.Task[Answer] | _End] = asyncio.Queue()

    async def read(self) -> None:
        count, error = 0, None
        try:
            async for request in self._requests:
                await self.room.acquire()
                if self._places is not None:
                    await self._places.take()
                self._begin(request)
                count += 1
        except Exception as problem:  # told by whoever takes the answers
            error = problem
        self.next.put_nowait(_End(count, error))

    async def stop(self, reader: asyncio.Task[None]) -> None:
        tasks = [reader, *self._at_work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, request: Request) -> None:
        task = asyncio.create_task(self._work(request))
        self._at_work.add(task)
        task.add_done_callback(self._done)
        if self._in_order:
            self.next.put_nowait(task)

    def _done(self, task: asyncio.Task[Answer]) -> None:
        self._at_work.discard(task)
        if self._places is not None:
            self._places.give_back()
        if not self._in_order:
            self.next.put_nowait(task)
