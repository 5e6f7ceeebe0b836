# SPDX-License-Identifier: Apache-2.0
"""A cell that an exporter unrolled becomes a Scan, and answers stay those of the graph as it was written."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import lstm_explain as lx
from lstm_explain.graph.ir import Graph, Node
from lstm_explain.graph.preparation import prepare
from lstm_explain.model import Model
from lstm_explain.repeats.folding import fold_repeats
from tests.graph_builder import AnyArray
from tests.recurrent_kinds import KINDS, WIDTH, recurrent_kind
from tests.reference.differences import onnx_difference
from tests.repeats import unrolled_networks as networks

STEPS = 20
ROUNDING = 2e-5  # of float32, as a share of the largest number
TARGET = lx.Target(index=1)
# Methods whose rules do not ask where a sum lies.
EVERYWHERE = [lx.LRP(epsilon=1e-3), lx.LRP("half", epsilon=1e-2), lx.Gradient()]
METHODS = [lx.LRP(), lx.LRP("half"), lx.LRP("prop"), lx.LRP("abs"), lx.LRP(bias_factor=1.0), *EVERYWHERE]


def scans(model: Model) -> list[Node]:
    return [node for node in model.engine.graph.nodes if node.op == "Scan"]


def inputs(proto: onnx.ModelProto, samples: int = 2) -> dict[str, AnyArray]:
    extents = proto.graph.input[0].type.tensor_type.shape.dim
    shape = [d.dim_value or samples for d in extents]
    return {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def check_same_answers(found: Model, expected: Model, feeds: dict[str, AnyArray], methods: list[Any]) -> None:
    for method in methods:
        own, other = (model.explain(feeds, method, TARGET) for model in (found, expected))
        largest = np.abs(other.relevance["x"]).max()
        assert largest > 0
        np.testing.assert_allclose(own.relevance["x"], other.relevance["x"], atol=ROUNDING * largest, rtol=0)
        moved = max(largest, np.abs(other.ledger.absorbed).max())
        for side in ("inputs", "initial_states", "absorbed"):
            amounts = getattr(own.ledger, side), getattr(other.ledger, side)
            np.testing.assert_allclose(*amounts, atol=10 * ROUNDING * moved, rtol=0, err_msg=side)


def check_outputs(model: Model, proto: onnx.ModelProto, feeds: dict[str, AnyArray]) -> None:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    np.testing.assert_allclose(model.predict(feeds)["logits"], expected, atol=1e-6)
    np.testing.assert_allclose(model.explain(feeds, lx.LRP(), TARGET).outputs["logits"], expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_explained_alike_however_it_was_exported(kind: str) -> None:
    """Unrolled and in a Scan, under every method and rule, the relative stabiliser included."""
    proto = recurrent_kind(kind, "unrolled", STEPS)
    model, feeds = lx.load(proto), {"x": np.random.default_rng(0).standard_normal((3, STEPS, WIDTH), np.float32)}
    (scan,) = scans(model)
    assert scan.name.endswith(f"({STEPS} repeats)")
    assert len(model.engine.graph.nodes) < 15
    check_outputs(model, proto, feeds)
    check_same_answers(model, lx.load(recurrent_kind(kind, "scan", STEPS)), feeds, METHODS)


NETWORKS: dict[str, tuple[onnx.ModelProto, list[int]]] = {  # the repeats of each Scan
    "layers": (networks.layers(STEPS), [STEPS]),
    "both directions": (networks.both_directions(STEPS, layered=False), [STEPS] * 2),
    "two layers in both directions": (networks.both_directions(STEPS), [STEPS] * 3),
    "a layer over a stack": (networks.over_a_stack(STEPS), [STEPS] * 2),
    "positions": (networks.with_positions(STEPS), [STEPS]),
    "towers": (networks.towers(STEPS), [STEPS] * 2),
    "solver": (networks.solved(STEPS), [STEPS]),
    "every step is read": (networks.every_step_read(STEPS), [STEPS]),
    "decoder": (networks.through_a_decoder(STEPS), [STEPS] * 2),
    "one step differs": (networks.one_step_differs(2 * STEPS + 1), [STEPS] * 2),
    "zeros are folded": (networks.plain(STEPS, "gather", 2, 17), [STEPS - 1]),
    "gather of one": (networks.plain(STEPS, "gather one", "N", 17), [STEPS]),
    "slice": (networks.plain(STEPS, "slice", "N", 17), [STEPS]),
    "split": (networks.plain(STEPS, "split", "N", 17), [STEPS]),
    "a gate around the cell": (networks.gate_around(STEPS), [STEPS]),
    "opset 11": (networks.plain(STEPS, "split", "N", 11), [STEPS]),
    "too few": (networks.plain(15, "gather", "N", 17), []),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_those_of_the_graph_as_it_was_written(name: str) -> None:
    proto, repeats = NETWORKS[name]
    model, feeds = lx.load(proto), inputs(proto)
    found = [int(scan.name.rpartition("(")[2].removesuffix(" repeats)")) for scan in scans(model)]
    assert sorted(found) == sorted(repeats)
    check_outputs(model, proto, feeds)
    check_same_answers(model, Model(proto, fold=False), feeds, EVERYWHERE)
    difference = onnx_difference(proto, feeds, "x", "logits", (1,))
    gradient = model.explain(feeds, lx.Gradient(), TARGET).relevance["x"]
    np.testing.assert_allclose(gradient, difference, atol=2e-3 * np.abs(difference).max())


def test_values_of_single_steps_are_those_of_the_graph_as_it_was_written() -> None:
    """`capture` and `through` know them by their names in the file."""
    proto = networks.plain(STEPS, "gather", "N", 17)
    model, written, feeds = lx.load(proto), Model(proto, fold=False), inputs(proto)
    states = [node.output[0] for node in proto.graph.node if node.op_type == "Tanh"]
    method = lx.LRP()
    own, other = (one.explain(feeds, method, TARGET, capture=states[3:5]) for one in (model, written))
    for name in states[3:5]:
        np.testing.assert_array_equal(own.captured[name], other.captured[name])
    np.testing.assert_array_equal(own.relevance["x"], other.relevance["x"])
    own, other = (one.explain(feeds, method, TARGET, through={states[7]: [1, 3]}) for one in (model, written))
    np.testing.assert_array_equal(own.relevance["x"], other.relevance["x"])
    with pytest.raises(lx.InputError, match="no value 'nothing'"):
        model.explain(feeds, method, TARGET, capture=["nothing"])


def test_a_gate_that_the_caller_names_in_every_step_is_that_of_the_loop() -> None:
    proto = recurrent_kind("multiplicative", "unrolled", STEPS)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, STEPS, WIDTH), np.float32)}
    products = [node.name for node in proto.graph.node if node.op_type == "Mul"]
    each = len(products) // STEPS
    gates = dict.fromkeys(products[13::each], 0)
    model, written = lx.load(proto, gates=gates), Model(proto, gates, fold=False)
    assert len(scans(model)) == 1
    check_same_answers(model, written, feeds, [lx.LRP(epsilon=1e-3)])
    plain = lx.load(proto).explain(feeds, lx.LRP(epsilon=1e-3), TARGET).relevance["x"]
    assert np.abs(model.explain(feeds, lx.LRP(epsilon=1e-3), TARGET).relevance["x"] - plain).max() > 1e-3
    assert len(scans(lx.load(proto, gates={products[10 * each + 13]: 0}))) == 0  # one step is not like the others


@pytest.mark.parametrize("kind", ["lstm", "selective_scan"])
def test_the_report_and_a_compiled_file_hold_the_loop(kind: str) -> None:
    proto = recurrent_kind(kind, "unrolled", STEPS)
    model, feeds = lx.load(proto), {"x": np.random.default_rng(0).standard_normal((2, STEPS, WIDTH), np.float32)}
    names = [node.name for node in model.report().nodes]
    written = {node.name for node in proto.graph.node}
    assert model.report().supported
    assert any(name.partition(" repeats)/body/")[2] in written for name in names)
    e = model.explain(feeds, lx.LRP(), TARGET)
    assert set(e.ledger.by_node) & written
    compiled = lx.compile(model, method=lx.LRP(), target=TARGET)
    session = onnxruntime.InferenceSession(compiled.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    np.testing.assert_allclose(found["logits"], e.outputs["logits"], atol=1e-5)
    largest = np.abs(e.relevance["x"]).max()
    np.testing.assert_allclose(found["relevance/x"], e.relevance["x"], atol=1e-4 * largest)


@pytest.mark.parametrize("activation", ["Softmax", "Softplus"])
def test_an_activation_at_the_end_of_an_output_stays_outside(activation: str) -> None:
    """Every step has an output of its own, and its scores are explained."""
    g = networks.Unrolled(STEPS)
    states = g.run(networks.gated, "cell", g.steps_of(g.x))
    read = [g.op("MatMul", [h, g.weights("read", networks.HIDDEN, 2)]) for h in states]
    proto = g.model(g.op(activation, [read[-1]]), ["N", 2])
    for t, scores in enumerate(read[:-1]):
        proto.graph.node.append(onnx.helper.make_node(activation, [scores], [f"step_{t}_is"], name=f"soft_{t}"))
        proto.graph.output.append(onnx.helper.make_tensor_value_info(f"step_{t}_is", onnx.TensorProto.FLOAT, ["N", 2]))
    model, written, feeds = lx.load(proto), Model(proto, fold=False), inputs(proto)
    assert len(scans(model)) == 1
    for output in ("logits", "step_4_is"):
        target = lx.Target(output=output, index=1)
        own, other = (one.explain(feeds, lx.LRP(epsilon=1e-3), target) for one in (model, written))
        np.testing.assert_allclose(own.explained, other.explained, rtol=1e-5)
        largest = np.abs(other.relevance["x"]).max()
        np.testing.assert_allclose(own.relevance["x"], other.relevance["x"], atol=ROUNDING * largest)


def test_a_mask_of_steps_is_no_part_of_the_explanation() -> None:
    """Perturbation methods replace what the explained value is computed from, not what only chooses values."""
    proto = networks.masked(STEPS)
    model, written = lx.load(proto), Model(proto, fold=False)
    assert len(scans(model)) == 1
    feeds = {**inputs(proto), "mask": np.random.default_rng(2).random((2, STEPS)) < 0.7}
    for method in (lx.Occlusion(), lx.ShapleySampling(permutations=2), lx.LRP(epsilon=1e-3)):
        own, other = (one.explain(feeds, method, TARGET).relevance for one in (model, written))
        assert (own["mask"] == 0).all()
        np.testing.assert_allclose(own["x"], other["x"], atol=ROUNDING * np.abs(other["x"]).max())


def test_float64_answers_where_float32_is_not_precise_enough() -> None:
    proto = recurrent_kind("lstm", "unrolled", STEPS)
    model, written = lx.load(proto), Model(proto, fold=False)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, STEPS, WIDTH), np.float32)}
    check_same_answers(model, written, feeds, [lx.LRP("abs", epsilon=1e-3)])  # begins in float64


def test_the_search_takes_time_in_proportion_to_the_nodes() -> None:
    def seconds(proto: onnx.ModelProto, fold: Callable[[Graph], Graph] | None) -> float:
        """Of the processor, at best of three: other load spoils its caches."""
        taken = []
        for _ in range(3):
            began = time.process_time()
            prepare(proto, fold)
            taken.append(time.process_time() - began)
        return min(taken)

    models = [networks.plain(steps, "gather", "N", 17) for steps in (100, 800)]
    short, long = (seconds(proto, partial(fold_repeats, marks={})) - seconds(proto, None) for proto in models)
    assert long < 24 * max(short, 0.02)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_step_that_is_written_in_another_order_stays_out(kind: str) -> None:
    """The loops before and after it begin and end with whole steps, so that no neuron is cut in two."""
    proto = recurrent_kind(kind, "unrolled", 2 * STEPS + 1)
    products = [node for node in proto.graph.node if node.op_type == "Mul"]
    odd = products[len(products) // (2 * STEPS + 1) * (STEPS + 1) - 1]
    odd.input[:] = list(odd.input)[::-1]
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 2 * STEPS + 1, WIDTH), np.float32)}
    model = lx.load(proto)
    assert len(scans(model)) == 2
    check_same_answers(model, Model(proto, fold=False), feeds, [lx.LRP(epsilon=1e-3), lx.Gradient()])
