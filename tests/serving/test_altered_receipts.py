# SPDX-License-Identifier: Apache-2.0
"""Receipts that are altered in each part, and arguments of `lstm-explain verify` that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain_client as lx
from lstm_explain.errors import Error
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.receipts.envelope import Altered, open_envelope, read_signing_key
from lstm_explain.serving.receipts.verification import verify
from tests.serving.calling import sequence
from tests.serving.models import lstm, write_version
from tests.serving.receipts import X, public, run, statement, usual
from tests.serving.signing import flip


def test_every_byte_of_the_envelope_counts(receipts: Path, receipted: lx.Result) -> None:
    """Each byte in turn, one bit of it: payload, its type, signature, and the key's id."""
    original = receipted.receipt.encode()
    for at in range(len(original)):
        changed = bytearray(original)
        changed[at] ^= 1 << at % 7
        with pytest.raises(Altered):
            open_envelope(changed.decode(errors="replace"), public(receipts))


def test_every_byte_of_the_envelope_counts_without_a_key_too(receipted: lx.Result) -> None:
    original = receipted.receipt.encode()
    for at in range(0, len(original), 7):
        changed = bytearray(original)
        changed[at] ^= 1
        with pytest.raises(Error):
            open_envelope(changed.decode(errors="replace"), None)


def test_another_key(receipts: Path, receipted: lx.Result) -> None:
    arguments = [*usual(receipts)[:4], "--key", str(receipts / "stranger.pem")]
    done = run(receipts, receipted.receipt, *arguments)
    assert done.returncode == 1
    assert "the signature is not valid for stranger.pem" in done.stderr


def test_a_receipt_signed_by_somebody_else_is_refused(receipts: Path, receipted: lx.Result) -> None:
    """Even where the statement names that key."""
    forger = read_signing_key(receipts / "stranger.key")
    forged = statement(receipts, receipted.receipt)
    forged["predicate"]["signer"]["publicKey"] = forger.public
    receipt = forger.sign(json.dumps(forged).encode())
    open_envelope(receipt, None)
    with pytest.raises(Altered, match="not valid"):
        open_envelope(receipt, public(receipts))


@pytest.mark.parametrize("name", ["1/model.onnx", "model.yaml", "background.npz"])
def test_another_model(receipts: Path, tmp_path: Path, receipted: lx.Result, name: str) -> None:
    copied = write_version(tmp_path, "lstm", lstm(0))
    for file in ("1/model.onnx", "model.yaml", "background.npz"):
        (copied / file).write_bytes((receipts / "models" / "lstm" / file).read_bytes())
    weights = max((t.raw_data for t in lstm(0).graph.initializer), key=len)
    places = {
        "1/model.onnx": (copied / "1/model.onnx").read_bytes().index(weights) + 1,
        "model.yaml": -3,
        "background.npz": (copied / "background.npz").read_bytes().index(sequence(batch=6, seed=9).tobytes()),
    }
    if name == "background.npz":  # the archive has a checksum of its own
        np.savez(copied / name, x=sequence(batch=6, seed=8))
    else:
        flip(copied / name, places[name])
    arguments = ["--model", str(copied), *usual(receipts)[2:]]
    done = run(receipts, receipted.receipt, *arguments)
    assert done.returncode == 1
    assert f"not the model of the receipt (lstm version 1): {Path(name).name} differ" in done.stderr


def test_another_input(receipts: Path, tmp_path: Path, receipted: lx.Result) -> None:
    x = sequence()
    x.view(np.uint8)[0, 0, 0] ^= 1
    np.save(tmp_path / "x.npy", x)
    done = run(receipts, receipted.receipt, *usual(receipts)[:2], "--input", f"x={tmp_path / 'x.npy'}")
    assert done.returncode == 1
    assert "this is not the input x of the receipt" in done.stderr


def test_another_relevance(receipts: Path, tmp_path: Path, receipted: lx.Result) -> None:
    relevance = receipted.relevance["x"].copy()
    relevance.view(np.uint8)[1, 3, 5] ^= 1
    np.save(tmp_path / "r.npy", relevance)
    done = run(receipts, receipted.receipt, *usual(receipts), "--relevance", f"x={tmp_path / 'r.npy'}")
    assert done.returncode == 1
    assert "this is not the relevance/x of the receipt" in done.stderr


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(told: dict[str, Any]) -> None:
        for key in path[:-1]:
            told = told[key]
        told[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_set("subject", 0, "digest", "sha256", to="0" * 64), "have other bits, though processor and packages"),
        (_set("predicate", "targets", 0, "indices", to=["1", "1"]), "have other bits"),
        (_set("predicate", "method", "lrp", "epsilon", to=0.02), "have other bits"),
        (_set("predicate", "model", "digest", "sha256", to="0" * 64), "this is not the model of the receipt"),
        (_set("predicate", "inputs", 0, "digest", "sha256", to="0" * 64), "this is not the input x"),
        (_set("predicate", "inputs", 0, "name", to="y"), "the receipt states no input x|this is not the input y"),
        (_set("predicateType", to="https://example.com/other"), "expected https://lstm-explain.dev/receipt/v1"),
        (_set("predicate", "method", to={}), "lacks what a verification needs"),
    ],
)
def test_a_signer_who_states_something_else(
    receipts: Path,
    receipted: lx.Result,
    receipt_model: ServedModel,
    change: Callable[[dict[str, Any]], None],
    problem: str,
) -> None:
    """The signature alone proves nothing about the numbers: these statements have valid ones."""
    told = statement(receipts, receipted.receipt)
    change(told)
    with pytest.raises(Altered, match=problem):
        verify(told, receipt_model, {"x": X}, {})


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["--input", "x=/nowhere.npy"], 2, "/nowhere.npy: No such file"),
        ([], 2, "give the inputs"),
        (["--input", "x={root}/x.npy", "--input", "y={root}/x.npy"], 2, "no input 'y'"),
        (["--input", "x={root}/x.npy", "--key", "/nowhere.pem"], 2, "/nowhere.pem: No such file"),
        (["--input", "x={root}/x.npy", "--key", "{root}/x.npy"], 1, "holds no public key"),
        (["--text", "hello"], 2, "--text needs a model whose model.yaml names a tokenizer"),
    ],
)
def test_arguments_that_are_wrong(
    receipts: Path, receipted: lx.Result, arguments: list[str], code: int, problem: str
) -> None:
    given = [argument.format(root=receipts) for argument in arguments]
    done = run(receipts, receipted.receipt, "--model", str(receipts / "models" / "lstm"), *given)
    assert (done.returncode, problem in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", "hello", '{"payload": 3}', '{"payload":"e30=","payloadType":"x","signatures":[]}'],
)
def test_files_that_are_no_receipts(content: str) -> None:
    with pytest.raises(Altered, match="this is no receipt, or an altered one"):
        open_envelope(content, None)
