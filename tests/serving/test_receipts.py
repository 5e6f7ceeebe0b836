# SPDX-License-Identifier: Apache-2.0
"""Receipts of explanations: asked for over every protocol, checked by `lstm-explain verify`, altered in each part."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
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
from lstm_explain.cli import main
from lstm_explain.errors import Error
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.served_model import ServedModel, load_served
from lstm_explain.serving.receipts.envelope import Altered, open_envelope, read_signing_key
from lstm_explain.serving.receipts.verification import SAME_BITS, TOLERATED, verify
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from tests.serving.calling import F32, infer, refusal, request, sequence, stub, tensor
from tests.serving.models import lstm, words, write_tokenizer, write_version
from tests.serving.running import Running, command, serving
from tests.serving.signing import flip, write_key

TEXT = "the plot is thin."


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("receipts")
    (root / "models").mkdir()
    folder = write_version(root / "models", "lstm", lstm(0), 1, "method: {name: lrp, epsilon: 0.01}\n")
    write_version(root / "models", "lstm", lstm(1), 2)
    np.savez(folder / "background.npz", x=sequence(batch=6, seed=9))
    text = "tokenizer: {file: tokenizer.json, input: tokens}\nclasses: {logits: [bad, fair, good]}\n"
    write_tokenizer(write_version(root / "models", "words", words(), 1, text))
    write_key(root, "server", ed25519.Ed25519PrivateKey.generate())
    write_key(root, "stranger")
    np.save(root / "x.npy", sequence())
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Running]:
    with serving(root / "models", "--receipt-key", str(root / "server.key")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[lx.Client]:
    with lx.Client(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def answer(client: lx.Client) -> lx.Result:
    return client.explain("lstm", {"x": sequence()}, "lrp", target=2, version="1", receipt=True)


@pytest.fixture(scope="module")
def served(root: Path) -> ServedModel:
    return load_served(find_model(root / "models" / "lstm" / "1"))


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


def usual(root: Path) -> list[str]:
    return [
        "--model",
        str(root / "models" / "lstm"),
        "--input",
        f"x={root / 'x.npy'}",
        "--key",
        str(root / "server.pem"),
    ]


# --- what a receipt states ------------------------------------------------------------------------------------------


def test_the_command_verifies_a_receipt(root: Path, answer: lx.Result) -> None:
    np.save(root / "relevance.npy", answer.relevance["x"])
    done = run(root, answer.receipt, *usual(root), "--relevance", f"x={root / 'relevance.npy'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "The receipt holds: lstm version 1" in done.stdout
    assert "computed again, has the same bits" in done.stdout
    told = json.loads(run(root, answer.receipt, *usual(root), "--json").stdout)
    assert (told["holds"], told["signer_checked"], told["agreement"]) == (True, True, SAME_BITS)


def test_without_a_key_the_command_says_that_the_signer_is_not_known(root: Path, answer: lx.Result) -> None:
    done = run(root, answer.receipt, *usual(root)[:4])
    assert done.returncode == 0
    assert "a key that only the receipt names" in done.stdout


def test_what_the_statement_says(root: Path, answer: lx.Result) -> None:
    found = statement(root, answer.receipt)
    digests = {one["name"]: one["digest"]["sha256"] for one in found["subject"]}
    for name, array in (
        ("relevance/x", answer.relevance["x"]),
        ("output/logits", answer.outputs["logits"]),
        ("explained", answer.explained),
        ("ledger/inputs", answer.ledger.inputs),
        ("ledger/residual", answer.ledger.residual),
    ):
        assert digests[name] == hashlib.sha256(array.tobytes()).hexdigest(), name
    told = found["predicate"]
    files = {file["name"]: file["digest"]["sha256"] for file in told["model"]["files"]}
    model = root / "models" / "lstm"
    assert files == {
        "background.npz": hashlib.sha256((model / "background.npz").read_bytes()).hexdigest(),
        "model.onnx": hashlib.sha256((model / "1" / "model.onnx").read_bytes()).hexdigest(),
        "model.yaml": hashlib.sha256((model / "model.yaml").read_bytes()).hexdigest(),
    }
    assert told["inputs"][0]["digest"]["sha256"] == hashlib.sha256(sequence().tobytes()).hexdigest()
    assert told["method"]["lrp"]["epsilon"] == 0.01  # of model.yaml
    assert told["targets"][0]["indices"] == ["2", "2"]
    assert told["explained"] == answer.explained.tolist()
    parts = np.array([told["ledger"][part] for part in ("inputs", "initial_states", "absorbed", "residual")])
    np.testing.assert_allclose(parts.sum(axis=0), answer.explained, rtol=1e-6)


def test_the_signature_is_plain_ed25519_over_the_dsse_encoding(root: Path, answer: lx.Result) -> None:
    """Without the library that signs: anyone can check it."""
    envelope = json.loads(answer.receipt)
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    key = serialization.load_pem_public_key(public(root))
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


X = sequence()
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
def test_any_request_can_be_verified(root: Path, client: lx.Client, served: ServedModel, name: str) -> None:
    given = {"inputs": {"x": X}, **REQUESTS[name]}
    if "capture" in given:
        given["capture"] = [
            next(o for n in served.model.proto.graph.node if n.op_type == "LSTM" for o in n.output if o)
        ]
    result = client.explain("lstm", version="1", receipt=True, **given)
    found = verify(statement(root, result.receipt), served, {"x": X}, result.relevance)
    assert (found.agreement, found.differences, found.largest) == (SAME_BITS, (), 0.0)


def test_several_targets(root: Path, client: lx.Client, served: ServedModel) -> None:
    for targets in ("every class", [2, None, lx.Target(index=0, contrast=1)], [1]):
        results = client.explain_many("lstm", {"x": X}, targets, version="1", receipt=True)
        told = statement(root, results[0].receipt)
        relevance = np.stack([one.relevance["x"] for one in results])
        assert len(told["predicate"]["targets"]) == len(results)
        assert verify(told, served, {"x": X}, {"x": relevance}).agreement == SAME_BITS


def test_a_text(root: Path, client: lx.Client) -> None:
    receipt = client.explain("words", {"tokens": TEXT}, receipt=True).receipt
    arguments = ["--model", str(root / "models" / "words"), "--key", str(root / "server.pem")]
    assert run(root, receipt, *arguments, "--text", TEXT).returncode == 0
    other = run(root, receipt, *arguments, "--text", "the plot is bad.")
    assert other.returncode == 1
    assert "this is not the input tokens of the receipt" in other.stderr


def test_a_stream(root: Path, client: lx.Client, served: ServedModel) -> None:
    asked = (lx.Request("lstm", {"x": sequence(seed=i)}, version="1", id=str(i), receipt=i % 2 == 0) for i in range(4))
    answers = {answer.id: answer.get() for answer in client.explain_stream(asked)}
    assert [bool(answers[str(i)].receipt) for i in range(4)] == [True, False, True, False]
    for i in (0, 2):
        verify(statement(root, answers[str(i)].receipt), served, {"x": sequence(seed=i)}, answers[str(i)].relevance)


def test_the_open_inference_protocol(root: Path, server: Running, served: ServedModel) -> None:
    message = infer("lstm")
    message.model_version = "1"
    with server.channel() as channel:
        call = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        assert "receipt" not in call(message).parameters
        message.parameters["explain_receipt"].bool_param = True
        answer = call(message)
        told = statement(root, answer.parameters["receipt"].string_param)
        names = [output.name for output in answer.outputs]
        data = answer.raw_output_contents[names.index("relevance:x")]
        assert told["subject"][0]["digest"]["sha256"] == hashlib.sha256(data).hexdigest()
        assert verify(told, served, {"x": X}, {}).agreement == SAME_BITS
        message.parameters["explain_receipt"].string_param = "maybe"
        with pytest.raises(grpc.RpcError) as caught:
            call(message)
    assert refusal(caught.value).field == "parameters[explain_receipt]"


def test_the_request_id_of_the_caller(root: Path, server: Running) -> None:
    with server.channel() as channel:
        answer = stub(channel).Explain(request(receipt=True), metadata=[("x-request-id", "case-7")])
    assert statement(root, answer.receipt)["predicate"]["requestId"] == "case-7"


def test_requests_that_run_together_keep_their_bits(root: Path, tmp_path: Path, served: ServedModel) -> None:
    """A request for a receipt runs alone, even where the model's owner allows batches."""
    config = "method: {name: lrp, epsilon: 0.01}\nbatching: {max_batch: 64, max_delay_ms: 20}\n"
    write_version(tmp_path, "batched", lstm(0), 1, config)
    with serving(tmp_path, "--receipt-key", str(root / "server.key")) as server, lx.Client(server.address) as client:
        asked = [lx.Request("batched", {"x": sequence(seed=i)}, id=str(i), receipt=True) for i in range(8)]
        model = load_served(find_model(tmp_path / "batched"))
        for answer in client.explain_stream(asked):
            inputs = {"x": sequence(seed=int(answer.id))}
            found = verify(statement(root, answer.get().receipt), model, inputs, answer.get().relevance)
            assert found.agreement == SAME_BITS


# --- without a key --------------------------------------------------------------------------------------------------


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


def test_keys_that_cannot_sign(root: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    encrypted = tmp_path / "encrypted.pem"
    private = ed25519.Ed25519PrivateKey.generate()
    secret = serialization.BestAvailableEncryption(b"secret")
    encrypted.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    wrong_curve = write_key(tmp_path, "curve", ec.generate_private_key(ec.SECP521R1()))
    for path, problem in (
        (tmp_path / "text.pem", "it holds no private key; expected an Ed25519 key"),
        (root / "server.pem", "it holds no private key"),
        (encrypted, "it is encrypted"),
        (wrong_curve, "is another kind of key"),
    ):
        with pytest.raises(Error, match=problem):
            read_signing_key(path)
    flags = ["serve", "--models", str(root / "models"), "--receipt-key"]
    done = subprocess.run(command(*flags, str(tmp_path / "none")), capture_output=True, text=True, timeout=60)
    assert (done.returncode, "none is not a file" in done.stderr) == (2, True)
    flags += [str(tmp_path / "text.pem"), "--listen", "127.0.0.1:0"]
    done = subprocess.run(command(*flags), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "text.pem cannot be used" in done.stderr


def test_without_the_extra_the_error_says_what_to_install(
    root: Path, answer: lx.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "securesystemslib.signer", None)
    monkeypatch.setitem(sys.modules, "securesystemslib.dsse", None)
    with pytest.raises(Error, match=r"--receipt-key: receipts need the extra `provenance`: pip install"):
        read_signing_key(root / "server.key")
    with pytest.raises(Error, match="receipts need the extra `provenance`"):
        open_envelope(answer.receipt, None)


# --- altered parts --------------------------------------------------------------------------------------------------


def test_every_byte_of_the_envelope_counts(root: Path, answer: lx.Result) -> None:
    """Each byte in turn, one bit of it: payload, its type, signature, and the key's id."""
    original = answer.receipt.encode()
    for at in range(len(original)):
        changed = bytearray(original)
        changed[at] ^= 1 << at % 7
        with pytest.raises(Altered):
            open_envelope(changed.decode(errors="replace"), public(root))


def test_every_byte_of_the_envelope_counts_without_a_key_too(answer: lx.Result) -> None:
    original = answer.receipt.encode()
    for at in range(0, len(original), 7):
        changed = bytearray(original)
        changed[at] ^= 1
        with pytest.raises(Error):
            open_envelope(changed.decode(errors="replace"), None)


def test_another_key(root: Path, answer: lx.Result) -> None:
    arguments = [*usual(root)[:4], "--key", str(root / "stranger.pem")]
    done = run(root, answer.receipt, *arguments)
    assert done.returncode == 1
    assert "the signature is not valid for stranger.pem" in done.stderr


def test_a_receipt_signed_by_somebody_else_is_refused(root: Path, answer: lx.Result) -> None:
    """Even where the statement names that key."""
    forger = read_signing_key(root / "stranger.key")
    forged = statement(root, answer.receipt)
    forged["predicate"]["signer"]["publicKey"] = forger.public
    receipt = forger.sign(json.dumps(forged).encode())
    open_envelope(receipt, None)
    with pytest.raises(Altered, match="not valid"):
        open_envelope(receipt, public(root))


@pytest.mark.parametrize("name", ["1/model.onnx", "model.yaml", "background.npz"])
def test_another_model(root: Path, tmp_path: Path, answer: lx.Result, name: str) -> None:
    copied = write_version(tmp_path, "lstm", lstm(0))
    for file in ("1/model.onnx", "model.yaml", "background.npz"):
        (copied / file).write_bytes((root / "models" / "lstm" / file).read_bytes())
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
    arguments = ["--model", str(copied), *usual(root)[2:]]
    done = run(root, answer.receipt, *arguments)
    assert done.returncode == 1
    assert f"not the model of the receipt (lstm version 1): {Path(name).name} differ" in done.stderr


def test_another_input(root: Path, tmp_path: Path, answer: lx.Result) -> None:
    x = sequence()
    x.view(np.uint8)[0, 0, 0] ^= 1
    np.save(tmp_path / "x.npy", x)
    done = run(root, answer.receipt, *usual(root)[:2], "--input", f"x={tmp_path / 'x.npy'}")
    assert done.returncode == 1
    assert "this is not the input x of the receipt" in done.stderr


def test_another_relevance(root: Path, tmp_path: Path, answer: lx.Result) -> None:
    relevance = answer.relevance["x"].copy()
    relevance.view(np.uint8)[1, 3, 5] ^= 1
    np.save(tmp_path / "r.npy", relevance)
    done = run(root, answer.receipt, *usual(root), "--relevance", f"x={tmp_path / 'r.npy'}")
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
    root: Path, answer: lx.Result, served: ServedModel, change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    """The signature alone proves nothing about the numbers: these statements have valid ones."""
    told = statement(root, answer.receipt)
    change(told)
    with pytest.raises(Altered, match=problem):
        verify(told, served, {"x": X}, {})


# --- on another kind of processor -----------------------------------------------------------------------------------


def elsewhere(told: dict[str, Any], share: float) -> tuple[dict[str, Any], np.ndarray]:
    """The statement as another processor would have made it, whose numbers differ by a share; and its relevance."""
    told = copy.deepcopy(told)
    told["predicate"]["environment"]["processor"]["name"] = "another"
    told["predicate"]["ledger"]["inputs"] = [v * (1 + share) for v in told["predicate"]["ledger"]["inputs"]]
    return told, np.float32(1 + share)


def test_numbers_may_differ_a_little_elsewhere(root: Path, answer: lx.Result, served: ServedModel) -> None:
    told = statement(root, answer.receipt)
    for share, sound in ((1e-5, True), (0.01, False)):
        changed, factor = elsewhere(told, share)
        relevance = answer.relevance["x"] * factor
        changed["subject"][0]["digest"]["sha256"] = hashlib.sha256(relevance.tobytes()).hexdigest()
        if not sound:
            with pytest.raises(Altered, match="numbers differ by up to"):
                verify(changed, served, {"x": X}, {"x": relevance})
            continue
        found = verify(changed, served, {"x": X}, {"x": relevance})
        assert (found.agreement, found.elementwise) == (TOLERATED, True)
        assert 0 < found.largest < 2e-5
        assert "processor another" in found.differences[0]
        assert not verify(changed, served, {"x": X}, {}).elementwise  # only the ledger has numbers then
        with pytest.raises(Altered, match="numbers differ"):
            verify(changed, served, {"x": X}, {"x": relevance}, tolerance=1e-7)


def test_one_wrong_element_is_found_elsewhere(root: Path, answer: lx.Result, served: ServedModel) -> None:
    changed, _ = elsewhere(statement(root, answer.receipt), 0.0)
    relevance = answer.relevance["x"].copy()
    relevance[0, 0, 0] += 0.01 * np.abs(relevance).max()
    changed["subject"][0]["digest"]["sha256"] = hashlib.sha256(relevance.tobytes()).hexdigest()
    with pytest.raises(Altered, match=r"numbers differ by up to 0\.01"):
        verify(changed, served, {"x": X}, {"x": relevance})


def test_kernels_for_another_processor(root: Path, answer: lx.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real difference: the kernels are compiled for an older processor."""
    monkeypatch.setenv("NUMBA_CPU_NAME", "x86-64-v3")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "")
    np.save(root / "relevance.npy", answer.relevance["x"])
    (root / "receipt.json").write_text(answer.receipt)
    compared = ["--relevance", f"x={root / 'relevance.npy'}", "--json"]
    done = subprocess.run(
        command("verify", str(root / "receipt.json"), *usual(root), *compared),
        capture_output=True,
        check=True,
        timeout=120,
    )
    told = json.loads(done.stdout)
    assert told["differences"] == ["kernels compiled for the host, here x86-64-v3"]
    assert told["largest_difference"] < 1e-5


@pytest.mark.skipif(platform.machine() != "x86_64", reason="kernels are compiled for other processors on x86-64 only")
def test_the_receipt_says_what_the_kernels_are_compiled_for(root: Path) -> None:
    """In an image, they are compiled for a kind of processor that the variable names."""
    flags = ("--receipt-key", str(root / "server.key"))
    server = serving(root / "models", *flags, LSTM_EXPLAIN_KERNEL_CPUS="x86-64-v3")
    with server as running, lx.Client(running.address) as client:
        receipt = client.explain("lstm", {"x": X}, receipt=True).receipt
    assert statement(root, receipt)["predicate"]["environment"]["processor"]["kernels"] == "x86-64-v3"


# --- arguments ------------------------------------------------------------------------------------------------------


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
def test_arguments_that_are_wrong(root: Path, answer: lx.Result, arguments: list[str], code: int, problem: str) -> None:
    given = [argument.format(root=root) for argument in arguments]
    done = run(root, answer.receipt, "--model", str(root / "models" / "lstm"), *given)
    assert (done.returncode, problem in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", "hello", '{"payload": 3}', '{"payload":"e30=","payloadType":"x","signatures":[]}'],
)
def test_files_that_are_no_receipts(content: str) -> None:
    with pytest.raises(Altered, match="this is no receipt, or an altered one"):
        open_envelope(content, None)


def test_an_input_of_the_wire_alone_can_be_verified(client: lx.Client, root: Path, served: ServedModel) -> None:
    """The digest of an input is that of the bytes on the wire, where the caller sends the model's own type."""
    assert tensor("x", X).dtype == F32
    told = statement(root, client.explain("lstm", {"x": X}, version="1", receipt=True).receipt)
    assert told["predicate"]["inputs"][0]["digest"]["sha256"] == hashlib.sha256(tensor("x", X).data).hexdigest()
