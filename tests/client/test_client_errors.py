# SPDX-License-Identifier: Apache-2.0
"""Statuses become typed errors; the statuses come from a real gRPC server in this process."""

from __future__ import annotations

import pickle
from concurrent import futures

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from lstm_explain_client import AsyncClient, Client, errors
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2_grpc, model_pb2_grpc

VIOLATION = error_details_pb2.BadRequest.FieldViolation(field="inputs[0].shape", description="rank")
BAD_REQUEST = error_details_pb2.BadRequest(field_violations=[VIOLATION])
RETRY = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000))
NODE = error_details_pb2.ErrorInfo(reason="UNSUPPORTED_OPERATOR", metadata={"node": "n3", "op": "Loop"})

CASES = {
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "OUT_OF_RANGE": errors.InvalidRequest,
    "NOT_FOUND": errors.ModelNotFound,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "FAILED_PRECONDITION": errors.NotExplainable,
    "RESOURCE_EXHAUSTED": errors.Overloaded,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "CANCELLED": errors.Cancelled,
    "UNAVAILABLE": errors.Unavailable,
    "UNIMPLEMENTED": errors.Unimplemented,
    "INTERNAL": errors.ServerFault,
    "UNKNOWN": errors.ServerFault,
    "DATA_LOSS": errors.ServerFault,
    "ABORTED": errors.ServerFault,
}


class Refusing(explanation_pb2_grpc.ExplanationServiceServicer, model_pb2_grpc.ModelServiceServicer):
    """Ends every call with the status that the name of the model requests."""

    def Explain(self, request, context):  # noqa: N802
        details = {"INVALID_ARGUMENT": BAD_REQUEST, "RESOURCE_EXHAUSTED": RETRY, "FAILED_PRECONDITION": NODE}
        status = status_pb2.Status(code=grpc.StatusCode[request.model].value[0], message=f"said {request.model}")
        if request.model in details:
            status.details.add().Pack(details[request.model])
        context.abort_with_status(rpc_status.to_status(status))

    def GetModel(self, request, context):  # noqa: N802
        context.set_trailing_metadata([("grpc-status-details-bin", b"\xff not a Status")])
        context.abort(grpc.StatusCode.NOT_FOUND, "no details worth reading")


@pytest.fixture(scope="module")
def address():
    server = grpc.server(futures.ThreadPoolExecutor(4))
    explanation_pb2_grpc.add_ExplanationServiceServicer_to_server(Refusing(), server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(Refusing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize("code", CASES)
def test_every_status_has_its_class(address, code):
    with Client(address, retry=None) as client, pytest.raises(errors.ExplainError) as caught:
        client.explain(code, {})
    assert type(caught.value) is CASES[code]
    assert caught.value.code is grpc.StatusCode[code]
    assert caught.value.message == f"said {code}"


@pytest.mark.parametrize("code", CASES)
async def test_every_status_has_its_class_with_asyncio(address, code):
    async with AsyncClient(address, retry=None) as client:
        with pytest.raises(errors.ExplainError) as caught:
            await client.explain(code, {})
    assert type(caught.value) is CASES[code]
    assert caught.value.code is grpc.StatusCode[code]


def test_details_reach_the_caller(address):
    with Client(address, retry=None) as client:
        with pytest.raises(errors.InvalidRequest, match=r"\(inputs\[0\]\.shape\)") as wrong:
            client.explain("INVALID_ARGUMENT", {})
        with pytest.raises(errors.Overloaded) as overloaded:
            client.explain("RESOURCE_EXHAUSTED", {})
        with pytest.raises(errors.NotExplainable) as stuck:
            client.explain("FAILED_PRECONDITION", {})
        with pytest.raises(errors.ModelNotFound, match="no details worth reading") as unread:
            client.model("x")
    assert (wrong.value.field, wrong.value.details) == ("inputs[0].shape", (BAD_REQUEST,))
    assert overloaded.value.retry_after == 2.5
    assert (stuck.value.node, stuck.value.op) == ("n3", "Loop")
    assert unread.value.details == ()


def test_an_unreachable_server():
    with Client("127.0.0.1:1", retry=None) as client, pytest.raises(errors.Unavailable):
        client.models()


def test_a_message_beyond_the_limit(address):
    with Client(address, max_message_bytes=1000, retry=None) as client, pytest.raises(errors.TooLarge) as caught:
        client.explain("m", {"x": [0.0] * 1000})
    assert isinstance(caught.value, errors.InvalidRequest)


def test_errors_of_single_requests_in_a_stream():
    error = errors.from_number(3, "rank", "inputs[0]")
    assert isinstance(error, errors.InvalidRequest)
    assert (error.code, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, "inputs[0]")
    assert type(errors.from_number(99, "?")) is errors.ServerFault


def test_errors_survive_pickling():
    error = errors.InvalidRequest("rank", field="inputs.x", details=[BAD_REQUEST])
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.field, back.details) == (type(error), str(error), error.field, error.details)


def test_the_tree_in_the_docstring_is_the_tree():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.ExplainError)]
    for cls in classes:
        assert f"─ {cls.__name__} " in errors.__doc__ or cls is errors.ExplainError
