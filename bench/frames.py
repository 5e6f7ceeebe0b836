# SPDX-License-Identifier: Apache-2.0
"""`python -m bench frames`: how many Python frames of the package lie between a request and its kernels."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.table import Table

import lstm_explain as lx
from bench.in_process import Context, explain_handler
from bench.models import Shape, inputs_of, model_of
from lstm_explain.kernels import lstm
from lstm_explain.model import Model
from lstm_explain.operators import direction
from lstm_explain.serving.servicers.explanation import ExplanationServicer
from lstm_explain.serving.wire import probe_request

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = str(Path(lx.__file__).parent)
FORWARD, BACK = "forward", "back"
SHAPE, STEPS, WORDS, REQUESTS = Shape(16, 64), 30, 18, 40
PATIENCE = 5.0  # seconds, for a task to begin to wait for its thread
METHODS: dict[str, lx.Method] = {"lrp all": lx.LRP(), "lrp half": lx.LRP("half"), "gradient": lx.Gradient()}
Stacks = dict[str, list[str]]  # by direction, the frames from the entry to the kernel


class StackRecorder:
    """Keeps for each direction the frames from `entry` to the latest call of a kernel, of models that are made while it
    is open.

    A request that waits for a thread counts the coroutines that wait as well as the thread's frames.
    """

    def __init__(self, entry: CodeType) -> None:
        self._entry = entry
        self._recording = False
        self.stacks: Stacks = {}

    def __enter__(self) -> Self:
        self._each_of = direction.each_of
        direction.each_of = lambda calls: self._recorded(calls[0].func is lstm.forward, self._each_of(calls))
        return self

    def __exit__(self, *_: object) -> None:
        direction.each_of = self._each_of

    @contextmanager
    def recording(self) -> Iterator[None]:
        self.stacks, self._recording = {}, True
        try:
            yield
        finally:
            self._recording = False

    def _recorded(self, forward: bool, call: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: Any) -> object:
            if self._recording:
                self.stacks[FORWARD if forward else BACK] = self._frames()
            return call(*arguments)

        return run

    def _frames(self) -> list[str]:
        frames = list(_outwards(sys._getframe(2)))
        if not any(code is self._entry for code in frames):
            frames += _waiting(self._entry)
        inner = [
            code
            for code in takewhile(lambda code: code is not self._entry, frames)
            if code.co_filename.startswith(PACKAGE)
        ]
        return [f"{Path(c.co_filename).stem}.{c.co_qualname}" for c in reversed(inner)]


def _outwards(frame: FrameType | None) -> Iterator[CodeType]:
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


def _waiting(entry: CodeType) -> list[CodeType]:
    """The coroutines of the task that waits for this thread, innermost first."""
    end = time.monotonic() + PATIENCE
    while _LOOP and time.monotonic() < end:
        for task in asyncio.all_tasks(_LOOP[-1]):
            chain = _chain(task.get_coro())
            if any(code is entry for code in chain):
                return chain[::-1]
        time.sleep(1e-3)  # until the task has begun to wait
    raise RuntimeError("a kernel was called from elsewhere")


def _chain(coroutine: Any) -> list[CodeType]:
    """A coroutine and what it awaits, outermost first; nothing while it runs."""
    chain: list[CodeType] = []
    while getattr(coroutine, "cr_code", None) is not None:
        chain.append(coroutine.cr_code)
        coroutine = coroutine.cr_await
    return chain if coroutine is not None else []


_LOOP: list[asyncio.AbstractEventLoop] = []  # the loop of the requests, which a kernel's thread does not know


def frames_of_explain(method: lx.Method) -> dict[str, Stacks]:
    """Of `model.explain` by its first request, which compiles, and by one whose shapes have come before."""
    found = {}
    with StackRecorder(Model.explain.__code__) as recorder:
        model, feeds = lx.load(model_of(SHAPE)), {"x": inputs_of(SHAPE, STEPS, 1)}
        for name, repeats in (("first", 1), ("repeated", 3)):
            with recorder.recording():
                for _ in range(repeats):
                    model.explain(feeds, method, lx.Target(index=2))
            found[name] = recorder.stacks
    return found


def frames_of_service(models: Path) -> dict[str, Stacks]:
    """Of Explain of `sentiment`, from the servicer's method, which gRPC calls; later requests are known to be short."""

    async def ask(times: int) -> None:
        _LOOP.append(asyncio.get_running_loop())
        for _ in range(times):
            await handler.unary_unary(probe_request(served, WORDS), Context())

    found = {}
    with StackRecorder(ExplanationServicer.Explain.__code__) as recorder:
        manager, handler = explain_handler(models, warm=False)
        served = manager.ready("sentiment")
        for name, repeats in (("first", 1), ("repeated", REQUESTS)):
            asyncio.run(ask(repeats - 1))  # unrecorded, because recording takes longer than a short request may
            with recorder.recording():
                asyncio.run(ask(1))
            found[name] = recorder.stacks
    return found


def run(console: Console, *, listed: bool) -> dict[str, dict[str, dict[str, int]]]:
    """Prints the counts, and with `listed` the frames themselves; returns the counts."""
    found = {"Explain, sentiment": frames_of_service(ROOT / "models")}
    with np.errstate(all="ignore"):
        found |= {f"explain, {name}": frames_of_explain(method) for name, method in METHODS.items()}
    table = Table(title="Python frames of the package between the call and the kernel")
    for column in ("call", "request", FORWARD, BACK):
        table.add_column(column, justify="right" if column in (FORWARD, BACK) else "left")
    for call, requests in found.items():
        for request, stacks in requests.items():
            table.add_row(call, request, *(str(len(stacks[direction])) for direction in (FORWARD, BACK)))
            if listed:
                for direction, stack in stacks.items():
                    console.print(f"{call}, {request}, {direction}: {' > '.join(stack)}", highlight=False)
    console.print(table)
    return {c: {r: {d: len(s) for d, s in stacks.items()} for r, stacks in rs.items()} for c, rs in found.items()}
