# SPDX-License-Identifier: Apache-2.0
"""The layers between a request and its kernels stay few."""

from __future__ import annotations

import pytest

import lstm_explain as lx
from bench import frames

MOST = {"first": {frames.FORWARD: 5, frames.BACK: 7}, "repeated": {frames.FORWARD: 4, frames.BACK: 5}}
MOST_OF_SERVICE = {"first": {frames.FORWARD: 11, frames.BACK: 13}, "repeated": {frames.FORWARD: 9, frames.BACK: 11}}


def counts(found: dict[str, frames.Stacks]) -> dict[str, dict[str, int]]:
    return {
        request: {direction: len(stack) for direction, stack in stacks.items()} for request, stacks in found.items()
    }


def check(found: dict[str, frames.Stacks], most: dict[str, dict[str, int]]) -> None:
    for request, by_direction in counts(found).items():
        assert by_direction.keys() == most[request].keys()
        for direction, count in by_direction.items():
            stack = found[request][direction]
            assert stack[-1].startswith("lstm_cell.LSTMDirection"), stack  # it has the kernel called
            assert count <= most[request][direction], stack


@pytest.mark.parametrize("method", frames.METHODS.values(), ids=frames.METHODS)
def test_between_explain_and_the_kernels(method: lx.Method) -> None:
    check(frames.frames_of_explain(method), MOST)


def test_between_the_servicer_and_the_kernels() -> None:
    check(frames.frames_of_service(frames.ROOT / "models"), MOST_OF_SERVICE)
