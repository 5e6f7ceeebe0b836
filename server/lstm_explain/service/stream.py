"""Many requests over one stream: answers in the order in which they are ready, and memory that stays bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _End:
    """Nothing more comes in; `requests` came. `error` is why, if not because the caller was done."""

    requests: int
    error: Exception | None


def answers(
    requests: Iterator[Request], work: Callable[[Request], Answer], pool: Executor, window: int
) -> Iterator[Answer]:
    """Yields work(request) for each, at most `window` requests read ahead of their answers.

    What is taken from the iterator is on its way to the caller when the next answer is asked for: so a caller that
    does not read stops the reading of its requests. Raises what `requests` raises, when what came before is answered.
    """
    return _Flow(requests, work, pool, window).run()


class _Flow(Generic[Request, Answer]):
    def __init__(
        self, requests: Iterator[Request], work: Callable[[Request], Answer], pool: Executor, window: int
    ) -> None:
        self._requests = requests
        self._work = work
        self._pool = pool
        self._room = threading.Semaphore(window)
        self._done: SimpleQueue[Answer | Exception | _End] = SimpleQueue()
        self._closed = False

    def run(self) -> Iterator[Answer]:
        threading.Thread(target=self._read, name="stream-reader", daemon=True).start()
        answered, end = 0, None
        try:
            while end is None or answered < end.requests:
                item = self._done.get()
                if isinstance(item, _End):
                    end = item
                    continue
                if isinstance(item, Exception):
                    raise item
                yield item
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
                if self._closed:
                    break
                self._pool.submit(self._answer, request)
                count += 1
        except Exception as problem:  # told by whoever takes the answers
            error = problem
        self._done.put(_End(count, error))

    def _answer(self, request: Request) -> None:
        try:
            self._done.put(self._work(request))
        except Exception as error:  # told by whoever takes the answers
            self._done.put(error)
