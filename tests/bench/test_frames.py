# SPDX-License-Identifier: Apache-2.0
"""The layers between a request and its kernels stay few."""

from __future__ import annotations

import pytest

import lstm_explain as lx
from bench import frames

MOST = {"first": {frames.FORWARD: 6, frames.BACK: 8}, "repeated": {frames.FORWARD: 6, frames.BACK: 8}}
MOST_OF_SERVICE = {"first": {frames.FORWARD: 12, frames.BACK: 14}, "repeated": {frames.FORWARD: 10, frames.BACK: 12}}


def counts(found: dict[str, frames.Stacks]) -> dict[str, dict[str, int]]:
    return {
        request: {direction: len(stack) for direction, stack in stacks.items()} for request, stacks in found.items()
    }


def check(found: dict[str, frames.Stacks], most: dict[str, dict[str, int]]) -> None:
    for request, by_direction in counts(found).items():
        assert by_direction.keys() == most[request].keys()
        for direction, count in by_direction.items():
            stack = found[request][direction]
            assert stack[-1] == "threads.in_threads", stack  # it calls the kernel
            assert count <= most[request][direction], stack


@pytest.mark.parametrize("method", frames.METHODS.values(), ids=frames.METHODS)
def test_between_explain_and_the_kernels(method: lx.Method) -> None:
    check(frames.frames_of_explain(method), MOST)


def test_between_the_servicer_and_the_kernels() -> None:
    check(frames.frames_of_service(frames.ROOT / "models"), MOST_OF_SERVICE)
