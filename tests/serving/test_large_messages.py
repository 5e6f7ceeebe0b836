# SPDX-License-Identifier: Apache-2.0
"""Other calls are answered while messages arrive that are large or have very many fields."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lstm_explain.serving.wire.counted import MAX_FIELDS, SMALL_BYTES, has_too_many_fields
from lstm_explain_proto.inference import grpc_service_pb2
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import infer, request, sequence, stub, tensor
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving

MIB = 1 << 20
STREAM = "/lstm_explain.v1.ExplanationService/ExplainStream"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("models")
    write_version(folder, "lstm", lstm())
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[grpc.Channel]:
    with server.channel() as channel:
        yield channel


def of_empty_fields(name: str, bytes_: int) -> bytes:
    """A serialised request with many empty values of the field `name`."""
    number = pb.ExplainRequest.DESCRIPTOR.fields_by_name[name].number
    return pb.ExplainRequest(model="lstm").SerializeToString() + bytes([number << 3 | 2, 0]) * (bytes_ // 2)


def of_one_tensor(bytes_: int) -> bytes:
    return request(inputs=[tensor("x", np.zeros((1, bytes_ // 16, 4), np.float32))]).SerializeToString()


def as_item(message: bytes) -> bytes:
    return pb.ExplainStreamRequest(request=pb.ExplainRequest(), id="a").SerializeToString() + delimited(2, message)


def delimited(number: int, inside: bytes) -> bytes:
    length, prefix = len(inside), b""
    while length > 127:
        prefix, length = prefix + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + prefix + bytes([length]) + inside


def slowest_health(server: Running, work: Callable[[grpc.Channel], object]) -> float:
    """The seconds of the slowest health check while the work goes on."""
    slowest = 0.0
    with server.channel() as channel, server.channel() as own:
        probe = health_pb2_grpc.HealthStub(own)
        probe.Check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)
        worker = threading.Thread(target=work, args=(channel,))
        worker.start()
        while worker.is_alive():
            began = time.monotonic()
            probe.Check(health_pb2.HealthCheckRequest(), timeout=60)
            slowest = max(slowest, time.monotonic() - began)
    return slowest


@pytest.mark.parametrize("field", ["capture", "inputs"])
def test_millions_of_fields_do_not_delay_health(server: Running, field: str) -> None:
    messages: list[str] = []

    def sending(item: bytes) -> Callable[[grpc.Channel], None]:
        def work(channel: grpc.Channel) -> None:
            call = channel.stream_stream(STREAM, bytes, pb.ExplainStreamResponse.FromString)
            messages.extend(answer.error.message for answer in call(iter([item] * 2), timeout=60))

        return work

    bytes_ = 60 * MIB
    plain = max(slowest_health(server, sending(as_item(of_one_tensor(bytes_)))) for _ in range(2))
    messages.clear()
    slowest = slowest_health(server, sending(as_item(of_empty_fields(field, bytes_))))
    assert slowest <= 2 * plain + 0.3
    assert len(messages) == 2
    assert all(f"more than {MAX_FIELDS} fields" in message for message in messages)


def test_a_unary_call_with_too_many_fields_is_refused(channel: grpc.Channel) -> None:
    ask = channel.unary_unary("/lstm_explain.v1.ExplanationService/Explain", bytes, pb.ExplainResponse.FromString)
    with pytest.raises(grpc.RpcError, match=f"more than {MAX_FIELDS} fields") as raised:
        ask(of_empty_fields("capture", MIB), timeout=60)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert stub(channel).Explain(request(), timeout=60).model == "lstm"


def test_no_item_is_read_while_a_large_one_runs(channel: grpc.Channel) -> None:
    """Items of 4 MiB that run for longer than all of them take to arrive. gRPC buffers four or five of them.

    They are counted halfway through the first run, because the server reads on while its answer is on its way.
    """
    taken = 0
    method = method_pb2.Method(integrated_gradients=method_pb2.IntegratedGradients(steps=40))

    def items() -> Iterator[pb.ExplainStreamRequest]:
        nonlocal taken
        while taken < 16:
            taken += 1
            yield pb.ExplainStreamRequest(id="a", request=request(inputs=[tensor("x", long)], method=method))

    long = sequence(batch=64, time=4096)
    answers = stub(channel).ExplainStream(items(), timeout=300)
    with ThreadPoolExecutor(1) as pool:
        first, counts = pool.submit(next, answers), [0]
        while not first.done():
            counts.append(taken)
            time.sleep(0.01)
    assert not first.result().error.message
    assert counts[len(counts) // 2] <= 8
    answers.cancel()


def ours(data: bytes) -> bool:
    return has_too_many_fields(data, pb.ExplainRequest.DESCRIPTOR)


def test_fields_are_counted_in_nested_messages_but_not_in_tensor_data() -> None:
    count = SMALL_BYTES + 10
    assert not ours(of_one_tensor(4 * MIB))
    assert not ours(of_empty_fields("capture", SMALL_BYTES - 100))
    assert ours(pb.ExplainRequest(inputs=[tensor("x", sequence())] * (MAX_FIELDS // 3)).SerializeToString())
    indices = pb.Target(indices=[1] * count)
    assert ours(pb.ExplainRequest(target=indices).SerializeToString())
    assert not ours(pb.ExplainRequest(capture=["x" * count]).SerializeToString())
    assert ours(b"\xf8\x07\x01" * count)  # of a field that nobody knows
    assert not ours(b"\x0f" + bytes(count))  # no message
    assert not ours(b"\x0a" + b"\xff" * 9 + b"\x01" + bytes(count))  # of a length that no message has


def test_numbers_of_typed_contents_do_not_count() -> None:
    message = infer(x=sequence(batch=64, time=1024))
    message.inputs[0].contents.fp32_contents.extend(np.frombuffer(message.raw_input_contents[0], "<f4").tolist())
    del message.raw_input_contents[:]
    data = message.SerializeToString()
    assert len(data) > SMALL_BYTES
    assert not has_too_many_fields(data, grpc_service_pb2.ModelInferRequest.DESCRIPTOR)
