"""Many requests over one stream: answers as they are ready, or in order, and memory that stays bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from lstm_explain.service.errors import Dropped
from lstm_explain.service.gate import Places

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _End:
    """Nothing more comes in; `requests` came. `error` is why, if not because the caller was done."""

    requests: int
    error: Exception | None


def answers(
    requests: Iterator[Request],
    work: Callable[[Request], Answer],
    pool: Executor,
    window: int,
    *,
    in_order: bool = False,
    places: Places | None = None,
) -> Iterator[Answer]:
    """Yields work(request) for each, at most `window` requests read ahead of their answers.

    in_order: answers in the order of the requests; else as they are ready. places: each request takes one of them,
    beside all other streams, before it is worked on.

    What is taken from the iterator is on its way to the caller when the next answer is asked for: so a caller that
    does not read stops the reading of its requests. Raises what `requests` raises, when what came before is answered.
    """
    return _Flow(requests, work, pool, window, in_order, places).run()


class _Flow(Generic[Request, Answer]):
    def __init__(
        self,
        requests: Iterator[Request],
        work: Callable[[Request], Answer],
        pool: Executor,
        window: int,
        in_order: bool,
        places: Places | None,
    ) -> None:
        self._requests = requests
        self._work = work
        self._pool = pool
        self._room = threading.Semaphore(window)
        self._in_order = in_order
        self._places = places
        self._next: SimpleQueue[Future[Answer] | _End] = SimpleQueue()
        self._closed = False

    def run(self) -> Iterator[Answer]:
        threading.Thread(target=self._read, name="stream-reader", daemon=True).start()
        answered, end = 0, None
        try:
            while end is None or answered < end.requests:
                item = self._next.get()
                if isinstance(item, _End):
                    end = item
                    continue
                yield item.result()
                answered += 1
                self._room.release()
        finally:
            self._closed = True
            self._room.release()
        if end.error is not None:
            raise end.error

    def _read(self) -> None:
        count, error = 0, None
        try:
            for request in self._requests:
                self._room.acquire()
                if self._closed or not self._take():
                    break
                future = self._pool.submit(self._begin, request)
                if self._places is not None:
                    future.add_done_callback(self._give_back)
                if self._in_order:
                    self._next.put(future)
                else:
                    future.add_done_callback(self._next.put)
                count += 1
        except Exception as problem:  # told by whoever takes the answers
            error = problem
        self._next.put(_End(count, error))

    def _begin(self, request: Request) -> Answer:
        """What has not begun when the caller leaves never does."""
        if self._closed:
            raise Dropped("the stream is over")
        return self._work(request)

    def _take(self) -> bool:
        return self._places is None or self._places.take(lambda: not self._closed)

    def _give_back(self, _: Future[Answer]) -> None:
        assert self._places is not None
        self._places.give_back()
