# SPDX-License-Identifier: Apache-2.0
"""Receipts of another kind of processor: the numbers may differ a little."""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain_client as lx
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.receipts.envelope import Altered
from lstm_explain.serving.receipts.verification import TOLERATED, verify
from tests.serving.models import write_version
from tests.serving.receipts import X, rnn, statement, usual
from tests.serving.running import command, serving


def elsewhere(told: dict[str, Any], share: float) -> tuple[dict[str, Any], np.ndarray]:
    """The statement as another processor would have made it, whose numbers differ by a share; and its relevance."""
    told = copy.deepcopy(told)
    told["predicate"]["environment"]["processor"]["name"] = "another"
    told["predicate"]["ledger"]["inputs"] = [v * (1 + share) for v in told["predicate"]["ledger"]["inputs"]]
    return told, np.float32(1 + share)


def test_numbers_may_differ_a_little_elsewhere(
    receipts: Path, receipted: lx.Result, receipt_model: ServedModel
) -> None:
    told = statement(receipts, receipted.receipt)
    for share, sound in ((1e-5, True), (0.01, False)):
        changed, factor = elsewhere(told, share)
        relevance = receipted.relevance["x"] * factor
        changed["subject"][0]["digest"]["sha256"] = hashlib.sha256(relevance.tobytes()).hexdigest()
        if not sound:
            with pytest.raises(Altered, match="numbers differ by up to"):
                verify(changed, receipt_model, {"x": X}, {"x": relevance})
            continue
        found = verify(changed, receipt_model, {"x": X}, {"x": relevance})
        assert (found.agreement, found.elementwise) == (TOLERATED, True)
        assert 0 < found.largest < 2e-5
        assert "processor another" in found.differences[0]
        assert not verify(changed, receipt_model, {"x": X}, {}).elementwise  # only the ledger has numbers then
        with pytest.raises(Altered, match="numbers differ"):
            verify(changed, receipt_model, {"x": X}, {"x": relevance}, tolerance=1e-7)


def test_one_wrong_element_is_found_elsewhere(receipts: Path, receipted: lx.Result, receipt_model: ServedModel) -> None:
    changed, _ = elsewhere(statement(receipts, receipted.receipt), 0.0)
    relevance = receipted.relevance["x"].copy()
    relevance[0, 0, 0] += 0.01 * np.abs(relevance).max()
    changed["subject"][0]["digest"]["sha256"] = hashlib.sha256(relevance.tobytes()).hexdigest()
    with pytest.raises(Altered, match=r"numbers differ by up to 0\.01"):
        verify(changed, receipt_model, {"x": X}, {"x": relevance})


def test_kernels_for_another_processor(
    receipts: Path, receipt_client: lx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real difference: the kernels are compiled for an older processor. Those of an RNN, which takes least time."""
    answer = receipt_client.explain("rnn", {"x": X}, "lrp", receipt=True)
    monkeypatch.setenv("NUMBA_CPU_NAME", "x86-64-v3")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "")
    np.save(receipts / "relevance.npy", answer.relevance["x"])
    (receipts / "receipt.json").write_text(answer.receipt)
    compared = ["--relevance", f"x={receipts / 'relevance.npy'}", "--json"]
    done = subprocess.run(
        command("verify", str(receipts / "receipt.json"), *usual(receipts, "rnn"), *compared),
        capture_output=True,
        check=True,
        timeout=120,
    )
    told = json.loads(done.stdout)
    assert told["differences"] == ["kernels compiled for the host, here x86-64-v3"]
    assert told["largest_difference"] < 1e-5


@pytest.mark.skipif(platform.machine() != "x86_64", reason="kernels are compiled for other processors on x86-64 only")
def test_the_receipt_says_what_the_kernels_are_compiled_for(receipts: Path, tmp_path: Path) -> None:
    """In an image, they are compiled for a kind of processor that the variable names."""
    write_version(tmp_path, "rnn", rnn())
    server = serving(tmp_path, "--receipt-key", str(receipts / "server.key"), LSTM_EXPLAIN_KERNEL_CPUS="x86-64-v3")
    with server as running, lx.Client(running.address) as client:
        receipt = client.explain("rnn", {"x": X}, receipt=True).receipt
    assert statement(receipts, receipt)["predicate"]["environment"]["processor"]["kernels"] == "x86-64-v3"
