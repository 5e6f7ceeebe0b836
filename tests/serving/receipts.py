# SPDX-License-Identifier: Apache-2.0
"""Models, keys and statements of the tests of receipts, and their command."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from lstm_explain.cli import main
from lstm_explain.serving.receipts.envelope import open_envelope
from tests.builders import recurrent_model
from tests.serving.calling import sequence
from tests.serving.models import CLASSES, FEATURES, lstm, words, write_tokenizer, write_version
from tests.serving.signing import write_key

TEXT = "the plot is thin."
X = sequence()


def rnn() -> onnx.ModelProto:
    """x float32 [batch, time, FEATURES] to logits float32 [batch, CLASSES]."""
    return recurrent_model(np.random.default_rng(2), "RNN", D=FEATURES, classes=CLASSES, batch_first=True).model


def write_models(root: Path) -> None:
    """Writes the models of a server for receipts, the keys server.key and stranger.key, and X as x.npy."""
    (root / "models").mkdir()
    folder = write_version(root / "models", "lstm", lstm(0), 1, "method: {name: lrp, epsilon: 0.01}\n")
    write_version(root / "models", "lstm", lstm(1), 2)
    np.savez(folder / "background.npz", x=sequence(batch=6, seed=9))
    write_version(root / "models", "rnn", rnn())
    text = "tokenizer: {file: tokenizer.json, input: tokens}\nclasses: {logits: [bad, fair, good]}\n"
    write_tokenizer(write_version(root / "models", "words", words(), 1, text))
    write_key(root, "server", ed25519.Ed25519PrivateKey.generate())
    write_key(root, "stranger")
    np.save(root / "x.npy", X)


def public(root: Path) -> bytes:
    return (root / "server.pem").read_bytes()


def statement(root: Path, receipt: str) -> dict[str, Any]:
    return open_envelope(receipt, public(root)).statement


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(root: Path, receipt: str, *arguments: str) -> Done:
    """Runs `lstm-explain verify` in this process."""
    (root / "receipt.json").write_text(receipt)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["verify", str(root / "receipt.json"), *arguments])
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue(), err.getvalue())


def usual(root: Path, model: str = "lstm") -> list[str]:
    return [
        "--model",
        str(root / "models" / model),
        "--input",
        f"x={root / 'x.npy'}",
        "--key",
        str(root / "server.pem"),
    ]
