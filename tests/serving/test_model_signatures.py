# SPDX-License-Identifier: Apache-2.0
"""Signatures of models: what each policy serves and refuses, on import and on load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import onnx
import pytest
from google.rpc import error_details_pb2

from lstm_explain.errors import Error
from lstm_explain.repository.model_folder import find_model
from lstm_explain.serving.observability.metrics import DISCARDED
from lstm_explain.serving.security.model_signatures import ModelSignatures
from lstm_explain_client import Client, ExplainError
from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import model_pb2_grpc
from tests.serving.calling import refusal, sequence
from tests.serving.certificates import Authority
from tests.serving.importing import announced, chunk, content, start
from tests.serving.models import lstm, words, write_tokenizer, write_version
from tests.serving.running import Running, command, free_address, metrics, serving
from tests.serving.signing import flip, sign_folder, sign_folder_with_certificate, write_key

CONFIG = "description: signed\n"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    write_key(folder, "release")
    return folder


@pytest.fixture
def version(tmp_path: Path, keys: Path) -> Path:
    """A version's folder with everything in it, signed."""
    folder = write_version(tmp_path, "mine", words()) / "1"
    (folder / "model.yaml").write_text("tokenizer: {file: tokenizer.json, input: tokens}\n")
    write_tokenizer(folder)
    sign_folder(folder, keys / "release.key")
    return folder


def alter_weight(file: Path) -> None:
    """Changes one bit of a weight, which leaves a model that can be loaded."""
    weights = max((tensor.raw_data for tensor in onnx.load(file).graph.initializer), key=len)
    flip(file, file.read_bytes().index(weights) + 1)


def check(version: Path, signers: Path, policy: str = "require") -> None:
    ModelSignatures(policy, signers, DISCARDED).check(find_model(version))


def test_a_signed_version_is_accepted(version: Path, keys: Path) -> None:
    check(version, keys / "release.pem")
    check(version, keys)


def test_the_command_line_of_model_signing_signs_what_the_server_accepts(version: Path, keys: Path) -> None:
    signature = version / "model.sig"
    signature.unlink()
    tool = str(Path(sys.executable).with_name("model_signing"))
    subprocess.run(
        [tool, "sign", "key", str(version), "--private_key", str(keys / "release.key"), "--signature", str(signature)],
        check=True,
        capture_output=True,
    )
    check(version, keys)


def _above(name: str) -> Callable[[Path], object]:
    return lambda version: (version / name).rename(version.parent / name)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda v: flip(v / "model.onnx"), "changed since it was signed: model.onnx"),
        (lambda v: flip(v / "model.yaml", 3), "changed since it was signed: model.yaml"),
        (lambda v: flip(v / "tokenizer.json"), "changed since it was signed: tokenizer.json"),
        (lambda v: (v / "model.sig").unlink(), "it is not signed: there is no model.sig next to model.onnx"),
        (lambda v: (v / "model.sig").write_text("{}"), "is not a valid signature"),
        (lambda v: (v / "background.npz").write_bytes(b"more"), "does not cover background.npz"),
        (
            lambda v: (v.parent / "background.npz").write_bytes(b"more"),
            "does not cover background.npz, which lies above",
        ),
        (lambda v: (v / "weights").symlink_to(v / "model.onnx"), "does not cover weights"),
        (lambda v: (v / "tokenizer.json").unlink(), "tokenizer.json"),
    ],
)
def test_an_altered_version_is_refused(
    version: Path, keys: Path, change: Callable[[Path], object], problem: str
) -> None:
    change(version)
    with pytest.raises(Error, match=problem):
        check(version, keys)


@pytest.mark.parametrize("name", ["model.yaml", "tokenizer.json"])
def test_files_above_the_folder_are_refused_even_where_the_rest_is_signed(version: Path, keys: Path, name: str) -> None:
    (version / name).rename(version.parent / name)
    sign_folder(version, keys / "release.key")
    with pytest.raises(Error, match=f"does not cover {name}, which lies above"):
        check(version, keys)


def test_every_bit_of_the_signed_statement_counts(version: Path, keys: Path) -> None:
    signature = version / "model.sig"
    original = signature.read_bytes()
    start_of_payload = original.index(b'"payload"') + len('"payload": "')
    for at in (*range(start_of_payload, start_of_payload + 400, 40), original.index(b'"sig"') + 12):
        signature.write_bytes(original)
        flip(signature, at)
        with pytest.raises(Error, match="is not a valid signature"):
            check(version, keys)


def test_another_key_is_refused(version: Path, keys: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    write_key(stranger, "stranger")
    with pytest.raises(Error, match=r"stranger\.pem: Key mismatch"):
        check(version, stranger)
    write_key(keys, "stranger")  # one of several is enough
    check(version, keys)


def test_certificates_of_a_trusted_authority(version: Path, tmp_path: Path, keys: Path) -> None:
    trusted, foreign = Authority("trusted"), Authority("foreign")
    for name, authority in (("trusted", trusted), ("foreign", foreign)):
        (tmp_path / f"{name}.pem").write_bytes(authority.certificate)
    pair = trusted.sign("signer", signing=True)
    (tmp_path / "signer.crt").write_bytes(pair.certificate)
    (tmp_path / "signer.key").write_bytes(pair.key)
    sign_folder_with_certificate(version, tmp_path / "signer.key", tmp_path / "signer.crt", [tmp_path / "trusted.pem"])
    check(version, tmp_path / "trusted.pem")
    with pytest.raises(Error, match=r"foreign\.pem: "):
        check(version, tmp_path / "foreign.pem")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--model-signatures", "require"], "--model-signatures require needs --model-signers"),
        (["--model-signatures", "require", "--model-signers", "/nowhere"], "/nowhere does not exist"),
        (["--model-signatures", "sometimes"], "'off', 'warn' or 'require'"),
    ],
)
def test_settings_that_cannot_work(flags: list[str], problem: str, tmp_path: Path) -> None:
    done = subprocess.run(
        command("serve", "--models", str(tmp_path), *flags), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert problem in done.stderr


def test_signers_that_cannot_be_read(version: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(Error, match=r"text\.pem: expected a public key or certificates"):
        check(version, tmp_path / "text.pem")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Error, match=r"has no \.pem file"):
        check(version, tmp_path / "empty")


def test_without_the_extra_the_error_says_what_to_install(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(Error, match="signatures of models need the extra `provenance`: pip install"):
        ModelSignatures("warn", keys, DISCARDED)


@pytest.fixture
def folder(tmp_path: Path, keys: Path) -> Path:
    """One signed model, one that nobody signed, and one that was altered after it was signed."""
    root = tmp_path / "models"
    root.mkdir()
    for seed, name in enumerate(("signed", "unsigned", "altered")):
        version = write_version(root, name, lstm(seed)) / "1"
        if name != "unsigned":
            sign_folder(version, keys / "release.key")
    alter_weight(root / "altered" / "1" / "model.onnx")
    return root


@pytest.fixture
def strict(folder: Path, keys: Path) -> Iterator[Running]:
    flags = ("--model-signatures", "require", "--model-signers", str(keys), "--allow-import")
    with serving(folder, *flags) as server:
        yield server


def test_require_refuses_on_load(strict: Running) -> None:
    with Client(strict.address) as client:
        states = {m.name: (m.state, m.reason) for m in client.models()}
        assert states["signed"][0] == "ready"
        assert states["unsigned"] == ("failed", "it is not signed: there is no model.sig next to model.onnx")
        assert states["altered"][0] == "failed"
        assert "changed since it was signed: model.onnx" in states["altered"][1]
        assert client.explain("signed", {"x": sequence()}).relevance["x"].shape == sequence().shape


def test_a_version_altered_while_it_is_served_stays_as_it_was(strict: Running, folder: Path) -> None:
    with Client(strict.address) as client:
        before = client.explain("signed", {"x": sequence()}).relevance["x"]
        alter_weight(folder / "signed" / "1" / "model.onnx")
        load = grpc_service_pb2.RepositoryModelLoadRequest(model_name="signed")
        with strict.channel() as channel:
            stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError, match=r"changed since it was signed: model\.onnx"):
                stub.RepositoryModelLoad(load)
        (model,) = (m for m in client.models() if m.name == "signed")
        assert (model.state, "changed since it was signed" in model.reason) == ("ready", True)
        assert (client.explain("signed", {"x": sequence()}).relevance["x"] == before).all()


def test_a_batch_job_does_not_start_with_altered_files(folder: Path, keys: Path, tmp_path: Path) -> None:
    """The job reads the files of the version itself."""
    (files := tmp_path / "files").mkdir()
    (files / "rows.parquet").touch()
    flags = ["--model-signatures", "require", "--model-signers", str(keys), "--batch-folder", str(files)]
    with (
        serving(folder, *flags, "--operations-folder", str(tmp_path / "operations")) as server,
        Client(server.address) as client,
    ):
        alter_weight(folder / "signed" / "1" / "model.onnx")
        job = client.start_batch("signed", "rows.parquet", "out")
        with pytest.raises(ExplainError, match=r"changed since it was signed: model\.onnx"):
            job.result(timeout=600)
        assert not (files / "out").exists()


def test_require_refuses_on_import(strict: Running, tmp_path: Path, keys: Path, folder: Path) -> None:
    data = content(5)
    staged = write_version(tmp_path, "staged", lstm(5)) / "1"
    (staged / "model.onnx").write_bytes(data)
    (staged / "model.yaml").write_text(CONFIG)
    signature = sign_folder(staged, keys / "release.key").read_bytes()

    with strict.channel() as channel:
        call = model_pb2_grpc.ModelServiceStub(channel).ImportModel

        def send(data: bytes, signature: bytes | None, config: str = CONFIG) -> str:
            parts = [start(data, config_yaml=config), chunk(data)]
            parts += [] if signature is None else [announced("model.sig", signature), chunk(signature)]
            return call(iter(parts), timeout=60).model.summary.state

        for arguments, problem in (
            ((data, None), "it is not signed"),
            ((content(6), signature), "changed since it was signed: model.onnx"),
            ((data, signature, "description: another\n"), "changed since it was signed: model.yaml"),
            ((data, signature[:-200]), "is not a valid signature"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                send(*arguments)
            found = refusal(caught.value)
            assert found.code == grpc.StatusCode.FAILED_PRECONDITION
            assert problem in found.message
            assert found.detail(error_details_pb2.ErrorInfo).reason == "MODEL_UNTRUSTED"
            assert not (folder / "new").exists()
        assert send(data, signature) == 2  # ready
    with Client(strict.address) as client:
        assert client.model("new").description == "signed"


def test_warn_serves_and_says_so(folder: Path, keys: Path) -> None:
    address = free_address()
    flags = ("--model-signatures", "warn", "--model-signers", str(keys), "--metrics-listen", address)
    with serving(folder, *flags) as server, Client(server.address) as client:
        assert {m.state for m in client.models()} == {"ready"}
        log = server.logged()
        assert "model unsigned version 1 is served although it is not signed" in log
        assert "model altered version 1 is served although model.sig is not a valid signature" in log
        counted = {name: value for name, value in metrics(address).items() if "model_signatures_total" in name}
        assert counted == {
            f'lstm_explain_model_signatures_total{{result="{result}"}}': 1.0
            for result in ("valid", "missing", "invalid")
        }
