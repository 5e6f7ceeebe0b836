# SPDX-License-Identifier: Apache-2.0
"""Sixteen callers while models are reloaded, deleted and imported and certificates are renewed: every valid request is
answered, and rightly; every malformed one is refused with the code that is due to it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_client import TLS, Client
from lstm_explain_proto.inference import grpc_service_pb2 as pb
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import array_of, infer, request, sequence, stub, tensor
from tests.serving.certificates import Authority, Files, Pair, secure_channel, serial, shown
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving

CALLERS, RELOADS, RENEWALS, MALFORMED_EVERY, CALLS_A_CONNECTION = 16, 50, 8, 20, 40
INPUTS = [sequence(1 + seed % 3, 3 + seed % 5, seed) for seed in range(12)]
NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
EXPLAIN = "/lstm_explain.v1.ExplanationService/Explain"
NEGATIVE = method_pb2.Method(lrp=method_pb2.Lrp(epsilon=-1.0))
BAD = (
    (request("steady", inputs=[tensor("x", sequence()[0])]).SerializeToString(), INVALID),
    (request("steady", inputs=[tensor("y", sequence())]).SerializeToString(), INVALID),
    (request("reloaded", method=NEGATIVE).SerializeToString(), INVALID),
    (request("reloaded", inputs=[tensor("x", sequence() * np.float32(np.nan))]).SerializeToString(), INVALID),
    (request("steady").SerializeToString()[:-3], INVALID),
    (request("steady", version="7").SerializeToString(), NOT_FOUND),
    (request("no-such-model").SerializeToString(), NOT_FOUND),
)


class Load:
    """Calls the models in turn until it is stopped, and compares each answer with the engine's."""

    def __init__(self, connect: Callable[[], grpc.Channel], engines: dict[str, lx.Model]) -> None:
        self._connect = connect
        self._wanted = {
            name: [engine.explain({"x": x}).relevance["x"] for x in INPUTS] for name, engine in engines.items()
        }
        self.stop = threading.Event()
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self, number: int) -> None:
        turn = number
        while not self.stop.is_set():
            with self._connect() as channel:
                for _ in range(CALLS_A_CONNECTION):
                    if self.stop.is_set():
                        return
                    turn += 1
                    outcome = (
                        self._malformed(channel, turn) if turn % MALFORMED_EVERY == 0 else self._valid(channel, turn)
                    )
                    with self._lock:
                        self.counts[outcome] += 1

    def _valid(self, channel: grpc.Channel, turn: int) -> str:
        which, name = turn % len(INPUTS), ("steady", "moving", "reloaded")[turn // 2 % 3]
        try:
            relevance = _relevance(channel, name, INPUTS[which], inference=turn % 2 == 0)
        except grpc.RpcError as error:
            if name == "moving" and error.code() == NOT_FOUND:
                return "not there at the moment"
            return f"{name} failed: {error.code()} {error.details()}"
        return "right" if np.array_equal(relevance, self._wanted[name][which]) else f"{name} answered wrongly"

    @staticmethod
    def _malformed(channel: grpc.Channel, turn: int) -> str:
        data, due = BAD[turn // MALFORMED_EVERY % len(BAD)]
        try:
            channel.unary_unary(EXPLAIN)(data, timeout=60)
        except grpc.RpcError as error:
            return "refused" if error.code() == due else f"{due} was due, {error.code()} came"
        return f"{due} was due, an answer came"


def _relevance(channel: grpc.Channel, name: str, x: np.ndarray, *, inference: bool) -> np.ndarray:
    """The relevance, in either protocol."""
    if not inference:
        return array_of(stub(channel).Explain(request(name, inputs=[tensor("x", x)]), timeout=60).relevance[0])
    response = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer(name, x), timeout=60)
    index = [o.name for o in response.outputs].index("relevance:x")
    return np.frombuffer(response.raw_output_contents[index], np.float32).reshape(x.shape)


def test_every_valid_request_is_answered_correctly(tmp_path: Path) -> None:
    """Over mutual TLS, with a new connection every CALLS_A_CONNECTION calls."""
    models = {"steady": lstm(0), "moving": lstm(1), "reloaded": lstm(2)}
    folder, files = tmp_path / "models", Files(tmp_path)
    for name, model in models.items():
        write_version(folder, name, model)
    servers, clients = Authority("servers"), Authority("clients")
    files.write(servers.sign("server"), clients)
    own = clients.sign("me")
    flags = ("--allow-import", "--poll-seconds", "0.5", *files.flags, *files.client_flags)
    with serving(folder, *flags) as server:
        engines = {name: lx.load(model) for name, model in models.items()}
        load = Load(lambda: secure_channel(server.address, servers.certificate, own), engines)
        callers = [threading.Thread(target=load.run, args=(number,)) for number in range(CALLERS)]
        for caller in callers:
            caller.start()
        changes = Changes(server, files, servers, own)
        changes.make(models["moving"].SerializeToString())
        load.stop.set()
        for caller in callers:
            caller.join(timeout=90)
        assert "Traceback" not in server.logged()
        assert server.process.poll() is None
    print(f"\n{RELOADS} reloads, {changes.moves} deletions and imports, {RENEWALS} renewals, {dict(load.counts)}")
    assert set(load.counts) <= {"right", "refused", "not there at the moment"}, load.counts
    assert load.counts["right"] > 100
    assert load.counts["refused"] > len(BAD)


class Changes:
    """Reloads one model RELOADS times while certificates are renewed and another model is deleted and imported."""

    def __init__(self, server: Running, files: Files, authority: Authority, client: Pair) -> None:
        self._server, self._files, self._authority, self._client = server, files, authority, client
        self._errors: list[Exception] = []
        self._renewed = threading.Event()
        self._done = threading.Event()
        self.moves = 0

    def make(self, data: bytes) -> None:
        """Makes the changes, and returns when all are done."""
        others = [threading.Thread(target=self._try, args=work) for work in ((self._renew,), (self._move, data))]
        for other in others:
            other.start()
        with self._channel() as channel:
            inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for _ in range(RELOADS):
                inference.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="reloaded"), timeout=60)
        self._done.set()
        for other in others:
            other.join(timeout=120)
        assert self._errors == []
        assert self._renewed.is_set()
        assert self.moves > 0

    def _try(self, work: Callable[..., None], *arguments: bytes) -> None:
        try:
            work(*arguments)
        except Exception as error:
            self._errors.append(error)

    def _renew(self) -> None:
        for _ in range(RENEWALS):
            pair = self._authority.sign("server")
            self._files.write(pair)
            assert shown(self._server.address, self._authority.certificate) == serial(pair.certificate)
        self._renewed.set()

    def _move(self, data: bytes) -> None:
        tls = TLS(self._authority.certificate, self._client.certificate, self._client.key)
        with Client(self._server.address, tls=tls, timeout=60) as client:
            while not (self._done.wait(0.2) and self._renewed.is_set()):
                client.delete_model("moving")
                client.import_model("moving", data)
                self.moves += 1

    def _channel(self) -> grpc.Channel:
        return secure_channel(self._server.address, self._authority.certificate, self._client)


@pytest.mark.parametrize("flag", ["--max-loaded-bytes", "--poll-seconds"])
def test_limits_are_positive(tmp_path: Path, flag: str) -> None:
    with pytest.raises(AssertionError, match=f"lstm-explain: {flag}"), serving(tmp_path, flag, "0"):
        pass
