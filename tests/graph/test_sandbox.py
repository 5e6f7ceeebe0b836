# SPDX-License-Identifier: Apache-2.0
"""The process that tries models: its verdict when it is just exiting, or when a model ends it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.models import Shape, model_of
from lstm_explain.graph.sandbox import Sandbox

GOOD = model_of(Shape(2, 3)).SerializeToString()


def reading_only(then: str) -> subprocess.Popen[bytes]:
    """Takes the beginning of a model and does not answer."""
    script = f"import os, sys; sys.stdin.buffer.read(1); {then}"
    return subprocess.Popen([sys.executable, "-c", script], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_good_model_survives_again_and_again() -> None:
    sandbox = Sandbox()
    assert sandbox.survives(GOOD)
    first = sandbox._process
    assert sandbox.survives(GOOD)
    assert sandbox._process is first


def test_a_process_that_was_exiting_is_not_a_verdict() -> None:
    sandbox = Sandbox()
    sandbox._process = reading_only("os._exit(0)")
    assert sandbox.survives(GOOD)


@pytest.mark.parametrize("end", ["os.abort()", "os._exit(1)"])
def test_a_process_that_the_model_ends_is_a_verdict(end: str) -> None:
    sandbox = Sandbox()
    sandbox._process = reading_only(end)
    assert not sandbox.survives(GOOD)
    assert sandbox.survives(GOOD)
