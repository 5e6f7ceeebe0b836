# SPDX-License-Identifier: Apache-2.0
"""Which units of a captured value matter: the table and the axes, from the engine and over a socket."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
import lstm_explain_client as client
from tests.builders import recurrent_model
from tests.serving.calling import sequence
from tests.serving.running import Running

T, B, H = 6, 3, 4


@pytest.mark.parametrize("batch", [1, B])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_units_are_counted_direction_by_direction(direction: Any, batch: int) -> None:
    rng = np.random.default_rng(5)
    built = recurrent_model(rng, D=2, H=H, direction=direction, head="mean", batch_first=True)
    model, feeds = lx.load(built.model), built.feeds(rng, T=T, B=batch)
    (value,) = (node.output[0] for node in built.model.graph.node if node.op_type == "LSTM")
    e = model.explain(feeds, lx.LRP(), lx.Target(index=1), capture=[value, "layer0.cell"])
    count = H * (1 + (direction == "bidirectional"))
    for name in (value, "layer0.cell"):
        found, array = e.neurons(name), e.captured[name]  # [T, directions, B, H]
        assert found.relevance.shape == (batch, T, count)
        for unit in range(count):
            np.testing.assert_array_equal(found.relevance[0, :, unit], array[:, unit // H, 0, unit % H])
    table = e.neurons(value).to_frame(top=2)
    own = e.captured[value][:, :, 0].reshape(T, count).astype(np.float64).sum(axis=0)
    assert table.unit.tolist() == np.argsort(-np.abs(own))[:2].tolist()
    np.testing.assert_allclose(table.share, table.relevance / float(e.explained[0]))
    through = model.explain(feeds, lx.LRP(), lx.Target(index=1), through={value: [int(table.unit[0])]})
    lost = through.ledger.by_node[f"(other units of {value})"]
    np.testing.assert_allclose(lost[0], own.sum() - own[table.unit[0]], atol=1e-5)
    with pytest.raises(ValueError, match="name a captured value"):
        e.neurons()
    with pytest.raises(KeyError, match="'nothing' was not captured"):
        e.neurons("nothing")
    assert len(e.neurons(value).plot(top=3).axes[0].get_yticklabels()) == 3


@pytest.mark.parametrize("batch", [1, B])
def test_a_single_sample_has_the_same_units_in_a_value_over_time(batch: int) -> None:
    rng = np.random.default_rng(6)
    built = recurrent_model(rng, D=2, H=H, head="mean", batch_first=True)
    (over_time,) = (node.output[0] for node in built.model.graph.node if node.op_type == "Squeeze")  # [T, B, H]
    e = lx.load(built.model).explain(built.feeds(rng, T=T, B=batch), capture=[over_time])
    assert e.captured[over_time].shape == (T, batch, H)
    np.testing.assert_array_equal(e.neurons().relevance, e.captured[over_time].swapaxes(0, 1))


def test_units_over_a_socket(running: Running, models_folder: Any) -> None:
    model = lx.load(models_folder / "bare.onnx")
    nodes = [node.name for node in model.report().nodes if node.op == "LSTM"]
    name = f"{nodes[0]}.hidden"
    expected = model.explain({"x": sequence()}, lx.LRP(), capture=[name])
    conditioned = model.explain({"x": sequence()}, lx.LRP(), through={name: [0, 3]})
    with client.Client(running.address) as calls:
        received = calls.explain("bare", {"x": sequence()}, "lrp", capture=[name])
        through = calls.explain("bare", {"x": sequence()}, "lrp", through={name: [0, 3]})
        many = calls.explain_many("bare", {"x": sequence()}, "every class", "lrp", capture=[name])
        with pytest.raises(client.InvalidRequest, match="has the units 0 to 5, not 9") as refused:
            calls.explain("bare", {"x": sequence()}, "lrp", through={name: [9]})
    assert refused.value.field == "through"
    np.testing.assert_array_equal(received.neurons().relevance, expected.neurons().relevance)
    np.testing.assert_array_equal(through.relevance["x"], conditioned.relevance["x"])
    assert all(one.neurons().relevance.shape == received.neurons().relevance.shape for one in many)
