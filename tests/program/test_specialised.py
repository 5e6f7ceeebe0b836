# SPDX-License-Identifier: Apache-2.0
"""A program that is specialised for the shapes of a repeated request gives the same answers as the general one, bit by
bit.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.program.steps.linear import Dense
from lstm_explain.program.steps.recurrent import RecurrentBackward
from lstm_explain.program.steps.routing import View
from tests import zoo
from tests.builders import recurrent_model
from tests.engine_checks import batch_axis
from tests.graph_builder import GraphBuilder

METHODS: list[lx.Method] = [lx.Gradient(), lx.GradientTimesInput(), lx.LRP(), lx.LRP("half"), lx.LRP("abs")]
ALWAYS = {
    "h_lstm_nobias_op14",
    "k_lstm_tf2onnx15",
    "t_bilstm2_dropout_dynamo18",
    "t_emb_lstm_legacy17",
    "t_gru_last_legacy17",
}
STRAIGHT = ALWAYS | {"h_embedding_softmax_op13", "k_bilstm_concat_tf2onnx15", "t_normalised_regression_dynamo18"}
Inputs = dict[str, npt.NDArray[Any]]


def inputs_of(name: str) -> Inputs:
    """The case's first sample."""
    case = zoo.load(name)
    return {n: np.ascontiguousarray(a.take([0], case.batch_axis(n))) for n, a in case.inputs.items()}


def others(inputs: Inputs) -> Inputs:
    """Inputs of the same shapes."""
    return {n: a * np.float32(0.9) if a.dtype == np.float32 else a for n, a in inputs.items()}


@functools.cache
def loaded(name: str) -> lx.Model:
    return lx.load(zoo.load(name).path)


@pytest.mark.parametrize("whole", [False, True], ids=["one sample", "the batch"])
@pytest.mark.parametrize("name", zoo.names())
def test_every_answer_is_the_general_programs_bit_by_bit(name: str, whole: bool) -> None:
    case, model = zoo.load(name), loaded(name)
    inputs = case.inputs if whole else inputs_of(name)
    index = None if len(case.target_index) > 1 else case.target_index[0]
    target = lx.Target(case.target_output, index, case.target_batch_axis)
    takes_one = all(
        spec.shape[case.batch_axis(n)] == 1 or isinstance(spec.shape[case.batch_axis(n)], str)
        for n, spec in model.inputs.items()
    )
    if len(case.target_index) > 1 or not (takes_one or whole):
        pytest.skip("no such request")
    before, general = model.engine.known.count(), lx.load(case.path)
    for method in METHODS:
        for _ in range(2):
            model.explain(others(inputs), method, target)
        again, once = model.explain(inputs, method, target), general.explain(inputs, method, target)
        for part in ("relevance", "outputs"):
            received, expected = getattr(again, part), getattr(once, part)
            assert list(received) == list(expected)
            assert all(
                np.array_equal(received[n], expected[n]) and received[n].dtype == expected[n].dtype for n in expected
            )
        np.testing.assert_array_equal(again.explained, once.explained)
        for field in ("inputs", "initial_states", "absorbed", "residual"):
            np.testing.assert_array_equal(getattr(again.ledger, field), getattr(once.ledger, field))
        assert again.ledger.by_node.keys() == once.ledger.by_node.keys()
        np.testing.assert_array_equal(again.target.index, once.target.index)
        assert again.warnings == once.warnings
    assert not general.engine.known.count()
    assert model.engine.known.count() > before or name not in ALWAYS
    straight = [known for known in model.engine.known.specialised.values() if known is not None and known.straight]
    assert len(straight) >= 3 or name not in STRAIGHT  # under all rules


@pytest.mark.parametrize("how", [lx.LRP(), lx.LRP(epsilon=0.01)], ids=str)
@pytest.mark.parametrize("output", ["Y", "Y_h"])
def test_a_batch_takes_the_short_way_too(output: Any, how: lx.Method) -> None:
    """The dense layer is one product, views are moves of elements, and the ledger of a sample is what it is alone."""
    built = recurrent_model(np.random.default_rng(4), D=3, H=5, head="last" if output == "Y" else "Y_h")
    model, feeds = lx.load(built.model), built.feeds(np.random.default_rng(5), T=6, B=4)
    answers = [model.explain(feeds, how, lx.Target(index=1)) for _ in range(3)]
    (known,) = model.engine.known.specialised.values()
    assert known is not None
    assert known.straight is not None
    assert all(isinstance(step, Dense | View | RecurrentBackward) for step in known.steps)
    for sample in range(4):
        alone = model.explain(
            {n: a.take([sample], batch_axis(built, n)) for n, a in feeds.items()}, how, lx.Target(index=1)
        )
        for answer in answers:
            for node, amounts in alone.ledger.by_node.items():
                assert amounts[0] == answer.ledger.by_node[node][sample]


def test_invalid_input_is_refused_by_a_specialised_program() -> None:
    model, inputs = loaded("t_lstm_last_legacy17"), inputs_of("t_lstm_last_legacy17")
    (name,) = inputs
    for _ in range(3):
        good = model.explain(inputs)
    assert model.engine.known.count()
    bad = inputs[name].copy()
    bad.flat[3] = np.nan
    with pytest.raises(lx.InputError, match="is nan at"):
        model.explain({name: bad})
    with pytest.raises(lx.InputError, match="has type int64"):
        model.explain({name: inputs[name].astype(np.int64)})
    with pytest.raises(lx.InputError, match="no input 'more'"):
        model.explain({**inputs, "more": inputs[name]})
    with pytest.raises(lx.TargetError, match="outside output"):
        model.explain(inputs, target=lx.Target(index=10_000))
    with pytest.raises(lx.TargetError, match="expected a Target"):
        model.explain(inputs, target=None)  # type: ignore[arg-type]
    with pytest.raises(lx.MethodError, match="expected a Method"):
        model.explain(inputs, None)  # type: ignore[arg-type]
    backwards = np.ascontiguousarray(inputs[name][..., ::-1])[..., ::-1]  # the same numbers, laid out otherwise
    frozen = inputs[name].copy()
    frozen.flags.writeable = False
    for same in (backwards, frozen):
        np.testing.assert_array_equal(model.explain({name: same}).relevance[name], good.relevance[name])


def test_callers_can_modify_their_answers() -> None:
    model, inputs = loaded("t_lstm_last_legacy17"), inputs_of("t_lstm_last_legacy17")
    answers = [model.explain(inputs) for _ in range(4)]
    kept = {name: array.copy() for name, array in answers[-1].relevance.items()}
    for array in (*answers[-2].relevance.values(), *answers[-2].outputs.values(), answers[-2].explained):
        array[:] = 7
    fresh = model.explain(inputs)
    for name, array in kept.items():
        np.testing.assert_array_equal(answers[-1].relevance[name], array)
        np.testing.assert_array_equal(fresh.relevance[name], array)


def test_outputs_are_no_views_of_the_inputs_or_of_states() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> views (float[T, B, 2] x) => (float[B, T, 2] y, float[B, 2] last)
        <int64 i = {-1}> { y = Transpose<perm = [1, 0, 2]>(x) last = Gather(x, i) }"""
    model, x = lx.load(onnx.parser.parse_model(text)), np.ones((5, 1, 2), np.float32)
    for _ in range(4):
        answer = model.explain({"x": x}, lx.GradientTimesInput(), lx.Target("last", 1))
        for output in answer.outputs.values():
            output[:] = 7
    assert (x == 1).all()
    assert all(output.base is None for output in answer.outputs.values())


@pytest.mark.parametrize("index", [1, -1, (1,), [1], np.int64(1), np.array([1]), np.array([[1]]), None], ids=repr)
def test_a_position_has_several_equivalent_forms(index: Any) -> None:
    model, inputs = loaded("t_lstm_last_legacy17"), inputs_of("t_lstm_last_legacy17")
    target = lx.Target(index=index)
    answers = [model.explain(inputs, lx.LRP(epsilon=0.01), target) for _ in range(3)]
    general = lx.load(zoo.load("t_lstm_last_legacy17").path).explain(inputs, lx.LRP(epsilon=0.01), target)
    for name, array in general.relevance.items():
        np.testing.assert_array_equal(answers[-1].relevance[name], array)
    np.testing.assert_array_equal(answers[-1].target.index, general.target.index)


def test_operands_that_decide_a_shape_are_read_anew() -> None:
    """The legacy export of this network computes the start of a Slice at run time."""
    folder = Path(__file__).parents[1] / "exports" / "ealstm"
    model = lx.load(folder / "model.legacy.onnx")
    with np.load(folder / "input.npz") as stored:
        inputs = {name: array[:1] for name, array in stored.items()}
    first, *others = (model.explain(inputs, lx.LRP(), lx.Target(index=0)) for _ in range(4))
    for other in others:
        for name, relevance in first.relevance.items():
            np.testing.assert_array_equal(other.relevance[name], relevance)


@pytest.mark.parametrize(
    "node",
    ["y = Identity(x)", "y = Reshape(x, flat)", "t = Transpose(x) y = Slice(t, none, many)", "y = Identity(own)", ""],
)
def test_callers_can_modify_outputs_that_the_model_is_given(node: str) -> None:
    """Outputs that are inputs, views of them, or constants."""
    outputs = f"(float[N, 2] logits, float {'y' if node else 'x'})"
    text = f"""<ir_version: 8, opset_import: ["": 17]> given (float[N, 3] x) => {outputs}
        <float[3, 2] w = {{1, 2, 3, 4, 5, 6}}, int64[1] flat = {{-1}}, float[2] own = {{1, 2}}, int64[1] none = {{0}},
         int64[1] many = {{9}}> {{ logits = MatMul(x, w) {node} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[1].type.tensor_type.ClearField("shape")
    model, x = lx.load(proto), np.array([[1, -2, 3]], np.float32)
    for method in (lx.LRP(), lx.Gradient()):
        expected = model.explain({"x": x.copy()}, method, 0).outputs
        expected = {name: array.copy() for name, array in expected.items()}
        for _ in range(4):
            given = x.copy()
            answer = model.explain({"x": given}, method, 0)
            for name, array in answer.outputs.items():
                np.testing.assert_array_equal(array, expected[name])
                array[...] = 7
            np.testing.assert_array_equal(given, x)


def test_initial_states_that_follow_from_values_are_not_those_of_another_request() -> None:
    """The third state is the size of an array that is as long as the first layer has positive outputs."""
    text = """<ir_version: 8, opset_import: ["": 17]> counting (float[T, 1, 1] x) => (float[1, 1] logits)
        <float[1, 1, 1] w = {0.5}, float[1, 1, 1] r = {0.3}, int64[1] at = {1}, int64[1] flat = {-1},
         int64[1] zero = {0}, int64[3] ones = {1, 1, 1}, float small = {0.01}>
        {
            first, last = RNN<hidden_size = 1>(x, w, r)  y = Squeeze(first, at)
            positive = Relu(y)  found = NonZero(positive)  places = Reshape(found, flat)
            second, last2 = RNN<hidden_size = 1>(y, w, r)  z = Squeeze(second, at)
            size = Shape(z)  both = Concat<axis = 0>(places, size)  count = Shape(both)  number = Cast<to = 1>(count)
            scaled = Mul(number, small)  state = Reshape(scaled, ones)
            third, last3 = RNN<hidden_size = 1>(z, w, r, , , state)  logits = Squeeze(last3, zero)
        }"""
    model = lx.load(onnx.parser.parse_model(text))
    requests = [{"x": sign * np.ones((4, 1, 1), np.float32)} for sign in (1, -1)]
    for _ in range(4):
        for inputs in requests:
            received = model.explain(inputs).outputs["logits"]
            np.testing.assert_allclose(received, model.predict(inputs)["logits"], rtol=1e-5)
    assert model.engine.known.count()


@pytest.mark.parametrize("method", [lx.LRP(), lx.Gradient(), lx.GradientTimesInput()], ids=str)
@pytest.mark.parametrize("units", [1, 2, 5, 16])
@pytest.mark.parametrize("perm", [[0, 2, 1], [1, 0, 2]], ids=str)
@pytest.mark.parametrize("read", ["lookup", "dense"])
def test_sums_do_not_depend_on_the_layout_of_relevance(
    read: str, perm: list[int], units: int, method: lx.Method
) -> None:
    """A transposition leaves relevance as a view in the general program, and as an array of its own in the other."""
    rng = np.random.default_rng(units)
    g = GraphBuilder(np.float32, 17)
    if read == "lookup":
        ids = g.input("x", ["batch", 7], onnx.TensorProto.INT64)
        rows = g.op("Gather", [g.constant(rng.normal(size=(9, units)), "table"), ids])
        feeds = [{"x": rng.integers(0, 9, size=(3, 7))} for _ in range(2)]
    else:
        x = g.input("x", ["batch", 7, 1])
        rows = g.op("MatMul", [x, g.constant(rng.normal(size=(1, units)), "weights")])
        feeds = [{"x": rng.normal(size=(3, 7, 1)).astype(np.float32)} for _ in range(2)]
    proto = g.model(g.op("Transpose", [rows], perm=perm), ["a", "b", "c"])
    weights = rng.normal(size=(7, units) if perm[0] else (units, 7))
    model, target = lx.load(proto), lx.Target(weights=weights, batch_axis=perm.index(0))
    for inputs in feeds * 3:
        received, expected = (m.explain(inputs, method, target) for m in (model, lx.load(proto)))
        np.testing.assert_array_equal(received.relevance["x"], expected.relevance["x"])
        np.testing.assert_array_equal(received.ledger.absorbed, expected.ledger.absorbed)
