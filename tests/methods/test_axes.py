# SPDX-License-Identifier: Apache-2.0
"""The axes of samples and time are found in every graph of the zoo."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

import lstm_explain as lx
from tests import zoo
from tests.builders import recurrent_model


@pytest.mark.parametrize("name", [*zoo.names(), *zoo.second_names()])
def test_axes_of_the_zoo(name: str) -> None:
    case = zoo.load(name)
    model = lx.load(case.path)
    expected = {i: lx.Axes(case.meta["batch_axis"][i], case.meta["time_axis"].get(i)) for i in case.inputs}
    assert model.axes == expected
    assert model.report().axes == expected
    assert all(axes.certain for axes in model.axes.values())  # or every answer would warn


@pytest.mark.parametrize("batch_first", [False, True])
def test_states_and_lengths_have_samples_and_no_time(batch_first: bool) -> None:
    built = recurrent_model(
        np.random.default_rng(1), initial_states="input", sequence_lens=True, batch_first=batch_first
    )
    axes = lx.load(built.model).axes
    assert axes["x"] == (lx.Axes(0, 1) if batch_first else lx.Axes(1, 0))
    assert axes["lens"] == lx.Axes(0, None)
    assert axes["initial_h_0"] == axes["initial_c_0"] == lx.Axes(1, None)


def test_chosen_positions_still_lie_along_their_axis() -> None:
    """An LSTM reads every other step, which a Gather with constant indices takes."""
    model = recurrent_model(np.random.default_rng(1), batch_first=False).model
    (lstm,) = (node for node in model.graph.node if node.op_type == "LSTM")
    model.graph.initializer.append(numpy_helper.from_array(np.arange(0, 8, 2), "positions"))
    model.graph.node.insert(0, helper.make_node("Gather", [lstm.input[0], "positions"], ["chosen"], axis=0))
    lstm.input[0] = "chosen"
    axes = lx.load(model).axes["x"]
    assert (axes, axes.certain) == (lx.Axes(1, 0), True)


def test_axes_can_be_corrected() -> None:
    """If the samples' axis is set as the time axis, every sample is one player and is occluded alone."""
    built = recurrent_model(np.random.default_rng(2), batch_first=True)
    feeds = built.feeds(np.random.default_rng(3), T=4, B=1)
    model = lx.load(built.model)
    steps = model.explain(feeds, lx.Occlusion()).relevance["x"]
    model.axes["x"] = lx.Axes(None, 0)
    whole = model.explain(feeds, lx.Occlusion()).relevance["x"]
    assert np.ptp(steps.sum(axis=2)) > 0
    np.testing.assert_allclose(whole, np.full_like(whole, whole[0, 0, 0]))
