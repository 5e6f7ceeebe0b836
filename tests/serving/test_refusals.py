# SPDX-License-Identifier: Apache-2.0
"""Each invalid request gets one clear error with status and field, and the next request is answered."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, method_pb2, tensor_pb2
from tests.serving.calling import F32, STRING, Refusal, refusal, request, sequence, stub, tensor, texts
from tests.serving.running import Running

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def holed(value: float) -> np.ndarray:
    x = sequence()
    x[1, 2, 3] = value
    return x


def raw(name: str = "x", dtype: int = F32, shape: tuple[int, ...] = (2, 7, 4), size: int = 224) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(name=name, dtype=dtype, shape=shape, data=bytes(size))


def target(**fields: object) -> explanation_pb2.ExplainRequest:
    return request(target=explanation_pb2.Target(**fields))


def lrp(**fields: object) -> explanation_pb2.ExplainRequest:
    return request(method=method_pb2.Method(lrp=method_pb2.Lrp(**fields)))


BAD = {
    "wrong name": (request(inputs=[tensor("y", sequence())]), "inputs[0]", "'y'"),
    "missing input": (request(inputs=[]), "inputs", "missing"),
    "second input unknown": (request(inputs=[raw(), raw("z")]), "inputs[1]", "'z'"),
    "input twice": (request(inputs=[raw(), raw()]), "inputs[1].name", "twice"),
    "no name": (request(inputs=[raw("")]), "inputs[0].name", "no name"),
    "wrong rank": (request(inputs=[tensor("x", sequence()[0])]), "inputs[0].shape", "shape"),
    "wrong extent": (request(inputs=[tensor("x", sequence(features=5))]), "inputs[0].shape", "shape"),
    "wrong dtype": (request(inputs=[tensor("x", sequence().astype("i8"))]), "inputs[0].dtype", "int64"),
    "overflow": (request(inputs=[tensor("x", sequence().astype("f8") * 1e300)]), "inputs[0].data", "float32"),
    "no dtype": (request(inputs=[raw(dtype=0)]), "inputs[0].dtype", "dtype"),
    "unheard dtype": (request(inputs=[raw(dtype=99)]), "inputs[0].dtype", "dtype"),
    "length 0": (request(inputs=[raw(shape=(2, 0, 4), size=0)]), "inputs[0].shape", "length 0"),
    "batch of 0": (request(inputs=[raw(shape=(0, 7, 4), size=0)]), "inputs[0].shape", "length 0"),
    "NaN": (request(inputs=[tensor("x", holed(np.nan))]), "inputs[0]", "nan at (1, 2, 3)"),
    "infinity": (request(inputs=[tensor("x", holed(-np.inf))]), "inputs[0]", "-inf at (1, 2, 3)"),
    "too few bytes": (request(inputs=[raw(size=223)]), "inputs[0].data", "224 bytes, got 223"),
    "too many bytes": (request(inputs=[raw(size=228)]), "inputs[0].data", "224 bytes, got 228"),
    "negative extent": (request(inputs=[raw(shape=(-2, -7, 4))]), "inputs[0].shape", "-2"),
    "extent beyond memory": (request(inputs=[raw(shape=(2**62, 4, 4), size=0)]), "inputs[0].shape", "4611686"),
    "product beyond 64 bits": (request(inputs=[raw(shape=(2**39, 2**39, 4), size=0)]), "inputs[0].shape", "5497558"),
    "0 beside a vast extent": (request(inputs=[raw(shape=(0, 2**40, 2**40), size=0)]), "inputs[0].shape", ""),
    "100 axes": (request(inputs=[raw(shape=(1,) * 100, size=4)]), "inputs[0].shape", "100 axes"),
    "text for numbers": (request(inputs=[texts("x", "hello")]), "inputs[0]", "no tokenizer"),
    "text of two axes": (
        request("words", inputs=[raw("tokens", STRING, (1, 1), 4)]),
        "inputs[0].shape",
        "[batch]",
    ),
    "empty text": (request("words", inputs=[texts("tokens", "a film", "  ")]), "inputs[0]", "text 1 has no tokens"),
    "text past its end": (
        request(
            "words", inputs=[tensor_pb2.Tensor(name="tokens", dtype=STRING, shape=[1], data=b"\xff\xff\xff\xffab")]
        ),
        "inputs[0].data",
        "past the end",
    ),
    "a billion texts": (request("words", inputs=[raw("tokens", STRING, (10**9,), 4)]), "inputs[0].data", "strings"),
    "text not UTF-8": (
        request("words", inputs=[tensor_pb2.Tensor(name="tokens", dtype=STRING, shape=[1], data=b"\1\0\0\0\xff")]),
        "inputs[0].data",
        "UTF-8",
    ),
    "unknown output": (target(output="probabilities"), "target.output", "probabilities"),
    "target out of range": (target(indices=[3]), "target.indices", "3"),
    "negative target out of range": (target(indices=[-4]), "target.indices", "-4"),
    "target of wrong rank": (target(indices=[0, 1, 2]), "target.indices", "one position"),
    "contrast out of range": (target(indices=[0], contrast_indices=[9]), "target.contrast_indices", "9"),
    "no such batch axis": (target(batch_axis=5), "target.batch_axis", "5"),
    "weights of wrong shape": (target(weights=tensor("", np.ones(2, "f4"))), "target.weights", "weights"),
    "weights and index": (
        target(indices=[0], weights=tensor("", np.ones(3, "f4"))),
        "target.weights",
        "weights",
    ),
    "negative epsilon": (lrp(epsilon=-1.0), "method.lrp.epsilon", "epsilon"),
    "epsilon NaN": (lrp(epsilon=float("nan")), "method.lrp.epsilon", "epsilon"),
    "bias factor above 1": (lrp(bias_factor=1.5), "method.lrp.bias_factor", "bias_factor"),
    "unheard product rule": (lrp(product_rule=17), "method.lrp.product_rule", "17"),
    "unknown inner value": (request(capture=["nowhere"]), "capture", "nowhere"),
}


@pytest.fixture(autouse=True)
def next_request_is_answered(channel: grpc.Channel) -> Iterator[None]:
    yield
    assert stub(channel).Explain(request(), timeout=10).model == "lstm"


def refused(channel: grpc.Channel, message: explanation_pb2.ExplainRequest) -> Refusal:
    with pytest.raises(grpc.RpcError) as raised:
        stub(channel).Explain(message, timeout=10)
    return refusal(raised.value)


@pytest.mark.parametrize("case", BAD)
def test_invalid_argument_with_its_field(channel: grpc.Channel, case: str) -> None:
    message, field, part = BAD[case]
    status = refused(channel, message)
    assert (status.code, status.field) == (INVALID, field), status.message
    assert part in status.message
    assert "\n" not in status.message


def test_an_id_beyond_the_vocabulary(channel: grpc.Channel) -> None:
    status = refused(channel, request("words", inputs=[tensor("tokens", np.array([[1, 10**6]]))]))
    assert status.code == INVALID


@pytest.mark.parametrize(
    "name", ["nothing", "", "..hidden", "../lstm", "lstm/2", "/etc/passwd", "l\0stm", "secret.bin"]
)
def test_unknown_models(channel: grpc.Channel, name: str) -> None:
    status = refused(channel, request(name))
    assert status.code == grpc.StatusCode.NOT_FOUND
    assert repr(name) in status.message


@pytest.mark.parametrize("version", ["3", "0", "-1", "01", "two", "../1", "9" * 30])
def test_unknown_versions(channel: grpc.Channel, version: str) -> None:
    status = refused(channel, request(version=version))
    assert status.code == grpc.StatusCode.NOT_FOUND
    assert "only 1, 2" in status.message


def test_an_operator_without_a_rule_is_named(channel: grpc.Channel) -> None:
    status = refused(channel, request("no-rule", inputs=[tensor("x", np.ones((1, 2, 2), "f4"))]))
    assert status.code == grpc.StatusCode.FAILED_PRECONDITION
    info = status.detail(error_details_pb2.ErrorInfo)
    assert (info.reason, dict(info.metadata)) == ("UNSUPPORTED_OPERATOR", {"node": "determinant", "op": "Det"})


@pytest.mark.parametrize("name", ["truncated", "outside", "unknown-key"])
def test_models_that_failed_to_load(channel: grpc.Channel, name: str) -> None:
    status = refused(channel, request(name))
    assert status.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "failed to load" in status.message


def test_invalid_protobuf_is_refused(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/lstm_explain.v1.ExplanationService/Explain")
    for data in (b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x07", bytes(100)):
        with pytest.raises(grpc.RpcError) as raised:
            call(data, timeout=10)
        assert refusal(raised.value).code == INVALID


def test_a_message_above_the_limit(channel: grpc.Channel) -> None:
    status = refused(channel, request(inputs=[raw(shape=(2, 1_000_000, 4), size=8_000_000)]))
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_method_of_the_service(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/lstm_explain.v1.ExplanationService/Predict")(b"", timeout=10)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_errors_do_not_reveal_paths_of_the_host(channel: grpc.Channel, running: Running, models_folder) -> None:
    for name in ("truncated", "outside", "unknown-key"):
        failure = refused(channel, request(name))
        assert str(models_folder) not in str(failure.status)
    assert "Traceback" not in running.logged()
