# SPDX-License-Identifier: Apache-2.0
"""LinearAttention and CausalConvWithState against plain float64 implementations: outputs, gradients, LRP, states."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from tests.compiled.compiled_files import check_like_engine, run_file
from tests.graph_builder import GraphBuilder
from tests.reference.linear_attention import NAMES, LinearAttention

AnyArray = npt.NDArray[Any]
B, T, K, V = 3, 6, 4, 3
RULES = ("linear", "gated", "delta", "gated_delta")
# heads of the query, heads of key and value, whether there is an initial state, decay per "key" or "head", rates
FORMS: dict[str, tuple[int, int, bool, str, int]] = {
    "plain": (2, 2, False, "key", 2),
    "grouped": (6, 2, True, "head", 2),
    "one-state": (3, 1, True, "key", 1),
    "shared-rate": (4, 2, False, "head", 1),
}
CASES = list(itertools.product(RULES, FORMS))


def operands(rule: str, form: str, steps: int = T, seed: int = 0) -> LinearAttention:
    query_heads, heads, starts, per, rates = FORMS[form]
    rng = np.random.default_rng(seed)
    key = rng.standard_normal((B, steps, heads, K))
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    found = {
        "query": rng.standard_normal((B, steps, query_heads * K)),
        "key": key.reshape(B, steps, -1),
        "value": rng.standard_normal((B, steps, heads * V)),
    }
    if starts:
        found["past_state"] = rng.standard_normal((B, heads, K, V))
    if "gated" in rule:
        found["decay"] = -rng.uniform(0.05, 1.5, (B, steps, heads * (K if per == "key" else 1)))
    if "delta" in rule:
        found["beta"] = rng.uniform(0.1, 0.9, (B, steps, rates))
    found = {name: found[name].astype(np.float32) for name in NAMES if name in found}
    return LinearAttention(found, query_heads, heads, rule, 0.7 if form == "grouped" else 0.0)


def model_of(case: LinearAttention, constant_state: bool = False) -> lx.Model:
    return lx.load(proto_of(case, constant_state))


def proto_of(case: LinearAttention, constant_state: bool = False) -> onnx.ModelProto:
    names = [name if name in case.operands else "" for name in NAMES]
    node = helper.make_node(
        "LinearAttention",
        names,
        ["y", "last"],
        name="attention",
        q_num_heads=case.query_heads,
        kv_num_heads=case.heads,
        update_rule=case.rule,
        scale=case.scale,
    )
    inputs = {n: ["N", *("T" if i == 0 and x.ndim == 3 else d for i, d in enumerate(x.shape[1:]))] for n, x in
              case.operands.items()}  # fmt: skip
    initializers = []
    if constant_state:
        del inputs["past_state"]
        initializers = [numpy_helper.from_array(case.operands["past_state"], "past_state")]
    graph = helper.make_graph(
        [node],
        "attention",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "T", case.query_heads * V]),
            helper.make_tensor_value_info("last", TensorProto.FLOAT, ["N", case.heads, K, V]),
        ],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 27)], ir_version=10)


def weights(*shape: int) -> AnyArray:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("rule", "form"), CASES)
def test_outputs_and_gradients_equal_the_textbook(rule: str, form: str) -> None:
    case = operands(rule, form)
    y, last = case.forward()
    model = model_of(case)
    for output, value in (("y", y), ("last", last)):
        own = weights(*value.shape[1:])
        e = model.explain(case.operands, lx.Gradient(), lx.Target(output=output, weights=own))
        np.testing.assert_allclose(e.outputs[output], value, atol=1e-5)
        given = {"y": np.zeros_like(y), "last": np.zeros_like(last)} | {output: np.broadcast_to(own, value.shape)}
        for name, expected in case.gradient(given["y"], given["last"]).items():
            np.testing.assert_allclose(e.relevance[name], expected, atol=2e-5 * np.abs(expected).max(initial=1))


@pytest.mark.parametrize(("rule", "form"), CASES)
def test_relevance_equals_the_closed_form(rule: str, form: str) -> None:
    case = operands(rule, form)
    y, _ = case.forward()
    own = weights(*y.shape[1:])
    e = model_of(case).explain(case.operands, lx.LRP(), lx.Target(output="y", weights=own))
    expected, absorbed = case.relevance(own * y, lx.LRP().relative.layers)
    for name, array in e.relevance.items():
        wanted = expected.get(name, np.zeros_like(array))
        np.testing.assert_allclose(array, wanted, atol=2e-4 * max(1, np.abs(wanted).max()), err_msg=name)
    np.testing.assert_allclose(e.ledger.absorbed, absorbed, atol=1e-4 * np.abs(own * y).sum())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("method", [lx.LRP(p, b) for p in ("all", "half", "prop", "abs") for b in (0.0, 1.0)], ids=str)
def test_ledgers_close(rule: str, method: lx.LRP) -> None:
    case = operands(rule, "grouped")
    model = model_of(case)
    for output in ("y", "last"):
        e = model.explain(case.operands, method, lx.Target(output=output, weights=weights(*model_shape(case, output))))
        moved = sum(float(np.abs(r).sum()) for r in e.relevance.values()) + float(np.abs(e.ledger.absorbed).max())
        assert np.abs(e.ledger.residual).max() <= 1e-5 * moved


def model_shape(case: LinearAttention, output: str) -> tuple[int, ...]:
    return (T, case.query_heads * V) if output == "y" else (case.heads, K, V)


def test_a_constant_state_is_an_initial_state_of_the_ledger() -> None:
    case = operands("gated", "one-state")
    given = {name: x for name, x in case.operands.items() if name != "past_state"}
    target = lx.Target(output="y", weights=weights(T, case.query_heads * V))
    live = model_of(case).explain(case.operands, lx.LRP(), target)
    # A constant state has one sample for each of the batch.
    e = model_of(case, constant_state=True).explain(given, lx.LRP(), target)
    np.testing.assert_allclose(
        e.ledger.initial_states, live.relevance["past_state"].sum(axis=(1, 2, 3)), rtol=1e-4, atol=1e-5
    )


def test_two_halves_of_a_sequence_equal_the_whole() -> None:
    """The state that one call returns explains the next: relevance of the state continues in the first half."""
    case = operands("gated_delta", "grouped")
    first, second = ({n: x if n == "past_state" else x[:, part] for n, x in case.operands.items()} for part in
                     (slice(0, 2), slice(2, None)))  # fmt: skip
    model, own = model_of(case), weights(T - 2, case.query_heads * V)
    whole_weights = np.concatenate([np.zeros((2, case.query_heads * V), np.float32), own])
    whole = model.explain(case.operands, lx.Gradient(), lx.Target(output="y", weights=whole_weights))
    second["past_state"] = model.predict(first)["last"]
    e = model.explain(second, lx.Gradient(), lx.Target(output="y", weights=own))
    for n in range(B):
        one = {name: x[n : n + 1] for name, x in first.items()}
        handed = lx.Target(output="last", weights=e.relevance["past_state"][n])
        earlier = model.explain(one, lx.Gradient(), handed)
        np.testing.assert_allclose(earlier.relevance["value"][0], whole.relevance["value"][n, :2], atol=1e-5)
    np.testing.assert_allclose(e.relevance["value"], whole.relevance["value"][:, 2:], atol=1e-5)


def test_the_graph_shows_samples_and_time_steps() -> None:
    case = operands("gated_delta", "grouped")
    model = model_of(case)
    assert {n: (a.batch, a.time, a.certain) for n, a in model.axes.items() if n != "past_state"} == {
        n: (0, 1, True) for n in case.operands if n != "past_state"
    }
    assert model.axes["past_state"].batch == 0
    warnings = model.report().warnings
    assert all(warning.startswith("feeds gates only: input ") for warning in warnings)
    relevance = model.explain(case.operands, lx.LRP(), lx.Target(output="y", index=(T - 1, 2))).relevance
    nothing = {name for name, array in relevance.items() if not array.any()}
    assert {warning.split("'")[1] for warning in warnings} == nothing == {"query", "key", "decay", "beta"}


def test_the_report_names_every_gate() -> None:
    nodes = {n.name.rpartition("/")[2]: n for n in model_of(operands("gated_delta", "plain")).report().nodes}
    gates = {"decayed": "decay", "retrieved": "key_row", "written": "beta", "write": "key", "read": "query"}
    assert {name: nodes[name].gate.rpartition("/")[2] for name in gates} == gates


@pytest.mark.parametrize("method", [lx.LRP(), lx.LRP("half"), lx.Gradient()], ids=str)
@pytest.mark.parametrize("rule", ["linear", "gated_delta"])
def test_a_compiled_file_explains_alike(rule: str, method: lx.Method) -> None:
    case = operands(rule, "grouped")
    target = lx.Target(output="y", index=(T - 1, 2))
    proto = proto_of(case)
    expected = lx.load(proto).explain(case.operands, method, target)
    check_like_engine(run_file(lx.compile(proto, method=method, target=target), case.operands), expected)


@pytest.mark.parametrize(
    ("attribute", "value"), [("update_rule", "erase"), ("kv_num_heads", 5), ("q_num_heads", 3), ("kv_num_heads", 0)]
)
def test_attributes_that_do_not_fit_are_refused(attribute: str, value: object) -> None:
    proto = proto_of(operands("gated_delta", "plain"))
    node = proto.graph.node[0]
    kept = [a for a in node.attribute if a.name != attribute]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(attribute, value)])
    with pytest.raises((lx.ModelError, lx.InputError), match=r"LinearAttention"):
        lx.load(proto).explain(operands("gated_delta", "plain").operands)


def test_an_absent_decay_is_refused() -> None:
    proto = proto_of(operands("gated", "plain"))
    proto.graph.node[0].input[4] = ""
    with pytest.raises(lx.ModelError, match="requires decay input"):
        lx.load(proto)


def test_keys_that_no_layer_normalises_do_not_keep_a_model_from_loading() -> None:
    """The inputs that loading makes up let the state of a delta rule overflow after some hundred steps."""
    case = operands("gated_delta", "grouped", steps=400)
    proto = proto_of(case)
    for value in (*proto.graph.input, *proto.graph.output):
        for extent in value.type.tensor_type.shape.dim:
            if extent.dim_param == "T":
                extent.dim_value = 400
    own = np.zeros((400, case.query_heads * V), np.float32)
    own[-1] = 1
    e = lx.load(proto).explain(case.operands, lx.LRP(), lx.Target(output="y", weights=own))
    assert np.isfinite(e.relevance["value"]).all()


def layer(rule: str, seed: int, features: int = 8, heads: int = 2) -> onnx.ModelProto:
    """x [N, T, features] -> query, key, value, decay and rate -> linear attention -> the last step -> logits [N, 2]."""
    g, rng = GraphBuilder(np.float32, 27), np.random.default_rng(seed)
    x = g.input("x", ["N", "T", features])

    def dense(name: str, columns: int, bias: float = 0.0) -> str:
        matrix = g.constant(rng.standard_normal((features, columns)) / np.sqrt(features), f"{name}_weights")
        return g.op("Add", [g.op("MatMul", [x, matrix]), g.constant(bias + 0.3 * rng.standard_normal(columns), name)])

    def normalised(name: str) -> str:
        split = g.op("Reshape", [dense(name, heads * K), g.ints(0, 0, heads, K)])
        return g.op("Reshape", [g.op("LpNormalization", [split], axis=-1, p=2), g.ints(0, 0, -1)])

    given = [normalised("query"), normalised("key"), g.op("Tanh", [dense("value", heads * 2 * V)]), "", "", ""]
    if "gated" in rule:
        given[4] = g.op("Neg", [g.op("Softplus", [dense("decay", heads, -2.0)])])
    if "delta" in rule:
        given[5] = g.op("Sigmoid", [dense("rate", heads)])
    read, _ = g.ops("LinearAttention", given, 2, q_num_heads=heads, kv_num_heads=heads, update_rule=rule)
    last = g.op("Gather", [read, g.constant(np.array(-1), "last")], axis=1)
    head = g.constant(rng.standard_normal((heads * 2 * V, 2)), "head")
    return g.model(g.op("MatMul", [last, head]), ["N", 2])


@pytest.mark.parametrize("rule", RULES)
def test_relevance_has_the_sign_of_occlusion_where_it_matters(rule: str) -> None:
    """At least 80 % of the steps that matter: the fifth with the largest effect under Occlusion."""
    steps, agreeing = 30, []
    feeds = {"x": np.random.default_rng(3).standard_normal((20, steps, 8)).astype(np.float32)}
    for seed in range(6):
        model = lx.load(layer(rule, seed))
        own, effect = (
            model.explain(feeds, method, lx.Target(index=0)).relevance["x"].sum(axis=2)
            for method in (lx.LRP(), lx.Occlusion())
        )
        top = np.argsort(-np.abs(effect), axis=1)[:, : steps // 5]
        agreeing.append(np.sign(np.take_along_axis(own, top, 1)) == np.sign(np.take_along_axis(effect, top, 1)))
    assert np.mean(agreeing) >= 0.8
