# SPDX-License-Identifier: Apache-2.0
"""Receipts of explanations: asked for over every protocol, checked by `lstm-explain verify`."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from google.rpc import error_details_pb2

import lstm_explain_client as lx
from lstm_explain.errors import Error
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.served_model import ServedModel, load_served
from lstm_explain.serving.receipts.envelope import open_envelope, read_signing_key
from lstm_explain.serving.receipts.verification import SAME_BITS, verify
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from tests.serving.calling import F32, infer, refusal, request, sequence, stub, tensor
from tests.serving.models import lstm, write_version
from tests.serving.receipts import TEXT, X, public, run, statement, usual
from tests.serving.running import Running, command, serving
from tests.serving.signing import write_key


def test_the_command_verifies_a_receipt(receipts: Path, receipted: lx.Result) -> None:
    np.save(receipts / "relevance.npy", receipted.relevance["x"])
    done = run(receipts, receipted.receipt, *usual(receipts), "--relevance", f"x={receipts / 'relevance.npy'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "The receipt holds: lstm version 1" in done.stdout
    assert "computed again, has the same bits" in done.stdout
    told = json.loads(run(receipts, receipted.receipt, *usual(receipts), "--json").stdout)
    assert (told["holds"], told["signer_checked"], told["agreement"]) == (True, True, SAME_BITS)


def test_without_a_key_the_command_says_that_the_signer_is_not_known(receipts: Path, receipted: lx.Result) -> None:
    done = run(receipts, receipted.receipt, *usual(receipts)[:4])
    assert done.returncode == 0
    assert "a key that only the receipt names" in done.stdout


def test_what_the_statement_says(receipts: Path, receipted: lx.Result) -> None:
    found = statement(receipts, receipted.receipt)
    digests = {one["name"]: one["digest"]["sha256"] for one in found["subject"]}
    for name, array in (
        ("relevance/x", receipted.relevance["x"]),
        ("output/logits", receipted.outputs["logits"]),
        ("explained", receipted.explained),
        ("ledger/inputs", receipted.ledger.inputs),
        ("ledger/residual", receipted.ledger.residual),
    ):
        assert digests[name] == hashlib.sha256(array.tobytes()).hexdigest(), name
    told = found["predicate"]
    files = {file["name"]: file["digest"]["sha256"] for file in told["model"]["files"]}
    model = receipts / "models" / "lstm"
    assert files == {
        "background.npz": hashlib.sha256((model / "background.npz").read_bytes()).hexdigest(),
        "model.onnx": hashlib.sha256((model / "1" / "model.onnx").read_bytes()).hexdigest(),
        "model.yaml": hashlib.sha256((model / "model.yaml").read_bytes()).hexdigest(),
    }
    assert told["inputs"][0]["digest"]["sha256"] == hashlib.sha256(sequence().tobytes()).hexdigest()
    assert told["method"]["lrp"]["epsilon"] == 0.01  # of model.yaml
    assert told["targets"][0]["indices"] == ["2", "2"]
    assert told["explained"] == receipted.explained.tolist()
    parts = np.array([told["ledger"][part] for part in ("inputs", "initial_states", "absorbed", "residual")])
    np.testing.assert_allclose(parts.sum(axis=0), receipted.explained, rtol=1e-6)


def test_the_signature_is_plain_ed25519_over_the_dsse_encoding(receipts: Path, receipted: lx.Result) -> None:
    """Without the library that signs: anyone can check it."""
    envelope = json.loads(receipted.receipt)
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    key = serialization.load_pem_public_key(public(receipts))
    assert isinstance(key, ed25519.Ed25519PublicKey)
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    key.verify(signature, signed)
    with pytest.raises(InvalidSignature):
        key.verify(signature, signed + b" ")


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_ecdsa_keys(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    key = read_signing_key(write_key(tmp_path, "key", ec.generate_private_key(curve)))
    content = {"predicate": {"signer": {"publicKey": key.public}}}
    assert open_envelope(key.sign(json.dumps(content).encode()), None).statement == content


OTHER = sequence(seed=4)
REQUESTS: dict[str, dict[str, Any]] = {
    "the largest entry of each sample": {"method": "lrp"},
    "a composite": {"method": lx.LRP(composite=lx.Composite({"dense": lx.Gamma(0.25)}))},
    "a difference": {"target": lx.Target(index=0, contrast=1)},
    "weights": {"target": lx.Target(weights=np.array([1.0, -2.0, 0.5], np.float32))},
    "the caller's baseline": {"method": lx.IntegratedGradients(steps=8, baseline={"x": OTHER[:1]})},
    "the caller's samples": {
        "method": lx.IntegratedGradients(steps=4, background=lx.Background({"x": OTHER}, draws=1))
    },
    "the model's samples": {"method": lx.GradientShap(samples=6)},
    "permutations": {"method": lx.ShapleySampling(permutations=4, seed=3)},
    "an error": {"target": lx.Target(measure=lx.Measure("mean_squared_error", np.ones((2, 3), np.float32)))},
    "an inner value": {"method": "lrp", "capture": ["last"]},
    "float64 inputs": {"inputs": {"x": X.astype(np.float64)}},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_any_request_can_be_verified(
    receipts: Path, receipt_client: lx.Client, receipt_model: ServedModel, name: str
) -> None:
    given = {"inputs": {"x": X}, **REQUESTS[name]}
    if "capture" in given:
        given["capture"] = [
            next(o for n in receipt_model.model.proto.graph.node if n.op_type == "LSTM" for o in n.output if o)
        ]
    result = receipt_client.explain("lstm", version="1", receipt=True, **given)
    found = verify(statement(receipts, result.receipt), receipt_model, {"x": X}, result.relevance)
    assert (found.agreement, found.differences, found.largest) == (SAME_BITS, (), 0.0)


def test_several_targets(receipts: Path, receipt_client: lx.Client, receipt_model: ServedModel) -> None:
    for targets in ("every class", [2, None, lx.Target(index=0, contrast=1)], [1]):
        results = receipt_client.explain_many("lstm", {"x": X}, targets, version="1", receipt=True)
        told = statement(receipts, results[0].receipt)
        relevance = np.stack([one.relevance["x"] for one in results])
        assert len(told["predicate"]["targets"]) == len(results)
        assert verify(told, receipt_model, {"x": X}, {"x": relevance}).agreement == SAME_BITS


def test_a_text(receipts: Path, receipt_client: lx.Client) -> None:
    receipt = receipt_client.explain("words", {"tokens": TEXT}, receipt=True).receipt
    arguments = ["--model", str(receipts / "models" / "words"), "--key", str(receipts / "server.pem")]
    assert run(receipts, receipt, *arguments, "--text", TEXT).returncode == 0
    other = run(receipts, receipt, *arguments, "--text", "the plot is bad.")
    assert other.returncode == 1
    assert "this is not the input tokens of the receipt" in other.stderr


def test_a_stream(receipts: Path, receipt_client: lx.Client, receipt_model: ServedModel) -> None:
    asked = (lx.Request("lstm", {"x": sequence(seed=i)}, version="1", id=str(i), receipt=i % 2 == 0) for i in range(4))
    answers = {answer.id: answer.get() for answer in receipt_client.explain_stream(asked)}
    assert [bool(answers[str(i)].receipt) for i in range(4)] == [True, False, True, False]
    for i in (0, 2):
        verify(
            statement(receipts, answers[str(i)].receipt),
            receipt_model,
            {"x": sequence(seed=i)},
            answers[str(i)].relevance,
        )


def test_the_open_inference_protocol(receipts: Path, receipt_server: Running, receipt_model: ServedModel) -> None:
    message = infer("lstm")
    message.model_version = "1"
    with receipt_server.channel() as channel:
        call = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        assert "receipt" not in call(message).parameters
        message.parameters["explain_receipt"].bool_param = True
        answer = call(message)
        told = statement(receipts, answer.parameters["receipt"].string_param)
        names = [output.name for output in answer.outputs]
        data = answer.raw_output_contents[names.index("relevance:x")]
        assert told["subject"][0]["digest"]["sha256"] == hashlib.sha256(data).hexdigest()
        assert verify(told, receipt_model, {"x": X}, {}).agreement == SAME_BITS
        message.parameters["explain_receipt"].string_param = "maybe"
        with pytest.raises(grpc.RpcError) as caught:
            call(message)
    assert refusal(caught.value).field == "parameters[explain_receipt]"


def test_the_request_id_of_the_caller(receipts: Path, receipt_server: Running) -> None:
    with receipt_server.channel() as channel:
        answer = stub(channel).Explain(request(receipt=True), metadata=[("x-request-id", "case-7")])
    assert statement(receipts, answer.receipt)["predicate"]["requestId"] == "case-7"


def test_requests_that_run_together_keep_their_bits(receipts: Path, tmp_path: Path, receipt_model: ServedModel) -> None:
    """A request for a receipt runs alone, even where the model's owner allows batches."""
    config = "method: {name: lrp, epsilon: 0.01}\nbatching: {max_batch: 64, max_delay_ms: 20}\n"
    write_version(tmp_path, "batched", lstm(0), 1, config)
    with (
        serving(tmp_path, "--receipt-key", str(receipts / "server.key")) as server,
        lx.Client(server.address) as client,
    ):
        asked = [lx.Request("batched", {"x": sequence(seed=i)}, id=str(i), receipt=True) for i in range(8)]
        model = load_served(find_model(tmp_path / "batched"))
        for answer in client.explain_stream(asked):
            inputs = {"x": sequence(seed=int(answer.id))}
            found = verify(statement(receipts, answer.get().receipt), model, inputs, answer.get().relevance)
            assert found.agreement == SAME_BITS


def test_an_input_of_the_wire_alone_can_be_verified(
    receipt_client: lx.Client, receipts: Path, receipt_model: ServedModel
) -> None:
    """The digest of an input is that of the bytes on the wire, where the caller sends the model's own type."""
    assert tensor("x", X).dtype == F32
    told = statement(receipts, receipt_client.explain("lstm", {"x": X}, version="1", receipt=True).receipt)
    assert told["predicate"]["inputs"][0]["digest"]["sha256"] == hashlib.sha256(tensor("x", X).data).hexdigest()


def test_a_server_without_a_key_refuses(running: Running) -> None:
    with running.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        stub(channel).Explain(request(receipt=True))
    found = refusal(caught.value)
    assert found.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "--receipt-key" in found.message
    assert found.detail(error_details_pb2.ErrorInfo).reason == "RECEIPT_KEY_MISSING"
    message = infer("lstm")
    message.parameters["explain_receipt"].bool_param = True
    with running.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message)
    assert refusal(caught.value).code == grpc.StatusCode.FAILED_PRECONDITION


def test_keys_that_cannot_sign(receipts: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    encrypted = tmp_path / "encrypted.pem"
    private = ed25519.Ed25519PrivateKey.generate()
    secret = serialization.BestAvailableEncryption(b"secret")
    encrypted.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    wrong_curve = write_key(tmp_path, "curve", ec.generate_private_key(ec.SECP521R1()))
    for path, problem in (
        (tmp_path / "text.pem", "it holds no private key; expected an Ed25519 key"),
        (receipts / "server.pem", "it holds no private key"),
        (encrypted, "it is encrypted"),
        (wrong_curve, "is another kind of key"),
    ):
        with pytest.raises(Error, match=problem):
            read_signing_key(path)
    flags = ["serve", "--models", str(receipts / "models"), "--receipt-key"]
    done = subprocess.run(command(*flags, str(tmp_path / "none")), capture_output=True, text=True, timeout=60)
    assert (done.returncode, "none is not a file" in done.stderr) == (2, True)
    flags += [str(tmp_path / "text.pem"), "--listen", "127.0.0.1:0"]
    done = subprocess.run(command(*flags), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "text.pem cannot be used" in done.stderr


def test_without_the_extra_the_error_says_what_to_install(
    receipts: Path, receipted: lx.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "securesystemslib.signer", None)
    monkeypatch.setitem(sys.modules, "securesystemslib.dsse", None)
    with pytest.raises(Error, match=r"--receipt-key: receipts need the extra `provenance`: pip install"):
        read_signing_key(receipts / "server.key")
    with pytest.raises(Error, match="receipts need the extra `provenance`"):
        open_envelope(receipted.receipt, None)
