# SPDX-License-Identifier: Apache-2.0
"""Requests with a condition, over every protocol, in the metrics, the audit log, receipts and batch jobs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import lstm_explain_client as lxc
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.served_model import load_served
from lstm_explain.serving.receipts.envelope import open_envelope
from lstm_explain.serving.receipts.verification import SAME_BITS, verify
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from tests.serving.calling import infer, refusal, request, sequence, stub
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, free_address, metrics, serving
from tests.serving.signing import write_key
from tests.serving.web import EXPLAIN, ask, explanation

METRICS = free_address()
NEVER = "probability > 1"
X = sequence(batch=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("conditions")
    write_version(root / "models", "lstm", lstm(), 1, "classes: {logits: [bad, fair, good]}\n")
    write_key(root, "server")
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Running]:
    flags = ("--receipt-key", str(root / "server.key"), "--audit", str(root / "audit.jsonl"), "--web", "127.0.0.1:0")
    with serving(root / "models", *flags, "--metrics-listen", METRICS) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[lxc.Client]:
    with lxc.Client(server.address) as client:
        yield client


def middle(client: lxc.Client) -> tuple[str, np.ndarray, lxc.Result]:
    """A condition that half of X meets, which half that is, and the answer without it."""
    whole = client.explain("lstm", {"x": X}, "lrp", target=1)
    limit = float(np.median(whole.explained))
    return f"explained > {limit}", whole.explained > limit, whole


def test_no_backward_pass_runs_for_what_is_left_out(client: lxc.Client) -> None:
    before = metrics(METRICS)
    found = client.explain("lstm", {"x": X}, "lrp", target=1, condition=NEVER)
    after = metrics(METRICS)
    assert after["lstm_explain_forward_seconds_count"] == before["lstm_explain_forward_seconds_count"] + 1
    assert after["lstm_explain_backward_seconds_count"] == before["lstm_explain_backward_seconds_count"]
    assert after["lstm_explain_left_out_total"] == before["lstm_explain_left_out_total"] + 4
    assert all('of "fair" is not above 1' in reason for reason in found.not_explained)
    assert np.isnan(found.relevance["x"]).all()


def test_a_part_of_a_batch_and_single_targets_are_explained(client: lxc.Client) -> None:
    condition, meets, whole = middle(client)
    found = client.explain("lstm", {"x": X}, "lrp", target=1, condition=condition)
    assert [not reason for reason in found.not_explained] == meets.tolist()
    np.testing.assert_allclose(found.relevance["x"][meets], whole.relevance["x"][meets], rtol=1e-5, atol=1e-7)
    assert np.isnan(found.relevance["x"][~meets]).all()
    (streamed,) = client.explain_stream(
        [{"model": "lstm", "inputs": {"x": X}, "method": "lrp", "target": 1, "condition": condition}]
    )
    np.testing.assert_array_equal(streamed.get().relevance["x"], found.relevance["x"])
    several = client.explain_many("lstm", {"x": X}, [0, 1], "lrp", condition=condition)
    assert several[1].not_explained == found.not_explained
    np.testing.assert_allclose(several[1].relevance["x"], found.relevance["x"], rtol=1e-5, atol=1e-7)


def test_the_inference_protocol_and_the_gateway_take_a_condition(client: lxc.Client, server: Running) -> None:
    condition, meets, _ = middle(client)
    message = infer(x=X)
    message.parameters["explain_target"].int64_param = 1
    message.parameters["explain_condition"].string_param = condition
    with server.channel() as channel:
        answer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message)
    reasons = json.loads(answer.parameters["not_explained"].string_param)
    assert [not reason for reason in reasons] == meets.tolist()
    sent = request(condition=NEVER)
    answer = ask(server.page(), EXPLAIN, explanation(sent)).json()
    assert len(answer["notExplained"]) == 2
    relevance = np.frombuffer(base64.b64decode(answer["relevance"][0]["data"]), np.float32)
    assert np.isnan(relevance).all()


def test_a_bad_condition_is_refused(server: Running) -> None:
    with server.channel() as channel:
        for condition in ("probability", "class is great"):
            with pytest.raises(grpc.RpcError) as refused:
                stub(channel).Explain(request(condition=condition))
            found = refusal(refused.value)
            assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, "condition")
        message = infer()
        message.parameters["explain_condition"].int64_param = 3
        with pytest.raises(grpc.RpcError) as refused:
            grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message)
        found = refusal(refused.value)
        assert found.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "explain_condition must be text, not 3" in found.message


def test_the_audit_log_says_what_was_left_out(client: lxc.Client, root: Path) -> None:
    client.explain("lstm", {"x": X}, "lrp", target=1, condition=NEVER)
    client.explain("lstm", {"x": X}, "lrp", target=1)
    lines = [json.loads(line) for line in (root / "audit.jsonl").read_text().splitlines()][-2:]
    assert [line.get("condition") for line in lines] == ["probability > 1.0", None]
    assert [line.get("left_out") for line in lines] == [4, None]


@pytest.mark.parametrize("part", ["some", "none"])
def test_a_receipt_states_the_condition_and_holds(client: lxc.Client, root: Path, part: str) -> None:
    condition = middle(client)[0] if part == "some" else NEVER
    answer = client.explain("lstm", {"x": X}, "lrp", target=1, condition=condition, receipt=True)
    opened = open_envelope(answer.receipt, (root / "server.pem").read_bytes())
    served = load_served(find_model(root / "models" / "lstm"))
    predicate = opened.statement["predicate"]
    assert predicate["notExplained"] == [list(answer.not_explained)]
    json.dumps(opened.statement, allow_nan=False)
    assert verify(opened.statement, served, {"x": X}, answer.relevance).agreement == SAME_BITS


def test_a_batch_job_explains_the_rows_that_meet_it(client: lxc.Client, root: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra [ray]")
    from tests.batch.data import in_this_process

    condition, meets, whole = middle(client)
    np.savez(tmp_path / "x.npz", x=X)
    job: list[Any] = ["--model", root / "models" / "lstm", "--input", tmp_path / "x.npz", "--output", tmp_path / "out"]
    assert in_this_process(*job, "--method", "lrp", "--target", "1", "--condition", condition) == 0
    table = pq.read_table(tmp_path / "out" / "rows")
    assert [reason is None for reason in table["not_explained"].to_pylist()] == meets.tolist()
    for row, relevance in enumerate(table["relevance/x"].to_pylist()):
        assert (relevance is not None) is bool(meets[row])
        if relevance is not None:
            np.testing.assert_allclose(relevance, whole.relevance["x"][row], rtol=1e-4, atol=1e-6)
    assert [amount is None for amount in table["ledger/inputs"].to_pylist()] == (~meets).tolist()
    np.testing.assert_allclose(table["explained"].to_pylist(), whole.explained, rtol=1e-5)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["left_out"] == 2
