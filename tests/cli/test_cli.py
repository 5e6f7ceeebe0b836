# SPDX-License-Identifier: Apache-2.0
"""The command line as a user runs it: a process, its output, its exit code."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import onnx
import pytest

import lstm_explain as lx
from lstm_explain.methods import METHODS
from tests.cli.commands import failed, here, run


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


def test_inspect_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = here(capsys, "inspect", folder / "good.onnx", "--json")
    described = json.loads(done.stdout)
    assert (done.returncode, described["supported"]) == (0, True)
    assert described["inputs"][0]["name"] == "x"
    assert described["outputs"] == [{"name": "logits", "dtype": "float32", "shape": ["B", 3]}]
    assert {n["op"] for n in described["nodes"]} >= {"LSTM", "Gemm"}


def test_inspect_names_the_nodes_without_a_rule(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = here(capsys, "inspect", folder / "no-rule.onnx", "--json")
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
    failed(here(capsys, "inspect", folder / name), 2, part)


def test_inspect_survives_a_division_that_traps(folder: Path) -> None:
    """The smallest integer divided by -1, for which the processor raises a signal."""
    done = run("inspect", folder / "smallest.onnx")
    assert done.returncode == 0, done.stderr


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
    failed(here(capsys, "serve", *given), 2, part)


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


def test_the_version_is_printed() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"lstm-explain {lx.__version__}\n")
    assert lx.__version__ == version("lstm-explain")
