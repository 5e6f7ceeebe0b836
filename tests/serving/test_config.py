# SPDX-License-Identifier: Apache-2.0
"""The keys of model.yaml, and errors that name file, line and key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from lstm_explain.repository.model_yaml import parse_config, read_config
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.errors import NotReady
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.models.snapshot import Failed
from tests.serving.models import lstm, words, write_tokenizer, write_version

FULL = """\
description: River discharge
method:
  name: lrp
  product_rule: half
  epsilon: 0.01
target:
  output: logits
  index: 2
  contrast: [0]
batch_axis: 0
time_axis: {x: 1}
classes: {logits: [low, middle, high]}
features: {x: [rain, snow, sun, wind]}
units: {x: [mm, mm, W/m2, m/s], logits: mm/day}
"""
INPUTS = {"x": lx.TensorSpec(np.dtype("f4"), ("batch", "time", 4))}
OUTPUTS = {"logits": lx.TensorSpec(np.dtype("f4"), ("batch", 3))}


def test_every_key_is_read() -> None:
    file = parse_config(FULL)
    file.check(INPUTS, OUTPUTS)
    assert file.config.default_method() == lx.LRP("half", 0.01)
    target = file.config.default_target("logits")
    assert (target.output, target.index, target.contrast, target.batch_axis) == ("logits", 2, (0,), 0)


def test_an_empty_or_missing_file_gives_the_defaults(tmp_path: Path) -> None:
    for file in (parse_config(""), parse_config("# nothing\n"), read_config(tmp_path / "model.yaml")):
        assert file.config.default_method() == lx.LRP()
        assert file.config.default_target("logits").batch_axis == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("description: a\ncolour: red\n", "model.yaml:2: colour: unknown key"),
        ("target:\n  output: y\n  colour: red\n", "model.yaml:3: target.colour: unknown key"),
        ("\n\nbatch_axis: first\n", "model.yaml:3: batch_axis: input should be a valid integer"),
        ("description: a\nlimits:\n  max_batch: 1\n  max_batch: 2\n", "model.yaml:4: limits.max_batch: occurs twice"),
        ("batch_axis: true\n", "model.yaml:1: batch_axis: input should be a valid integer"),
        ("gates:\n  a: true\n", "model.yaml:2: gates.a: input should be a valid integer"),
        ("target: {index: [1, 0.5]}\n", "model.yaml:1: target.index"),
        ("batch_axis: -1\n", "model.yaml:1: batch_axis: input should be greater than or equal to 0"),
        ("classes:\n  logits:\n    - a\n    - [b]\n", "model.yaml:4: classes.logits.1: input should be a valid string"),
        ("method:\n  epsilon: 1\n", "model.yaml:1: method.name: field required"),
        ("method:\n  name: lrp\n  epsilon: -1\n", "model.yaml:3: method.epsilon: lrp: epsilon is -1"),
        ("method:\n  name: magic\n", "model.yaml:1: method: unknown method 'magic'"),
        ("method: {name: lrp, gamma: 1}\n", "model.yaml:1: method.gamma: lrp: unknown parameter 'gamma'"),
        (
            "tokenizer:\n  input: x\n  file: ../../secret\n",
            "model.yaml:3: tokenizer.file: must be a file in the model's folder",
        ),
        ("tokenizer:\n  input: x\n  file: /etc/passwd\n", "model.yaml:3: tokenizer.file: must be a file"),
        ("a: [1,\n", "model.yaml:2: not YAML: "),
        ("- a\n- b\n", "model.yaml:1: input should be a valid dictionary"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "model.yaml:1: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed",
        ),
    ],
)
def test_errors_name_line_and_key(text: str, error: str) -> None:
    with pytest.raises(lx.ModelError) as raised:
        parse_config(text)
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("target:\n  output: y\n", "model.yaml:2: target.output: the model has no 'y', only logits"),
        (
            "target:\n  output: logits\n  index: 3\n",
            "model.yaml:3: target.index: index (3,) is outside output 'logits', whose samples have shape (3,)",
        ),
        (
            "target:\n  contrast: 3\n",
            "model.yaml:2: target.contrast: contrast (3,) is outside output 'logits', whose samples have shape (3,)",
        ),
        ("batch_axis: {z: 0}\n", "model.yaml:1: batch_axis.z: the model has no 'z', only x, logits"),
        ("batch_axis: {logits: 2}\n", "model.yaml:1: batch_axis.logits: the axes are 0 to 1"),
        ("batch_axis: 1\ntime_axis: {x: 1}\n", "model.yaml:2: time_axis.x: axis 1 is the batch axis"),
        ("classes:\n  logits: [a, b]\n", "model.yaml:2: classes.logits: 2 names for 3 entries"),
        ("features: {z: [a]}\n", "model.yaml:1: features.z: the model has no 'z', only x"),
        ("time_axis:\n\n  x: 3\n", "model.yaml:3: time_axis.x: the axes are 0 to 2"),
        ("units:\n  x: [mm]\n", "model.yaml:2: units.x: 1 names for 4 entries"),
        ("tokenizer: {file: a.json, input: y}\n", "model.yaml:1: tokenizer.input: the model has no 'y', only x"),
    ],
)
def test_errors_for_keys_that_do_not_match_the_model(text: str, error: str) -> None:
    with pytest.raises(lx.ModelError) as raised:
        parse_config(text).check(INPUTS, OUTPUTS)
    assert str(raised.value) == error


def test_a_position_along_an_axis_of_unknown_length_is_checked_per_request() -> None:
    outputs = {"steps": lx.TensorSpec(np.dtype("f4"), ("batch", "time", 3))}
    parse_config("target: {index: [500, 2]}\n").check(INPUTS, outputs)


def test_an_error_for_invalid_utf8_has_a_line(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_bytes(b"description: a\n# \xff\n")
    with pytest.raises(lx.ModelError, match=r"^model.yaml:2: not UTF-8: invalid start byte$"):
        read_config(tmp_path / "model.yaml")


def test_tokenizers_that_cannot_be_used(tmp_path: Path) -> None:
    write_version(tmp_path, "none", words(), 1, "tokenizer: {file: tokenizer.json, input: tokens}\n")
    folder = write_version(tmp_path, "broken", words(), 1, "\ntokenizer:\n  file: t.json\n  input: tokens\n")
    (folder / "t.json").write_text("{}")
    write_tokenizer(write_version(tmp_path, "floats", lstm(), 1, "tokenizer: {file: tokenizer.json, input: x}\n"))
    reasons = {e.name: e.reason for e in ModelManager(tmp_path).load() if isinstance(e, Failed)}
    assert reasons["none"] == "model.yaml:1: tokenizer.file: there is no tokenizer file 'tokenizer.json'"
    assert reasons["broken"].startswith("model.yaml:3: tokenizer.file: t.json: not a tokenizer")
    assert "input 'x' takes float32" in reasons["floats"]


def test_unchanged_files_are_not_loaded_again(tmp_path: Path) -> None:
    write_version(tmp_path, "same", lstm(0))
    changing = write_version(tmp_path, "changing", lstm(1))
    repository = ModelManager(tmp_path)
    before = repository.load()
    write_version(tmp_path, "new", lstm(2))
    (changing / "model.yaml").write_text("description: now with words\n")
    after = repository.load()
    assert after.entry("same") is before.entry("same")
    assert after.entry("changing") is not before.entry("changing")
    assert isinstance(after.entry("new"), ServedModel)
    assert "new" not in before.models


def test_a_version_with_invalid_new_files_stays_in_service(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "model", lstm())
    repository = ModelManager(tmp_path)
    before = repository.load()
    (folder / "1" / "model.onnx").write_bytes(b"not ONNX")
    after = repository.load()
    assert after.ready("model").model is before.ready("model").model
    assert "not ONNX" not in after.ready("model").card.problem
    assert after.ready("model").card.problem


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("", lx.Axes(0, 1)),
        ("batch_axis: 1\n", lx.Axes(1, 0)),  # the two change places
        ("time_axis: {x: 0}\n", lx.Axes(1, 0)),
        ("time_axis: {x: 2}\n", lx.Axes(0, 2)),
        ("batch_axis: null\n", lx.Axes(None, 1)),
        ("batch_axis: {x: 1, logits: 0}\n", lx.Axes(1, 0)),
        ("batch_axis: {logits: 0}\n", lx.Axes(0, 1)),
    ],
)
def test_axes_reach_the_model(tmp_path: Path, text: str, axes: lx.Axes) -> None:
    write_version(tmp_path, "m", lstm(), 1, text)
    served = ModelManager(tmp_path).load().ready("m")
    assert isinstance(served, ServedModel)
    assert served.model.axes == served.card.axes == {"x": axes}
    assert served.default_target.batch_axis == (1 if text == "batch_axis: 1\n" else None if "null" in text else 0)


def test_gates_reach_the_model(tmp_path: Path) -> None:
    """x · tanh(x): the graph does not show which operand is the gate."""
    nodes = [helper.make_node("Tanh", ["x"], ["t"], "t"), helper.make_node("Mul", ["x", "t"], ["y"], "product")]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for name, gate in (("first", 0), ("second", 1), ("neither", None)):
        write_version(tmp_path, name, proto, 1, f"gates: {{product: {'null' if gate is None else gate}}}\n")
        served = ModelManager(tmp_path).load().ready(name)
        assert isinstance(served, ServedModel)
        (product,) = [n for n in served.card.report.nodes if n.name == "product"]
        assert (product.gate, product.signal) == {0: ("x", "t"), 1: ("t", "x"), None: ("", "")}[gate], product
    write_version(tmp_path, "nobody", proto, 1, "gates:\n  nothing: 0\n")
    with pytest.raises(NotReady, match=r"model.yaml:2: gates.nothing: the model has no node 'nothing'"):
        ModelManager(tmp_path).load().ready("nobody")


def test_files_that_expand_or_nest_too_deeply() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    with pytest.raises(lx.ModelError, match=r"model.yaml:2: aliases are not allowed"):
        parse_config(bomb)
    with pytest.raises(lx.ModelError, match=r"nested too deeply|maximum nesting depth"):
        parse_config("[" * 20_000)
    with pytest.raises(lx.ModelError, match="more than"):
        parse_config("a: b\n" * 300_000)


def test_a_version_may_have_its_own_configuration(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "m", lstm(0), 1, "description: all\n")
    write_version(tmp_path, "m", lstm(1), 2)
    (folder / "2" / "model.yaml").write_text("description: the second\n")
    snapshot = ModelManager(tmp_path).load()
    assert [e.card.config.description for e in snapshot] == ["all", "the second"]


def test_a_configuration_that_is_not_a_file_is_an_error(tmp_path: Path) -> None:
    write_version(tmp_path, "m", lstm(1))
    (tmp_path / "m" / "model.yaml").mkdir()
    (tmp_path / "m" / "1" / "model.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(lx.ModelError, match=r"^model.yaml: expected a file, found a folder$"):
        read_config(tmp_path / "m" / "model.yaml")
    for what in ("something else", "a folder"):  # the version's own comes before its model's
        failed = ModelManager(tmp_path).load().entry("m")
        assert isinstance(failed, Failed)
        assert failed.reason == f"model.yaml: expected a file, found {what}"
        (tmp_path / "m" / "1" / "model.yaml").unlink(missing_ok=True)
