# SPDX-License-Identifier: Apache-2.0
"""Everything that does not depend on the request is computed once: a repeated request does not search the graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

import lstm_explain as lx
from tests import zoo

PACKAGE = str(Path(lx.__file__).parent)
METHODS: list[lx.Method] = [
    lx.LRP(),
    lx.LRP("half"),
    lx.LRP(bias_factor=1.0),
    lx.GradientTimesInput(),
    lx.IntegratedGradients(steps=2),
    lx.SmoothGrad(samples=2),
    lx.Occlusion(),
    lx.Occlusion(of="probability"),
    lx.ShapleySampling(permutations=1),
    lx.ContextualDecomposition(),
]
OF_THE_GRAPH = {
    "compile_plan", "find_axes", "head_of", "live_values", "open_graph", "open_session", "path", "producers", "reach",
    "session_of", "stop_at", "trace",
}  # fmt: skip


def called(work: Callable[[], object]) -> set[str]:
    """Names of the package's functions that `work` calls in this thread."""
    names: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            names.add(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return names


@pytest.mark.parametrize("name", zoo.names())
def test_a_repeated_request_does_not_search_the_graph(name: str) -> None:
    case = zoo.load(name)
    model = lx.load(case.path)
    target = lx.Target(case.target_output, case.target_index, case.target_batch_axis)
    explained = 0
    for method in METHODS:
        try:
            at_first = called(lambda m=method: model.explain(case.inputs, m, target))  # type: ignore[misc]
            model.explain(case.inputs, method, target)
        except lx.Error:
            continue
        explained += 1
        if explained == 1:
            assert at_first & OF_THE_GRAPH  # the names are right
        again = called(lambda m=method: model.explain(case.inputs, m, target))  # type: ignore[misc]
        assert not again & OF_THE_GRAPH, method
    assert explained
