# SPDX-License-Identifier: Apache-2.0
"""The command line as a user runs it: a process, its output, its exit code."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.cli import main
from lstm_explain.methods import METHODS
from tests.diverging_model import CALM, CANCELLING, diverging_model
from tests.graph.test_integer_division import dividing
from tests.graph.test_recurrent_operands import model, recurrent, right_shapes
from tests.serving.models import lstm, outside_its_folder, without_rule
from tests.serving.running import command

ROW = np.array([1, 0, -1, 0.5], np.float32)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*map(str, arguments)), capture_output=True, text=True, timeout=120, check=False)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, because a new process for every mistake would take minutes."""
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    reported = capsys.readouterr()
    return subprocess.CompletedProcess([], int(raised.value.code or 0), reported.out, reported.err)


def failed(done: subprocess.CompletedProcess[str], code: int, part: str) -> None:
    """Checks that stderr has one line that describes the error."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("lstm-explain: ")
    assert part in line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    onnx.save(lstm(), str(folder / "good.onnx"))
    onnx.save(without_rule(), str(folder / "no-rule.onnx"))
    (folder / "truncated.onnx").write_bytes((folder / "good.onnx").read_bytes()[:500])
    onnx.save(model(recurrent("LSTM", right_shapes("LSTM") | {"W": [1, 15, 3]})), str(folder / "short.onnx"))
    onnx.save(dividing("Div", np.int64, [7], [0], "ab"), str(folder / "zero.onnx"))
    onnx.save(dividing("Div", np.int64, [-(2**63)], [-1], "ab"), str(folder / "smallest.onnx"))
    (folder / "a" / "b").mkdir(parents=True)
    onnx.save(outside_its_folder(), str(folder / "a" / "b" / "outside.onnx"))
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.standard_normal((2, 6, 4)).astype("f4"))
    np.save(folder / "huge.npy", rng.standard_normal((2, 6, 4)) * 1e300)
    np.save(folder / "square.npy", rng.standard_normal((1, 2, 2)).astype("f4"))
    np.savez(folder / "several.npz", a=np.ones(1), b=np.ones(1))
    (folder / "text.npy").write_text("not an array")
    return folder


def test_inspect_shows_every_node(folder: Path) -> None:
    done = run("inspect", folder / "good.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    for node in onnx.load(str(folder / "good.onnx")).graph.node:
        assert node.op_type in done.stdout
    assert "input x: float32" in done.stdout
    verdict, following = done.stdout.splitlines()[-2:]
    assert verdict.startswith("Verdict: LRP can explain output 'logits'")
    assert following == f"Next: lstm-explain explain {folder / 'good.onnx'} --input x=x.npy --html why.html"


def test_what_inspect_advises_works(folder: Path) -> None:
    """Where LRP is not possible, too."""
    advice = run("inspect", folder / "no-rule.onnx").stdout.splitlines()[-1].removeprefix("Next: ")
    assert "--method occlusion" in advice
    page = folder / "why.html"
    words = advice.replace("x=x.npy", f"x={folder / 'square.npy'}").replace("why.html", str(page)).split()
    assert run(*words[1:]).returncode == 0
    assert "<html" in page.read_text()


def test_inspect_as_json(folder: Path) -> None:
    done = run("inspect", folder / "good.onnx", "--json")
    described = json.loads(done.stdout)
    assert (done.returncode, described["supported"]) == (0, True)
    assert described["inputs"][0]["name"] == "x"
    assert described["outputs"] == [{"name": "logits", "dtype": "float32", "shape": ["B", 3]}]
    assert {n["op"] for n in described["nodes"]} >= {"LSTM", "Gemm"}


def test_inspect_names_the_nodes_without_a_rule(folder: Path) -> None:
    done = run("inspect", folder / "no-rule.onnx", "--json")
    assert json.loads(done.stdout)["supported"] is False
    failed(done, 1, "determinant (Det)")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("missing.onnx", "missing.onnx"),
        ("missing.onnx", "No such file"),
        ("truncated.onnx", "truncated"),
        ("a/b/outside.onnx", "secret.bin"),
        ("short.onnx", "node 'cell' (LSTM): W has shape [1, 15, 3], hidden_size 4"),
        ("zero.onnx", "node 'divide' (Div): its divisor 'b' contains 0"),
        (".", ""),
    ],
)
def test_inspect_unreadable(folder: Path, capsys: pytest.CaptureFixture[str], name: str, part: str) -> None:
    failed(mistake(capsys, "inspect", folder / name), 2, part)


def test_inspect_survives_a_division_that_traps(folder: Path) -> None:
    """The smallest integer divided by -1, for which the processor raises a signal."""
    done = run("inspect", folder / "smallest.onnx")
    assert done.returncode == 0, done.stderr


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
def test_parameters_of_several_numbers(folder: Path, tmp_path: Path, arguments: list[str], method: Any) -> None:
    np.save(tmp_path / "row.npy", ROW)
    x = np.load(folder / "x.npy")
    np.save(tmp_path / "x.npy", x)
    given = [argument.format(tmp_path) for argument in arguments]
    done = run("explain", folder / "good.onnx", "--input", f"x={folder / 'x.npy'}", "--json", *given)
    assert done.stderr == ""
    expected = lx.load(folder / "good.onnx").explain({"x": x}, method(x))
    np.testing.assert_allclose(json.loads(done.stdout)["relevance/x"], expected.relevance["x"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("target", ["2", "logits:2", "-1"])
def test_targets(folder: Path, target: str) -> None:
    done = run("explain", folder / "good.onnx", "--input", f"x={folder / 'x.npy'}", f"--target={target}", "--json")
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


def test_several_targets(folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "r.npz", tmp_path / "r.html"
    given = ("--input", f"x={folder / 'x.npy'}", "--targets", "2; every class")
    done = run("explain", folder / "good.onnx", *given, "--out", out, "--html", page)
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
    described = json.loads(run("explain", folder / "good.onnx", *given, "--json").stdout)
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


def test_other_methods_and_inner_values(folder: Path) -> None:
    inner = next(n.output[0] for n in lstm().graph.node if n.op_type == "LSTM")
    given = ("explain", folder / "good.onnx", "--input", f"x={folder / 'x.npy'}", "--json", "--capture", inner)
    answer = json.loads(run(*given, "--method", "gradient_times_input").stdout)
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
    failed(mistake(capsys, "explain", folder / "good.onnx", *given), 2, part)


def test_explain_a_model_that_lrp_does_not_support(folder: Path) -> None:
    done = run("explain", folder / "no-rule.onnx", "--input", f"x={folder / 'square.npy'}")
    failed(done, 1, "determinant")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "--models"),
        (["--models", "{}/missing"], "is not a folder"),
        (["--models", "{}", "--listen", "nowhere"], "host:port"),
        (["--models", "{}", "--threads", "0"], "--threads"),
        (["--models", "{}", "--log-level", "loud"], "--log-level"),
        (["--models", "{}", "--bogus"], "--bogus"),
    ],
)
def test_serve_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str) -> None:
    given = [argument.replace("{}", str(folder)) for argument in arguments]
    failed(mistake(capsys, "serve", *given), 2, part)


def test_serve_explains_its_settings() -> None:
    done = run("serve", "--help")
    assert done.returncode == 0
    for word in ("--models", "--max-message-bytes", "LSTM_EXPLAIN_"):
        assert word in done.stdout
    for name in ("worker", "gently", "no-gently", "parent", "announcements"):  # from a server to its own processes
        assert not re.search(rf"--{name}\b(?!-)", done.stdout)


def test_the_help_names_every_method() -> None:
    message = run("explain", "--help").stdout
    assert all(name in message for name in METHODS)


def test_help_and_no_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("inspect", "explain", "serve"))
    assert (run().returncode, run().stdout) == (0, done.stdout)
    failed(run("predict"), 2, "predict")


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


def test_the_version_is_printed() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"lstm-explain {lx.__version__}\n")
    assert lx.__version__ == version("lstm-explain")


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
    failed(mistake(capsys, "explain", "models/sentiment", *texts, "--condition", "often"), 2, "condition is 'often'")
