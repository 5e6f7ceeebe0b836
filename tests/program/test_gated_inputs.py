# SPDX-License-Identifier: Apache-2.0
"""An input that feeds gates only gets no relevance under "all": the report, the answer and `inspect` say so."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.cli import main
from lstm_explain.model import Model
from tests import zoo
from tests.graph_builder import GraphBuilder

EXPORTS = Path(__file__).parents[1] / "exports"
RNG = np.random.default_rng(17)
X, S = RNG.standard_normal((2, 4)).astype(np.float32), RNG.standard_normal((2, 3)).astype(np.float32)


def gated(*, direct: bool = False) -> onnx.ModelProto:
    """tanh(x W) times a gate of the static input s, as in an entity-aware LSTM. direct: s enters the sum as well."""
    g = GraphBuilder(np.float32, 17)
    x, s = g.input("x", ["B", 4]), g.input("s", ["B", 3])
    gate = g.op("Sigmoid", [g.op("MatMul", [s, g.constant(RNG.standard_normal((3, 5)), "V")])])
    signal = g.op("Tanh", [g.op("MatMul", [x, g.constant(RNG.standard_normal((4, 5)), "W")])])
    y = g.op("MatMul", [g.op("Mul", [gate, signal]), g.constant(RNG.standard_normal((5, 2)), "U")])
    if direct:
        y = g.op("Add", [y, g.op("MatMul", [s, g.constant(RNG.standard_normal((3, 2)), "T")])])
    return g.model(y, ["B", 2])


def gate_warnings(warnings: object) -> list[str]:
    return [w.partition(",")[0] for w in warnings if w.startswith("feeds gates only")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("rule", ["all", "half", "prop", "abs"])
def test_an_answer_names_inputs_that_feed_gates_only(rule: str) -> None:
    model = lx.load(gated())
    for _ in range(3):  # the last ones by a specialised program
        e = model.explain({"x": X, "s": S}, lx.LRP(rule), lx.Target(index=1))
        zero = not e.relevance["s"].any()
        assert zero == (rule == "all")
        assert gate_warnings(e.warnings) == (["feeds gates only: input 's'"] if zero else [])
    (many,) = model.explain_many({"x": X, "s": S}, lx.LRP(rule), [lx.Target(index=1)])
    assert gate_warnings(many.warnings) == gate_warnings(e.warnings)


def test_other_methods_and_other_paths_cause_no_warning() -> None:
    assert not gate_warnings(lx.load(gated()).explain({"x": X, "s": S}, lx.Occlusion(), lx.Target(index=1)).warnings)
    model = lx.load(gated(direct=True))
    assert not gate_warnings(model.explain({"x": X, "s": S}, lx.LRP(), lx.Target(index=1)).warnings)
    assert not gate_warnings(model.report().warnings)


@pytest.mark.parametrize("export", ["legacy", "dynamo"])
def test_the_gate_may_be_inside_a_loop(export: str) -> None:
    """An entity-aware LSTM, whose 60 steps run as one Scan, which reads its static gate."""
    proto = onnx.load(str(EXPORTS / "ealstm" / f"model.{export}.onnx"))
    model = lx.load(proto)
    assert [node.op for node in model.engine.graph.nodes].count("Scan") == 1
    for engine in (model, Model(proto, fold=False)):
        assert gate_warnings(engine.report().warnings) == ["feeds gates only: input 'x_s'"]
    with np.load(EXPORTS / "ealstm" / "input.npz") as stored:
        e = model.explain(dict(stored), lx.LRP(), lx.Target(index=0))
    assert not e.relevance["x_s"].any()
    assert gate_warnings(e.warnings) == ["feeds gates only: input 'x_s'"]


@pytest.mark.parametrize("name", [name for name in zoo.second_names() if len(zoo.load(name).inputs) == 1])
def test_no_cell_of_the_zoo_reads_its_sequence_by_gates_only(name: str) -> None:
    assert not gate_warnings(lx.load(zoo.load(name).path).report().warnings)


def test_inspect_names_the_input_and_the_rule_that_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate_warnings(lx.load(gated()).report().warnings) == ["feeds gates only: input 's'"]
    onnx.save(gated(), str(tmp_path / "gated.onnx"))
    with suppress(SystemExit):
        main(["inspect", str(tmp_path / "gated.onnx"), "--json"])
    (shown,) = json.loads(capsys.readouterr().out)["warnings"]
    assert shown.startswith("feeds gates only: input 's'")
    assert "half" in shown
