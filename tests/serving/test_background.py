# SPDX-License-Identifier: Apache-2.0
"""Blocking work runs in background threads, and learns there when its caller leaves."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from lstm_explain.errors import drop_tracebacks
from lstm_explain.serving.loop import Loop
from lstm_explain.serving.scheduling.admission import PendingCall
from lstm_explain.serving.scheduling.background import BackgroundThreads

WHOSE: ContextVar[str] = ContextVar("whose", default="nobody's")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def test_work_has_the_context_of_the_task_and_does_not_block_the_loop() -> None:
    async def scenario() -> None:
        WHOSE.set("ours")
        background, turns = BackgroundThreads(1), threading.Event()

        def work() -> str:
            assert turns.wait(5)
            return WHOSE.get()

        at_work = asyncio.ensure_future(background.do(work, PendingCall(None)))
        await asyncio.sleep(0.01)
        turns.set()
        assert await at_work == "ours"
        background.shut_down()

    run(scenario())


def test_errors_of_the_work_are_raised() -> None:
    def work() -> None:
        raise KeyError("x")

    async def scenario() -> None:
        with pytest.raises(KeyError):
            await BackgroundThreads(1).do(work, PendingCall(None))

    run(scenario())


@pytest.mark.parametrize("fails", [False, True])
def test_cancelled_work_learns_of_it_and_is_waited_for(fails: bool) -> None:
    async def scenario() -> None:
        call, done = PendingCall(None), threading.Event()
        troubles: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, trouble: troubles.append(trouble))

        def work() -> None:
            while call.waited_for:
                time.sleep(0.001)
            done.set()
            if fails:
                raise KeyError("nobody asks")

        at_work = asyncio.ensure_future(BackgroundThreads(1).do(work, call))
        await asyncio.sleep(0.01)
        assert not done.is_set()
        at_work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await at_work
        assert done.is_set()
        assert troubles == []

    run(scenario())


def test_the_loop_keeps_the_order_of_its_callbacks() -> None:
    loop, messages = Loop(), []

    async def ended() -> list[int]:
        return messages

    for number in range(100):
        loop.call_soon(lambda number=number: messages.append(number))  # type: ignore[misc]
    assert loop.run(ended()) == list(range(100))
    loop.close()


class Held:
    """An object in place of an array, which weak references can watch."""


@pytest.mark.parametrize("stays", [True, False])
def test_failed_work_frees_its_memory_without_a_garbage_collection(stays: bool) -> None:
    """A job keeps its error, whose traceback has the frame that refers to the job: a cycle, unless it is broken."""
    held: list[weakref.ref[Held]] = []

    class Job:
        error: Exception

    def work() -> None:
        array, job = Held(), Job()
        held.append(weakref.ref(array))
        job.error = KeyError("x")
        while not (stays or ended.is_set()):
            time.sleep(0.01)
        raise job.error

    async def scenario() -> None:
        at_work = asyncio.ensure_future(BackgroundThreads(1).do(work, PendingCall(None)))
        if stays:
            try:
                await at_work
            except KeyError as error:
                drop_tracebacks(error)
            return
        await asyncio.sleep(0.05)
        at_work.cancel()
        ended.set()
        with pytest.raises(asyncio.CancelledError):
            await at_work

    ended = threading.Event()
    gc.collect()
    gc.disable()
    try:
        run(scenario())
        assert held[0]() is None
    finally:
        gc.enable()
