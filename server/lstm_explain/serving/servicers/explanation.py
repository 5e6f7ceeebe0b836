"""lstm_explain.v1.ExplanationService."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from functools import partial

from google.rpc import code_pb2, status_pb2

from lstm_explain.errors import Error, InputError, drop_tracebacks
from lstm_explain.serving import stream
from lstm_explain.serving.calls import Malformed, received
from lstm_explain.serving.errors import internal, status_of
from lstm_explain.serving.execution.explainer import Explainer
from lstm_explain.serving.observability import tracing
from lstm_explain.serving.observability.tracing import Span
from lstm_explain.serving.scheduling.admission import Admission, PendingCall
from lstm_explain.serving.wire import from_answer, locate, to_query
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2_grpc

log = logging.getLogger(__name__)


class ExplanationServicer(explanation_pb2_grpc.ExplanationServiceServicer):
    """Errors are raised as lstm_explain.Error; calls.Calls converts them to statuses."""

    def __init__(self, explainer: Explainer, admission: Admission) -> None:
        self._explainer = explainer
        self._admission = admission

    async def Explain(self, request: pb.ExplainRequest, call: PendingCall) -> pb.ExplainResponse:  # noqa: N802
        with self._admission.calls:
            return await self._answer(request, call)

    async def ExplainStream(  # noqa: N802
        self, requests: AsyncIterator[pb.ExplainStreamRequest], call: PendingCall
    ) -> AsyncGenerator[pb.ExplainStreamResponse, None]:
        with self._admission.streams:
            admission, work = self._admission, partial(self._item, call=call, span=tracing.current())
            async with aclosing(
                stream.answers(requests, work, admission.window, permits=admission.permits, streams=admission.streams)
            ) as answers:
                async for answer in answers:
                    yield answer

    def _answer(self, request: pb.ExplainRequest, call: PendingCall) -> Awaitable[pb.ExplainResponse]:
        read, size = partial(to_query, request), received.get()
        return self._explainer.answer(request.model, request.version, read, from_answer, call, size)

    async def _item(
        self, item: pb.ExplainStreamRequest | Malformed, call: PendingCall, span: Span
    ) -> pb.ExplainStreamResponse:
        with self._explainer.item("ExplainStream", span) as record:
            answer = await self._answered(item, call)
            record.code = code_pb2.Code.Name(answer.error.code)
            return answer

    async def _answered(self, item: pb.ExplainStreamRequest | Malformed, call: PendingCall) -> pb.ExplainStreamResponse:
        if isinstance(item, Malformed):
            return _refusal("", status_of(InputError(item.problem)), "")
        try:
            return pb.ExplainStreamResponse(id=item.id, response=await self._answer(item.request, call))
        except Error as error:
            drop_tracebacks(error)
            field = locate(error.field, item.request)
            return _refusal(item.id, status_of(error, field), field)
        except Exception as error:  # an error of one item must not end the stream
            log.exception("ExplainStream: the request with id %r failed", item.id)
            drop_tracebacks(error)
            return _refusal(item.id, internal(""), "")


def _refusal(item_id: str, status: status_pb2.Status, field: str) -> pb.ExplainStreamResponse:
    return pb.ExplainStreamResponse(
        id=item_id, error=pb.ItemError(code=status.code, message=status.message, field=field)
    )
