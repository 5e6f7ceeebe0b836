# SPDX-License-Identifier: Apache-2.0
"""Streams that wait for their callers end after a while, and sooner if others need their place."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from tests.serving.calling import infer, refusal, request, sequence, stub, tensor
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    return folder


class Open:
    """A stream that has been answered once, so that the server has accepted it, and then sends nothing."""

    def __init__(self, call: Any, first: Any) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()
        self.messages.put(first)
        self.call = call(iter(self.messages.get, None))
        next(self.call)

    def ended(self) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as raised:
            next(self.call)
        return raised.value


ITEM = pb.ExplainStreamRequest(id="1", request=request())


@pytest.fixture(scope="module")
def impatient(folder: Path) -> Iterator[Running]:
    """A server for one stream, which it ends when it is idle for a second."""
    with serving(folder, "--max-streams", "1", "--stream-patience", "1") as server:
        yield server


@pytest.mark.parametrize("service", ["ours", "inference"])
def test_an_idle_stream_ends_and_says_why(impatient: Running, service: str) -> None:
    with impatient.channel() as channel:
        stubs = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call, first = (stub(channel).ExplainStream, ITEM) if service == "ours" else (stubs.ModelStreamInfer, infer())
        status = refusal(Open(call, first).ended())
    assert status.code == grpc.StatusCode.ABORTED
    assert "for 1 seconds" in status.message
    assert status.detail(error_details_pb2.ErrorInfo).reason == "STREAM_IDLE"


def test_a_stream_with_running_requests_is_not_idle(impatient: Running) -> None:
    """Each request comes within a second, and all of them take three seconds."""
    with impatient.channel() as channel:

        def slowly() -> Iterator[pb.ExplainStreamRequest]:
            for _ in range(30):
                time.sleep(0.1)
                yield ITEM

        assert len(list(stub(channel).ExplainStream(slowly(), timeout=60))) == 30


def test_idle_streams_make_room_for_others(folder: Path) -> None:
    with serving(folder, "--max-streams", "3", "--stream-patience", "3600") as server, ExitStack() as stack:
        streams = [Open(stub(stack.enter_context(server.channel())).ExplainStream, ITEM) for _ in range(3)]
        answered, end = False, time.monotonic() + 60
        with server.channel() as channel:
            while not answered and time.monotonic() < end:
                answered = _answered(channel)
        assert answered
        assert refusal(streams[0].ended()).code == grpc.StatusCode.ABORTED
        for one in streams[1:]:
            one.messages.put(ITEM)
            assert next(one.call).HasField("response")


def _answered(channel: grpc.Channel) -> bool:
    """Whether a stream was admitted. A refusal must ask to try again."""
    try:
        return len(list(stub(channel).ExplainStream(iter([ITEM]), timeout=30))) == 1
    except grpc.RpcError as error:
        assert refusal(error).code == grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
        time.sleep(0.1)
        return False


def test_a_stream_whose_caller_does_not_read_ends(impatient: Running) -> None:
    fixed = [("grpc.http2.bdp_probe", 0)]
    x = tensor("x", sequence(8, 8000))

    def many() -> Iterator[pb.ExplainStreamRequest]:
        for _ in range(200):
            yield pb.ExplainStreamRequest(id="1", request=request(inputs=[x]))

    with grpc.insecure_channel(impatient.address, fixed) as channel:
        call = stub(channel).ExplainStream(many())
        next(call)
        assert _let_in(impatient)
        call.cancel()


def _let_in(server: Running) -> bool:
    end = time.monotonic() + 90
    with server.channel() as channel:
        while time.monotonic() < end:
            if _answered(channel):
                return True
    return False
