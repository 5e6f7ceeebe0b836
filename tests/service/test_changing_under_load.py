"""Sixteen callers while models are reloaded, deleted and imported: every valid request is answered, and rightly."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_client import Client
from lstm_explain_proto.inference import grpc_service_pb2 as pb
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from tests.service.calling import array_of, request, sequence, stub, tensor
from tests.service.models import lstm, write_version
from tests.service.running import Running, serving

CALLERS, RELOADS, MALFORMED_EVERY = 16, 50, 20
INPUTS = [sequence(1 + seed % 3, 3 + seed % 5, seed) for seed in range(12)]
NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT


class Load:
    """Calls `steady` and `moving` in turn until told to stop, and compares each answer with the engine's."""

    def __init__(self, server: Running, engines: dict[str, lx.Model]) -> None:
        self._server = server
        self._wanted = {
            name: [engine.explain({"x": x}).relevance["x"] for x in INPUTS] for name, engine in engines.items()
        }
        self.stop = threading.Event()
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self, number: int) -> None:
        with self._server.channel() as channel:
            turn = number
            while not self.stop.is_set():
                turn += 1
                outcome = self._call(channel, turn)
                with self._lock:
                    self.counts[outcome] += 1

    def _call(self, channel: grpc.Channel, turn: int) -> str:
        x, name = INPUTS[turn % len(INPUTS)], ("steady", "moving", "reloaded")[turn % 3]
        if turn % MALFORMED_EVERY == 0:
            return self._refused(channel, name)
        try:
            relevance = _relevance(channel, name, x, inference=turn % 2 == 0)
        except grpc.RpcError as error:
            if name == "moving" and error.code() == NOT_FOUND:
                return "not there at the moment"
            return f"{name} failed: {error.code()} {error.details()}"
        right = np.array_equal(relevance, self._wanted[name][turn % len(INPUTS)])
        return "right" if right else f"{name} answered wrongly"

    @staticmethod
    def _refused(channel: grpc.Channel, name: str) -> str:
        try:
            stub(channel).Explain(request(name, inputs=[tensor("x", sequence()[0])]), timeout=60)
        except grpc.RpcError as error:
            allowed = (INVALID, NOT_FOUND) if name == "moving" else (INVALID,)
            return "refused" if error.code() in allowed else f"malformed refused with {error.code()}"
        return "malformed answered"


def _relevance(channel: grpc.Channel, name: str, x: np.ndarray, *, inference: bool) -> np.ndarray:
    """By either protocol."""
    if not inference:
        return array_of(stub(channel).Explain(request(name, inputs=[tensor("x", x)]), timeout=60).relevance[0])
    given = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=x.shape)
    message = pb.ModelInferRequest(model_name=name, inputs=[given], raw_input_contents=[x.tobytes()])
    message.parameters["explain"].string_param = "lrp"
    response = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=60)
    index = [o.name for o in response.outputs].index("relevance:x")
    return np.frombuffer(response.raw_output_contents[index], np.float32).reshape(x.shape)


def test_every_valid_request_is_answered_rightly(tmp_path: Path) -> None:
    models = {"steady": lstm(0), "moving": lstm(1), "reloaded": lstm(2)}
    for name, model in models.items():
        write_version(tmp_path, name, model)
    flags = ("--allow-import", "--max-concurrent", "64", "--poll-seconds", "0.5")
    with serving(tmp_path, *flags) as server:
        load = Load(server, {name: lx.load(model) for name, model in models.items()})
        callers = [threading.Thread(target=load.run, args=(number,)) for number in range(CALLERS)]
        for caller in callers:
            caller.start()
        moves = _change(server, models["moving"].SerializeToString())
        load.stop.set()
        for caller in callers:
            caller.join(timeout=90)
        assert "Traceback" not in server.logged()
    print(f"\n{RELOADS} reloads, {moves} deletions and imports, {dict(load.counts)}")
    assert set(load.counts) <= {"right", "refused", "not there at the moment"}, load.counts
    assert load.counts["right"] > 100
    assert load.counts["refused"] > 0


def _change(server: Running, data: bytes) -> int:
    """Reloads one model RELOADS times, while another is deleted and imported over and over; how often."""
    done, moves = threading.Event(), 0
    errors: list[Exception] = []

    def move() -> None:
        nonlocal moves
        with Client(server.address, timeout=60) as client:
            while not done.is_set():
                try:
                    client.delete_model("moving")
                    client.import_model("moving", data)
                except Exception as error:
                    errors.append(error)
                    return
                moves += 1
                time.sleep(0.2)

    mover = threading.Thread(target=move)
    mover.start()
    with server.channel() as channel:
        inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(RELOADS):
            inference.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="reloaded"), timeout=60)
    done.set()
    mover.join(timeout=60)
    assert errors == []
    return moves


@pytest.mark.parametrize("flag", ["--max-loaded-bytes", "--poll-seconds"])
def test_limits_are_positive(tmp_path: Path, flag: str) -> None:
    with pytest.raises(AssertionError, match=f"lstm-explain: {flag}"), serving(tmp_path, flag, "0"):
        pass
