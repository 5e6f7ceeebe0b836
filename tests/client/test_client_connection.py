# SPDX-License-Identifier: Apache-2.0
"""Security and retries, over real connections to a gRPC server in this process."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from concurrent import futures

import grpc
import pytest

from lstm_explain_client import TLS, AsyncClient, Client, Overloaded, Retry, Unavailable
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc


class Models(model_pb2_grpc.ModelServiceServicer):
    """Refuses calls as often as `refusals` says, then lists no models; records the metadata of every call."""

    def __init__(self, refusals=()):
        self.refusals = list(refusals)
        self.calls = []

    def ListModels(self, request, context):  # noqa: N802
        self.calls.append(dict(context.invocation_metadata()))
        if self.refusals:
            context.abort(self.refusals.pop(0), "not now")
        return model_pb2.ListModelsResponse()

    def ImportModel(self, requests, context):  # noqa: N802
        start = next(requests).start
        content = b"".join(part.chunk for part in requests)
        fits = (start.size, start.sha256) == (len(content), hashlib.sha256(content).digest())
        summary = model_pb2.ModelSummary(name=start.name, version=start.version or "1", description=f"fits: {fits}")
        return model_pb2.ImportModelResponse(model=model_pb2.ModelDetail(summary=summary))

    def DeleteModel(self, request, context):  # noqa: N802
        return self.ListModels(request, context)


@pytest.fixture
def serve():
    servers = []

    def start(models, credentials=None):
        server = grpc.server(futures.ThreadPoolExecutor(2))
        model_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
        listen = server.add_secure_port if credentials else server.add_insecure_port
        port = listen("127.0.0.1:0", *([credentials] if credentials else []))
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


BUSY, DOWN = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE
QUICK = Retry(attempts=4, initial_backoff=0.01, max_backoff=0.02)


def test_read_only_calls_are_retried(serve):
    models = Models([DOWN, BUSY, DOWN])
    with Client(serve(models), retry=QUICK) as client:
        assert client.models() == []
    assert len(models.calls) == 4


async def test_read_only_calls_are_retried_with_asyncio(serve):
    models = Models([DOWN, BUSY])
    async with AsyncClient(serve(models), retry=QUICK) as client:
        assert await client.models() == []
    assert len(models.calls) == 3


def test_retries_end(serve):
    models = Models([BUSY] * 9)
    with Client(serve(models), retry=QUICK) as client, pytest.raises(Overloaded):
        client.models()
    assert len(models.calls) == 4


def test_modifying_calls_are_not_retried(serve):
    models = Models([DOWN])
    with Client(serve(models), retry=QUICK) as client, pytest.raises(Unavailable):
        client.delete_model("m")
    assert len(models.calls) == 1


def test_retries_can_be_turned_off(serve):
    models = Models([DOWN])
    with Client(serve(models), retry=None) as client, pytest.raises(Unavailable):
        client.models()
    assert len(models.calls) == 1


async def test_a_model_of_several_chunks_arrives_whole(serve, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(range(256)) * 20_000)
    address = serve(Models())
    with Client(address) as client:
        detail = client.import_model("mine", path, version="3", timeout=30)
        assert (detail.name, detail.version, detail.description) == ("mine", "3", "fits: True")
        with pytest.raises(FileNotFoundError):
            client.import_model("mine", tmp_path / "none.onnx")
    async with AsyncClient(address) as client:
        assert (await client.import_model("mine", str(path))).description == "fits: True"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with ca.pem, and server and client certificates that it signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on this machine")
    folder = tmp_path_factory.mktemp("keys")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=test", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        (folder / "names").write_text("subjectAltName=DNS:explain.test,IP:127.0.0.1\n")
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


@pytest.fixture
def guarded(serve, keys):
    """A server that requires a client certificate: its address and its servicer."""
    pair = [((keys / "server.key").read_bytes(), (keys / "server.pem").read_bytes())]
    models = Models()
    root = (keys / "ca.pem").read_bytes()
    return serve(models, grpc.ssl_server_credentials(pair, root, require_client_auth=True)), models


async def test_mutual_tls_with_a_token(guarded, keys):
    address, models = guarded
    for tls in (
        TLS(keys / "ca.pem", keys / "client.pem", keys / "client.key"),
        TLS(*((keys / name).read_bytes() for name in ("ca.pem", "client.pem", "client.key")), "explain.test"),
    ):
        with Client(address, tls=tls, token="secret") as client:
            assert client.models() == []
        async with AsyncClient(address, tls=tls, token=lambda: "fresh") as client:
            assert await client.models() == []
    assert [call["authorization"] for call in models.calls] == ["Bearer secret", "Bearer fresh"] * 2


def test_without_the_right_certificates_there_is_no_connection(guarded, keys):
    address, models = guarded
    for tls in (TLS(keys / "ca.pem"), TLS(keys / "client.pem"), True, False):
        with Client(address, tls=tls, retry=None, timeout=5) as client, pytest.raises(Unavailable):
            client.models()
    assert models.calls == []
