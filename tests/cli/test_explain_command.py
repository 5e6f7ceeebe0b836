# SPDX-License-Identifier: Apache-2.0
"""The command `lstm-explain explain`. Where a process of its own would show nothing more, it runs in this one."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.cli import main
from tests.cli.commands import failed, here, run
from tests.diverging_model import CALM, CANCELLING, diverging_model
from tests.serving.models import lstm

ROW = np.array([1, 0, -1, 0.5], np.float32)


def test_explain_writes_every_array(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "result"
    done = run(
        *("explain", folder / "good.onnx", "--input", f"x={folder / 'x.npy'}", "--out", out),
        *("--param", "epsilon=0.01", "--param", "product_rule=half", "--target", "logits:1"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = lx.load(folder / "good.onnx").explain(
        {"x": np.load(folder / "x.npy")}, lx.LRP("half", 0.01), lx.Target(output="logits", index=1)
    )
    with np.load(out) as arrays:
        ledger = {f"ledger/{part}" for part in ("inputs", "initial_states", "absorbed", "residual")}
        assert set(arrays.files) >= {"relevance/x", "output/logits", "explained", *ledger}
        np.testing.assert_array_equal(arrays["relevance/x"], expected.relevance["x"])
        np.testing.assert_array_equal(arrays["output/logits"], expected.outputs["logits"])
        np.testing.assert_array_equal(arrays["explained"], expected.explained)
        np.testing.assert_array_equal(arrays["ledger/absorbed"], expected.ledger.absorbed)


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        (["--method", "occlusion", "--param", "baseline=[1, 0, -1, 0.5]"], lambda x: lx.Occlusion(baseline=ROW)),
        (["--method", "occlusion", "--baseline", "x={}/row.npy"], lambda x: lx.Occlusion(baseline=ROW)),
        (
            ["--method", "integrated_gradients", "--param", "steps=9", "--mean-baseline", "x={}/x.npy"],
            lambda x: lx.IntegratedGradients(9, x.mean(axis=0, keepdims=True)),
        ),
        (
            ["--method", "contextual_decomposition", "--param", "span=2:5"],
            lambda x: lx.ContextualDecomposition((2, 5)),
        ),
        (["--param", "composite=Gemm=gamma(0.5)"], lambda x: lx.LRP(composite=lx.Composite({"Gemm": lx.Gamma(0.5)}))),
    ],
)
def test_parameters_of_several_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], method: Any
) -> None:
    np.save(tmp_path / "row.npy", ROW)
    x = np.load(folder / "x.npy")
    np.save(tmp_path / "x.npy", x)
    given = [argument.format(tmp_path) for argument in arguments]
    done = here(capsys, "explain", folder / "good.onnx", "--input", f"x={folder / 'x.npy'}", "--json", *given)
    assert done.stderr == ""
    expected = lx.load(folder / "good.onnx").explain({"x": x}, method(x))
    np.testing.assert_allclose(json.loads(done.stdout)["relevance/x"], expected.relevance["x"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("target", ["2", "logits:2", "-1"])
def test_targets(folder: Path, capsys: pytest.CaptureFixture[str], target: str) -> None:
    done = here(
        capsys, "explain", folder / "good.onnx", "--input", f"x={folder / 'x.npy'}", f"--target={target}", "--json"
    )
    answer = json.loads(done.stdout)
    np.testing.assert_allclose(answer["explained"], np.array(answer["output/logits"])[:, 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ((), lx.LRP("half", 0.05)),
        (("--param", "epsilon=0.1"), lx.LRP("half", 0.1)),
        (("--method", "lrp", "--param", "stabiliser=0.1,0.01"), lx.LRP("half", stabiliser=(0.1, 0.01))),
        (("--method", "gradient"), lx.Gradient()),
    ],
)
def test_explain_starts_from_the_parameters_in_model_yaml(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: tuple[str, ...], method: lx.Method
) -> None:
    version = tmp_path / "lstm" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes((folder / "good.onnx").read_bytes())
    text = "method: {name: lrp, product_rule: half, epsilon: 0.05}\ntarget: {index: 1}\n"
    (tmp_path / "lstm" / "model.yaml").write_text(text)
    with suppress(SystemExit):
        main(["explain", str(tmp_path / "lstm"), "--input", f"x={folder / 'x.npy'}", "--json", *given])
    answer = json.loads(capsys.readouterr().out)
    expected = lx.load(folder / "good.onnx").explain({"x": np.load(folder / "x.npy")}, method, lx.Target(index=1))
    np.testing.assert_allclose(answer["relevance/x"], expected.relevance["x"], rtol=1e-6)


def test_several_targets(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, page = tmp_path / "r.npz", tmp_path / "r.html"
    given = ("--input", f"x={folder / 'x.npy'}", "--targets", "2; every class")
    done = here(capsys, "explain", folder / "good.onnx", *given, "--out", out, "--html", page)
    assert done.returncode == 0, done.stderr
    written, model = np.load(out), lx.load(folder / "good.onnx")
    assert written["targets"].tolist() == ["logits:2", "logits:0", "logits:1", "logits:2"]
    for number, index in enumerate((2, 0, 1, 2)):
        alone = model.explain({"x": np.load(folder / "x.npy")}, target=index)
        np.testing.assert_array_equal(written["relevance/x"][number], alone.relevance["x"])
        np.testing.assert_array_equal(written["ledger/absorbed"][number], alone.ledger.absorbed)
    np.testing.assert_array_equal(written["output/logits"], alone.outputs["logits"])
    assert "logits[1]" in done.stdout
    assert "Each target by time step" in page.read_text()
    described = json.loads(here(capsys, "explain", folder / "good.onnx", *given, "--json").stdout)
    assert described["targets"] == written["targets"].tolist()
    assert np.shape(described["relevance/x"]) == (4, 2, 6, 4)


def test_explain_shows_and_writes_a_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run("explain", folder / "good.onnx", "--input", f"x={folder / 'x.npy'}", "--html", page)
    assert (done.returncode, done.stderr) == (0, "")
    assert "biases and stabilisers" in done.stdout
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "good" in text


def test_other_methods_and_inner_values(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inner = next(n.output[0] for n in lstm().graph.node if n.op_type == "LSTM")
    given = ("explain", folder / "good.onnx", "--input", f"x={folder / 'x.npy'}", "--json", "--capture", inner)
    answer = json.loads(here(capsys, *given, "--method", "gradient_times_input").stdout)
    assert answer["method"] == {"name": "gradient_times_input"}
    assert f"captured/{inner}" in answer


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--input", "x"], "NAME=VALUE"),
        (["--input", "x={}/missing.npy"], "No such file"),
        (["--input", "x={}/text.npy"], "has no rows"),
        (["--input", "x={}/several.npz"], "has no array 'x', only 'a', 'b'"),
        (["--input", "x={}/huge.npy"], "which float32 cannot represent"),
        (["--input", "y={}/x.npy"], "'y'"),
        (["--input", "x={}/square.npy"], "shape"),
        (["--input", "x={}/x.npy", "--target", "3"], "3"),
        (["--input", "x={}/x.npy", "--target", "one"], "one"),
        (["--input", "x={}/x.npy", "--target", "y:1"], "'y'"),
        (["--input", "x={}/x.npy", "--targets", "every sample"], "every sample"),
        (["--input", "x={}/x.npy", "--targets", "0", "--target", "1"], "not both"),
        (["--input", "x={}/x.npy", "--batch-axis", "first"], "first"),
        (["--input", "x={}/x.npy", "--method", "magic"], "magic"),
        (["--input", "x={}/x.npy", "--param", "epsilon=-1"], "epsilon"),
        (["--input", "x={}/x.npy", "--param", "gamma=1"], "gamma"),
        (["--input", "x={}/x.npy", "--baseline", "x={}/x.npy"], "takes no baseline"),
        (["--input", "x={}/x.npy", "--method", "occlusion", "--mean-baseline", "z={}/x.npy"], "'z'"),
        (["--input", "x={}/x.npy", "--capture", "nowhere"], "nowhere"),
        (["--input", "x={}/x.npy", "--out", "{}/no/folder.npz"], "No such file"),
        (["--bogus"], "--bogus"),
        ([], "--input"),
    ],
)
def test_explain_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str) -> None:
    given = [argument.replace("{}", str(folder)) for argument in arguments]
    failed(here(capsys, "explain", folder / "good.onnx", *given), 2, part)


def test_explain_a_model_that_lrp_does_not_support(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = here(capsys, "explain", folder / "no-rule.onnx", "--input", f"x={folder / 'square.npy'}")
    failed(done, 1, "determinant")


@pytest.mark.parametrize(("row", "warned"), [(CANCELLING, 1), (CALM, 0)])
def test_explain_shows_warnings_and_what_was_explained(tmp_path: Path, row: tuple[float, ...], warned: int) -> None:
    onnx.save(diverging_model("Softmax"), str(tmp_path / "model.onnx"))
    np.save(tmp_path / "x.npy", np.array([row], np.float32))
    page, out = tmp_path / "page.html", tmp_path / "r.npz"
    given = ("explain", tmp_path / "model.onnx", "--input", f"x={tmp_path / 'x.npy'}", "--param", "product_rule=half")
    done = run(*given, "--target", 0, "--out", out, "--html", page)
    assert done.returncode == 0
    assert done.stderr.count("lstm-explain: warning: relevance diverges") == warned
    for shown in (done.stdout, page.read_text()):
        assert "logit of p[0] = +" in shown
        assert shown.count("relevance diverges") == warned
    with np.load(out) as arrays:
        assert str(arrays["explained_quantity"]) == "logit"
        assert len(arrays["warnings"]) == warned
        assert all("relevance diverges" in str(warning) for warning in arrays["warnings"])
    answer = json.loads(run(*given, "--json").stdout)
    assert (answer["explained_quantity"], len(answer["warnings"])) == ("logit", warned)


def test_a_condition_leaves_samples_unexplained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["--text", "a great film", "--text", "a film"]
    out = tmp_path / "r.npz"
    with pytest.raises(SystemExit) as ended:
        main(["explain", "models/sentiment", *texts, "--condition", "probability > 0.5", "--out", str(out), "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    first, second = told["not_explained"]
    assert (first, second.startswith("probability 0.")) == ("", True)
    assert told["relevance/tokens"][1] == [None] * len(told["relevance/tokens"][1])
    with np.load(out) as arrays:
        assert arrays["not_explained"].tolist() == [first, second]
        assert np.isfinite(arrays["relevance/tokens"][0]).all()
    failed(here(capsys, "explain", "models/sentiment", *texts, "--condition", "often"), 2, "condition is 'often'")
