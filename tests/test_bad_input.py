"""Whatever is wrong gets one clear error that names it, and the next call is answered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from lstm_explain.cli import main
from tests.builders import GraphBuilder, recurrent_model
from tests.laws import check_same

BUILT = recurrent_model(np.random.default_rng(61), sequence_lens=True, initial_states="input", head="Y_h")
FEEDS = BUILT.feeds(np.random.default_rng(62), T=5)
BYTES = BUILT.model.SerializeToString()


@pytest.fixture(scope="module")
def model() -> lx.Model:
    return lx.load(BUILT.model)


@pytest.fixture(autouse=True)
def the_next_call_is_answered(model: lx.Model) -> Iterator[None]:
    yield
    e = model.explain(FEEDS, target=lx.Target(index=1))
    np.testing.assert_allclose(e.explained, BUILT.reference_forward(FEEDS)[:, 1], rtol=1e-4, atol=1e-6)


# --- inputs ----------------------------------------------------------------------------------------------------------


def spoiled(name: str, value: float, dtype: Any = np.float32) -> Any:
    array = FEEDS[name].astype(dtype)
    array.flat[1] = value
    return array


WRONG_INPUTS: dict[str, tuple[dict[str, Any], str, str]] = {  # what replaces FEEDS, the input to name, a word to say
    "unknown": ({**FEEDS, "y": FEEDS["x"]}, "y", "x"),
    "missing": ({k: v for k, v in FEEDS.items() if k != "lens"}, "lens", "missing"),
    "nothing": ({}, "x", "missing"),
    "rank-2": ({**FEEDS, "x": FEEDS["x"][0]}, "x", "(T, B, 4)"),
    "rank-4": ({**FEEDS, "x": FEEDS["x"][None]}, "x", "(T, B, 4)"),
    "scalar": ({**FEEDS, "x": 1.0}, "x", ""),
    "too-few-features": ({**FEEDS, "x": FEEDS["x"][:, :, :3]}, "x", "4"),
    "float64": ({**FEEDS, "x": FEEDS["x"].astype(np.float64)}, "x", "float32"),
    "integers": ({**FEEDS, "x": FEEDS["x"].astype(np.int64)}, "x", "float32"),
    "int64-lengths": ({**FEEDS, "lens": FEEDS["lens"].astype(np.int64)}, "lens", "int32"),
    "strings": ({**FEEDS, "x": FEEDS["x"].astype(str)}, "x", "float32"),
    "objects": ({**FEEDS, "x": np.full(FEEDS["x"].shape, None)}, "x", "float32"),
    "ragged-lists": ({**FEEDS, "x": [[1.0], [1.0, 2.0]]}, "x", ""),
    "complex": ({**FEEDS, "x": FEEDS["x"].astype(np.complex64)}, "x", "float32"),
    "no-steps": ({**FEEDS, "x": FEEDS["x"][:0]}, "x", "0"),
    "no-samples": ({**FEEDS, "x": FEEDS["x"][:, :0]}, "x", "0"),
    "nan": ({**FEEDS, "x": spoiled("x", np.nan)}, "x", "nan"),
    "inf": ({**FEEDS, "x": spoiled("x", np.inf)}, "x", "inf"),
    "minus-inf-state": ({**FEEDS, "initial_c_0": spoiled("initial_c_0", -np.inf)}, "initial_c_0", "inf"),
    "length-beyond-the-end": ({**FEEDS, "lens": spoiled("lens", 6, np.int32)}, "", "6"),
    "negative-length": ({**FEEDS, "lens": spoiled("lens", -1, np.int32)}, "", "-1"),
    "other-batch": ({**FEEDS, "initial_h_0": FEEDS["initial_h_0"][:, :2]}, "", ""),
    "other-batch-of-lengths": ({**FEEDS, "lens": FEEDS["lens"][:2]}, "", ""),
    "other-batch-of-x": ({**FEEDS, "x": FEEDS["x"][:, :2]}, "", ""),
}


@pytest.mark.parametrize("how", [lx.LRP(), lx.Gradient()], ids=["lrp", "gradient"])
@pytest.mark.parametrize(("feeds", "name", "said"), WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_an_input_that_does_not_fit_is_named(
    model: lx.Model, feeds: dict[str, Any], name: str, said: str, how: lx.Method
) -> None:
    with pytest.raises(lx.InputError) as refused:
        model.explain(feeds, how, lx.Target(index=1))
    assert said in str(refused.value)
    if name:
        assert repr(name) in str(refused.value)
        assert refused.value.field.startswith(f"inputs.{name}")
    assert "onnxruntime/" not in str(refused.value)  # no source locations of somebody else's code


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    g = GraphBuilder(np.float32, 17)
    tokens = g.input("tokens", ["B", "T"], TensorProto.INT64)
    vectors = g.op("Gather", [g.constant(np.random.default_rng(63).normal(size=(7, 3)), "E"), tokens])
    embedded = lx.load(g.model(g.reduce("mean", vectors, 1, "head"), ["B", 3], "y"))
    assert np.isfinite(embedded.explain({"tokens": np.array([[1, 6]])}).explained).all()
    for wrong in (7, -8, 2**40):
        with pytest.raises(lx.InputError):
            embedded.explain({"tokens": np.array([[1, wrong]])})
    assert np.isfinite(embedded.explain({"tokens": np.array([[1, 6]])}).explained).all()


def test_an_unknown_capture_is_named(model: lx.Model) -> None:
    with pytest.raises(lx.Error, match="no/such/tensor"):
        model.explain(FEEDS, target=lx.Target(index=1), capture=["no/such/tensor"])


def test_huge_inputs_are_answered_or_refused_but_never_with_nan(model: lx.Model) -> None:
    for value in (1e30, 3e38):
        feeds = {**FEEDS, "x": spoiled("x", value)}
        try:
            with np.errstate(over="ignore"):
                e = model.explain(feeds, lx.LRP(), lx.Target(index=1))
        except lx.InputError:
            continue
        assert np.isfinite(e.relevance["x"]).all()


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\x00" * 100,
        b"not a model",
        bytes(range(256)) * 4,
        b"\x89PNG\r\n\x1a\n",
        BYTES[: len(BYTES) // 2],
        BYTES[:-20],
        BYTES[20:],
        BYTES[::-1],
        onnx.ModelProto(),
        onnx.ModelProto().SerializeToString(),
    ],
    ids=[
        "empty",
        "zeros",
        "text",
        "garbage",
        "png",
        "half",
        "cut",
        "beheaded",
        "reversed",
        "no-graph",
        "no-graph-bytes",
    ],
)
def test_what_is_no_model_is_refused(source: Any) -> None:
    with pytest.raises(lx.ModelError) as refused:
        lx.load(source)
    assert len(str(refused.value)) > 10


def test_no_truncation_crashes() -> None:
    refused = 0
    for end in np.linspace(0, len(BYTES) - 1, 60).astype(int):
        try:
            lx.load(BYTES[:end])
        except lx.ModelError:
            refused += 1
    assert refused >= 55


def test_a_path_to_nothing_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.onnx", str(tmp_path / "nothing.onnx"), tmp_path):
        with pytest.raises(lx.ModelError, match=r"file|directory"):
            lx.load(path)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for content in (b"", b"hello", BYTES[:500]):
        path.write_bytes(content)
        with pytest.raises(lx.ModelError):
            lx.load(path)


def test_a_model_that_ends_the_process_of_shape_inference_is_refused_and_the_next_is_loaded() -> None:
    """A kernel wider than its input leaves fewer than no steps, of which a Slice asserts."""
    g = GraphBuilder(np.float32, 17)
    conv = g.op("Conv", [g.input("x", ["B", 1, 4]), g.constant(np.ones((1, 1, 9)), "W")])
    g.op("Slice", [conv, g.ints(-1), g.ints(5), g.ints(2)], "last")
    graph = helper.make_graph(
        g.nodes,
        "g",
        g.inputs,
        [helper.make_tensor_value_info("last_out", TensorProto.FLOAT, ["B", 1, "T"])],
        [*g.initializers.values()],
    )
    for _ in range(2):
        with pytest.raises(lx.ModelError, match="crashes"):
            lx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
        lx.load(BUILT.model)


def test_a_model_that_would_end_it_once_constants_are_folded_is_refused() -> None:
    """An Expand to a computed shape of -1, of which a Slice asserts as soon as the shape is known."""
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        folded (float[B] x) => (float[B] y) <int64[1] one = {1}, int64[1] none = {0}, float[1] zero = {0.0}> {
            minus = Neg(one)
            zeros = Expand(zero, minus)
            first = Slice(zeros, none, one, none)
            y = Add(x, first)
        }"""
    for _ in range(2):
        with pytest.raises(lx.ModelError, match="crashes"):
            lx.load(onnx.parser.parse_model(text))
        lx.load(BUILT.model)


def test_minus_one_for_an_unknown_extent() -> None:
    g = GraphBuilder(np.float32, 17)
    proto = g.model(g.op("Tanh", [g.input("x", ["B", 4])]), ["B", 4], rename="y")
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    e = lx.load(proto).explain({"x": np.ones((2, 4), np.float32)}, target=lx.Target(index=1))
    np.testing.assert_allclose(e.relevance["x"], [[0, np.tanh(1), 0, 0]] * 2, rtol=1e-6)


GREEDY = """
import sys, numpy as np, lstm_explain as lx
model = lx.load(sys.stdin.buffer.read())
for count in (50_000_000, 10):
    try:
        e = model.explain({"x": np.ones((1, 1), np.float32), "shape": np.array([1, count])})
        print(e.explained)
    except lx.InputError as error:
        print(error)
"""


def test_what_takes_too_much_memory_is_refused_and_the_next_call_is_answered() -> None:
    """200 MB of ones, where 100 MB are allowed."""
    g = GraphBuilder(np.float32, 17)
    ones = g.op("Expand", [g.input("x", ["B", 1]), g.input("shape", [2], TensorProto.INT64)])
    proto = g.model(g.op("ReduceSum", [ones, g.ints(1)]), ["B", 1], rename="y")
    done = subprocess.run(
        [sys.executable, "-c", GREEDY],
        input=proto.SerializeToString(),
        env=os.environ | {"LSTM_EXPLAIN_MAX_RUNTIME_BYTES": "100000000"},
        capture_output=True,
        check=True,
    )
    refused, answered = done.stdout.decode().splitlines()
    assert "LSTM_EXPLAIN_MAX_RUNTIME_BYTES=100000000" in refused
    assert answered == "[10.]"


@pytest.mark.parametrize("domain", ["", "com.example"])
def test_an_operator_that_nobody_knows_is_named(domain: str) -> None:
    """On loading if it claims to be ONNX's own, else when it is to be explained."""
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="strange", domain=domain)
    with pytest.raises(lx.Error, match="Frobnicate"):
        lx.load(tiny(node, [helper.make_opsetid(domain, 1)] if domain else [])).explain(
            {"x": np.ones((1, 4), np.float32)}
        )


def tiny(node: onnx.NodeProto, domains: Any = ()) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 4]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), *domains]
    return helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=8)


def test_a_message_stays_short_whatever_name_it_quotes() -> None:
    """It travels in a gRPC trailer."""
    with pytest.raises(lx.Error, match="Frobnicate") as refused:
        lx.load(tiny(helper.make_node("Frobnicate" * 100_000, ["x"], ["y"])))
    assert len(str(refused.value)) < 2100


def test_a_graph_with_a_missing_value_or_a_circle_is_refused() -> None:
    with pytest.raises(lx.ModelError):
        lx.load(tiny(helper.make_node("Add", ["x", "nowhere"], ["y"])))
    with pytest.raises(lx.ModelError):
        lx.load(tiny(helper.make_node("Add", ["x", "y"], ["y"])))


# --- external data ---------------------------------------------------------------------------------------------------

SECRET = np.arange(16, dtype=np.float32).tobytes()


def external(location: str, **more: str) -> onnx.ModelProto:
    """x [B, 4] @ W, with W kept in a file."""
    proto = tiny(helper.make_node("MatMul", ["x", "W"], ["y"]))
    W = proto.graph.initializer.add(name="W", data_type=TensorProto.FLOAT, dims=[4, 4])
    W.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        W.external_data.add(key=key, value=value)
    return proto


def place(folder: Path, proto: onnx.ModelProto) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize("location", ["weights.bin", "./weights.bin", "deep/weights.bin"])
def test_external_data_inside_the_folder_is_read(tmp_path: Path, location: str) -> None:
    path = place(tmp_path, external(location))
    (tmp_path / "deep").mkdir()
    (tmp_path / location).write_bytes(SECRET)
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(lx.load(path).explain({"x": x}).outputs["y"], [[24, 28, 32, 36]])


@pytest.mark.parametrize(
    "location", ["../secret.bin", "deep/../../secret.bin", "{outside}/secret.bin", "link.bin", "out/secret.bin"]
)
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for secret in (tmp_path / "secret.bin", outside / "secret.bin"):
        secret.write_bytes(SECRET)
    path = place(tmp_path / "model", external(location.format(outside=outside)))
    (path.parent / "deep").mkdir()
    (path.parent / "link.bin").symlink_to(outside / "secret.bin")
    (path.parent / "out").symlink_to(outside)
    with pytest.raises(lx.ModelError):
        lx.load(path)


@pytest.mark.parametrize(
    ("content", "more"),
    [(None, {}), (SECRET[:-4], {}), (b"", {}), (SECRET, {"offset": "32"}), (SECRET, {"length": "60"})],
    ids=["no-file", "short", "empty", "offset", "length"],
)
def test_external_data_that_does_not_fill_the_tensor_is_refused(tmp_path: Path, content: Any, more: Any) -> None:
    path = place(tmp_path, external("weights.bin", **more))
    if content is not None:
        (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(lx.ModelError):
        lx.load(path)


IMPOSSIBLE = {
    "NUL": ("weights\0.bin", {}),
    "long": ("w" * 5000, {}),
    "long-name": ("w" * 300, {}),
    "long-path": ("w/" * 2500, {}),
    "circle": ("circle.bin", {}),
    "folder": ("deep", {}),
    "dot": (".", {}),
    **{
        f"offset={text[:9]}": ("weights.bin", {"offset": text})
        for text in ("-4", "x", "1e9", "", "9" * 6000, "٣", "1 ", "9" * 18)
    },
    **{
        f"length={text[:9]}": ("weights.bin", {"length": text}) for text in ("-4", "x", "6_4", "0x40", "9" * 6000, "65")
    },
}


@pytest.mark.parametrize(("location", "more"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_entry_of_external_data_that_is_no_place_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], location: str, more: dict[str, str]
) -> None:
    """The tensor is named; `inspect` finds the file unreadable."""
    path = place(tmp_path, external(location, **more))
    (tmp_path / "deep").mkdir()
    (tmp_path / "circle.bin").symlink_to(tmp_path / "circle.bin")
    (tmp_path / "weights.bin").write_bytes(SECRET)
    with pytest.raises(lx.ModelError, match="tensor 'W': external data") as refused:
        lx.load(path)
    assert len(str(refused.value)) < 400
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("lstm-explain: tensor 'W'")


def test_many_tensors_of_the_same_bytes_are_refused(tmp_path: Path) -> None:
    """10 KB in the folder would be 1 MB in memory."""
    proto = external("weights.bin")
    for k in range(100):
        proto.graph.initializer.add().CopyFrom(proto.graph.initializer[0])
        proto.graph.initializer[-1].name = f"W{k}"
        proto.graph.initializer[-1].dims[:] = [2500]
    path = place(tmp_path, proto)
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    with pytest.raises(lx.ModelError, match="101 tensors need 1010000 bytes, their files have 10000"):
        lx.load(path)


def test_a_model_in_memory_has_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.bin").write_bytes(SECRET)
    monkeypatch.chdir(tmp_path)
    for source in (external("weights.bin"), external("weights.bin").SerializeToString()):
        with pytest.raises(lx.ModelError):
            lx.load(source)


# --- operators without a rule ----------------------------------------------------------------------------------------


def determinant() -> lx.Model:
    """x [B, 3, 3] to det [B], for which there is no rule, and to total [B]."""
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", 3, 3])
    total = g.op("ReduceSum", [x, g.ints(1, 2)], "total", keepdims=0)
    proto = g.model(g.op("Det", [x], "the_culprit"), ["B"], "det")
    proto.graph.output.append(helper.make_tensor_value_info(total, TensorProto.FLOAT, ["B"]))
    return lx.load(proto)


@pytest.mark.parametrize("how", [lx.LRP(), lx.Gradient(), lx.GradientTimesInput()], ids=lambda how: how.name)
def test_a_node_without_a_rule_is_named_and_other_outputs_are_explained(how: lx.Method) -> None:
    model, x = determinant(), np.random.default_rng(65).normal(size=(2, 3, 3)).astype(np.float32)
    with pytest.raises(lx.UnsupportedOperator) as refused:
        model.explain({"x": x}, how)
    assert (refused.value.node, refused.value.op) == ("the_culprit", "Det")
    assert "the_culprit" in str(refused.value)
    assert "Det" in str(refused.value)
    e = model.explain({"x": x}, how, lx.Target("total_out"))
    np.testing.assert_allclose(e.explained, x.sum(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(e.outputs["det"], np.linalg.det(x), rtol=1e-4)


def test_the_report_says_which_node_stops_it() -> None:
    report = determinant().report()
    assert not report.supported
    assert [(n.name, n.op) for n in report.nodes if not n.supported] == [("the_culprit", "Det")]
    assert lx.load(BUILT.model).report().supported


def test_scan_of_opset_8_is_another_operator_and_named() -> None:
    """It runs over the samples as well, and takes lengths in front of its states."""
    x, y, h, v, g, w = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [2, 3, 4]), ("y", [2, 4]), ("h", [4]), ("v", [4]), ("g", [4]), ("w", [4]))
    )
    body = helper.make_graph([helper.make_node("Add", ["h", "v"], ["g"]), helper.make_node("Tanh", ["g"], ["w"])],
                             "body", [h, v], [g, w])  # fmt: skip
    node = helper.make_node("Scan", ["", "start", "x"], ["y", "steps"], name="scan", body=body, num_scan_inputs=1)
    start = helper.make_tensor("start", TensorProto.FLOAT, [2, 4], np.zeros(8))
    graph = helper.make_graph([node], "g", [x], [y], [start])
    model = lx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=4))
    feeds = {"x": np.random.default_rng(66).normal(size=(2, 3, 4)).astype(np.float32)}
    assert not model.report().supported
    with pytest.raises(lx.UnsupportedOperator, match="Scan-8"):
        model.explain(feeds, lx.LRP(), lx.Target(index=0))
    for how in (lx.Occlusion(), lx.ShapleySampling()):
        e = model.explain(feeds, how, lx.Target(index=0))
        np.testing.assert_allclose(e.relevance["x"].sum(axis=(1, 2)), feeds["x"][:, :, 0].sum(axis=1), atol=1e-5)


# --- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("lpr", {}, "lpr"),
        ("", {}, "lrp"),
        ("lrp", {"rule": "all"}, "rule"),
        ("lrp", {"product_rule": "both"}, "both"),
        ("lrp", {"product_rule": None}, "None"),
        ("lrp", {"epsilon": -1e-3}, "epsilon"),
        ("lrp", {"epsilon": float("nan")}, "epsilon"),
        ("lrp", {"epsilon": float("inf")}, "epsilon"),
        ("lrp", {"epsilon": "small"}, "epsilon"),
        ("lrp", {"epsilon": 0.1, "stabiliser": 0.1}, "stabiliser"),
        ("lrp", {"ceiling": 0.5}, "ceiling"),
        ("lrp", {"bias_factor": 1.5}, "bias_factor"),
        ("lrp", {"bias_factor": -0.1}, "bias_factor"),
        ("lrp", {"bias_factor": True}, "bias_factor"),
        ("gradient", {"epsilon": 0.1}, "epsilon"),
        ("gradient_times_input", {"steps": 3}, "steps"),
    ],
)
def test_a_method_or_parameter_that_does_not_exist_is_named(name: str, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(lx.MethodError, match=said) as refused:
        lx.method_from_name(name, parameters)
    assert refused.value.field.startswith("method")


def test_methods_by_name_are_the_classes() -> None:
    assert lx.method_from_name("lrp", {"product_rule": "abs", "epsilon": 0.1}) == lx.LRP("abs", 0.1)
    assert lx.method_from_name("gradient") == lx.Gradient()
    given = {"product_rule": "prop", "epsilon": 0.5, "bias_factor": 1}
    assert given.items() <= lx.LRP("prop", np.float32(0.5), 1).parameters().items()


# --- many at once ----------------------------------------------------------------------------------------------------


def test_eight_threads_get_what_one_gets(model: lx.Model) -> None:
    """Good and bad calls of all methods at once, on one model, and a fresh model that all of them use first."""
    fresh = lx.load(BUILT.model)
    jobs = []
    for k in range(64):
        feeds = BUILT.feeds(np.random.default_rng(k), T=1 + k % 9, B=1 + k % 4)
        how = [lx.LRP(), lx.LRP("prop", 0.1), lx.LRP("abs", bias_factor=1.0), lx.Gradient()][k % 4]
        jobs.append((feeds, how, lx.Target(index=k % 3), [[], ["layer0:1"]][k // 4 % 2]))

    def answer(which: lx.Model, job: Any) -> dict[str, Any]:
        e = which.explain(*job)
        return {**e.relevance, **e.captured, "explained": e.explained, "residual": e.ledger.absorbed, **e.outputs}

    def wrong(k: int) -> None:
        with pytest.raises(lx.InputError):
            fresh.explain({"x": jobs[k][0]["x"]})

    serial = [answer(model, job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(answer, fresh, job) for job in jobs]
        mistakes = [pool.submit(wrong, k) for k in range(16)]
        for future, wanted in zip(futures, serial, strict=True):
            for name, came in future.result().items():
                check_same(came, wanted[name], 1e-6, name)
        for mistake in mistakes:
            mistake.result()


def test_an_output_without_elements_is_an_error_of_ours() -> None:
    g = GraphBuilder(np.float32, 17)
    proto = g.model(g.op("Slice", [g.input("x", ["B", 4]), g.ints(9), g.ints(9), g.ints(0)]), ["N", 4], rename="y")
    for index in (None, 1):
        with pytest.raises(lx.TargetError, match="it is empty"):
            lx.load(proto).explain({"x": np.ones((2, 4), np.float32)}, target=lx.Target(index=index))


def test_the_largest_of_unsigned_numbers_are_found() -> None:
    g = GraphBuilder(np.float32, 17)
    best, _ = g.ops("TopK", [g.input("x", ["B", 4], TensorProto.UINT8), g.ints(2)], 2)
    proto = g.model(g.op("Cast", [best], to=TensorProto.FLOAT), ["B", 2], rename="y")
    e = lx.load(proto).explain({"x": np.array([[3, 0, 200, 7]], np.uint8)}, target=lx.Target(index=1))
    np.testing.assert_allclose(e.relevance["x"], [[0, 0, 0, 7]])


def test_an_axis_out_of_range_is_an_error_of_ours() -> None:
    proto = tiny(helper.make_node("Squeeze", ["x", "axis"], ["y"], name="squeeze"))
    proto.graph.initializer.append(helper.make_tensor("axis", TensorProto.INT64, [1], [9]))
    with pytest.raises(lx.Error):
        lx.load(proto).explain({"x": np.ones((1, 4), np.float32)})


@pytest.mark.parametrize("method", ["lrp", None, lx.LRP])
def test_what_is_no_method_is_refused(method: Any) -> None:
    loaded = lx.load(tiny(helper.make_node("Relu", ["x"], ["y"])))
    with pytest.raises(lx.MethodError):
        loaded.explain({"x": np.ones((1, 4), np.float32)}, method, lx.Target(index=0))


@pytest.mark.parametrize("target", [0, "y", None])
def test_what_is_no_target_is_refused(target: Any) -> None:
    loaded = lx.load(tiny(helper.make_node("Relu", ["x"], ["y"])))
    with pytest.raises(lx.TargetError):
        loaded.explain({"x": np.ones((1, 4), np.float32)}, lx.LRP(), target)
