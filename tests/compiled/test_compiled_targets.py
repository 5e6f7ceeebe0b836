# SPDX-License-Identifier: Apache-2.0
"""What a compiled file explains: an entry, the largest, a difference, a weighted sum, or what its input says."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from tests.builders import recurrent_model
from tests.compiled.compiled_files import check_like_engine, run_file
from tests.graph_builder import GraphBuilder

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 4, 4)).astype(np.float32)


@functools.cache
def model() -> lx.Model:
    return lx.load(recurrent_model(np.random.default_rng(1), "GRU", D=4, H=3).model)


@pytest.mark.parametrize(
    "target",
    [
        lx.Target(),
        lx.Target(index=1),
        lx.Target(index=-1),
        lx.Target(index=(2,)),
        lx.Target(index=0, contrast=2),
        lx.Target(contrast=1),
        lx.Target(weights=np.array([0.5, -1.0, 2.0])),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["lrp", "gradient_times_input"])
def test_targets(target: lx.Target, method: str) -> None:
    check_like_engine(
        run_file(lx.compile(model(), method, target), {"x": X}),
        model().explain({"x": X}, method, target),
    )


def test_a_target_for_each_sample_at_run_time() -> None:
    proto = lx.compile(model(), target="logits:runtime")
    (given,) = [i for i in proto.graph.input if i.name == "target"]
    assert given.type.tensor_type.elem_type == onnx.TensorProto.INT64
    best = model().predict({"x": X})["logits"].argmax(axis=-1)
    for chosen in ([0, 1, 2, 0], [-1, 2, -1, 1]):
        found = run_file(proto, {"x": X, "target": np.array(chosen)})
        index = np.where(np.array(chosen) == -1, best, chosen)
        check_like_engine(found, model().explain({"x": X}, target=lx.Target(index=index)))


def test_an_output_with_a_time_axis_and_one_with_its_batch_elsewhere() -> None:
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["T", "B", 3])
    w = g.constant(RNG.standard_normal((3, 2)).astype(np.float32), "w")
    proto = g.model(g.op("MatMul", [x, w]), ["T", "B", 2])
    loaded, (output,) = lx.load(proto), [o.name for o in proto.graph.output]
    feeds = {"x": RNG.standard_normal((6, 3, 3)).astype(np.float32)}
    for index in ((0, 1), (-1, 0), (0, -2)):
        target = lx.Target(output, index, batch_axis=1)
        check_like_engine(run_file(lx.compile(loaded, target=target), feeds), loaded.explain(feeds, target=target))


def test_a_model_without_a_batch_axis() -> None:
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["T", 3])
    w = g.constant(RNG.standard_normal((3, 4)).astype(np.float32), "w")
    total = g.op("ReduceSum", [x, g.constant(np.array([0]), "time")], keepdims=1)
    proto = g.model(g.op("Tanh", [g.op("MatMul", [total, w])]), [1, 4])
    loaded = lx.load(proto)
    feeds = {"x": RNG.standard_normal((6, 3)).astype(np.float32)}
    target = lx.Target(index=(0, 2), batch_axis=None)
    check_like_engine(run_file(lx.compile(loaded, target=target), feeds), loaded.explain(feeds, target=target))


def refused(error: Any, target: Any, **more: Any) -> str:
    with pytest.raises(error) as raised:
        lx.compile(model(), target=target, **more)
    return str(raised.value)


@pytest.mark.parametrize("method", [lx.LRP(), lx.IntegratedGradients(steps=15, max_steps=15)], ids=["lrp", "path"])
def test_nodes_without_names(method: lx.Method) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(model().proto)
    for node in proto.graph.node:
        node.ClearField("name")
    unnamed = lx.load(proto)
    check_like_engine(run_file(lx.compile(unnamed, method), {"x": X}), unnamed.explain({"x": X}, method))


def test_a_compiled_file_is_not_compiled_again() -> None:
    with pytest.raises(lx.ModelError, match="compiled"):
        lx.compile(lx.compile(model()))


def test_targets_that_do_not_fit_are_refused() -> None:
    assert "99" in refused(lx.TargetError, 99)
    assert "runtime" in refused(lx.TargetError, lx.Target(index=np.array([0, 1, 2])))
    assert "nowhere" in refused(lx.TargetError, "nowhere:runtime")
    assert "occlusion" in refused(lx.MethodError, 0, method="occlusion")
    assert "composite" in refused(lx.MethodError, 0, method=lx.LRP(composite=lx.Composite({"dense": lx.ZPlus()})))
    assert "opset" in refused(lx.MethodError, 0, opset=12)
