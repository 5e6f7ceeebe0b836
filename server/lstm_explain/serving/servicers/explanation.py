# SPDX-License-Identifier: Apache-2.0
"""lstm_explain.v1.ExplanationService."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from functools import partial

from lstm_explain.errors import Error, InputError, drop_tracebacks
from lstm_explain.progress import Report
from lstm_explain.serving import stream
from lstm_explain.serving.audit.note import RequestNote
from lstm_explain.serving.calls import Malformed, received
from lstm_explain.serving.errors import internal, status_of
from lstm_explain.serving.execution.explainer import Explainer, Item
from lstm_explain.serving.observability import tracing
from lstm_explain.serving.observability.tracing import Span
from lstm_explain.serving.progress_messages import ProgressMessages
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
            return await self._answer(request, call, call.note)

    async def ExplainStream(  # noqa: N802
        self, requests: AsyncIterator[pb.ExplainStreamRequest], call: PendingCall
    ) -> AsyncGenerator[pb.ExplainStreamResponse, None]:
        with call.permit.stream(), self._admission.streams:
            admission, work = self._admission, partial(self._item, call=call, span=tracing.current())
            async with aclosing(
                stream.answers(requests, work, admission.window, permits=admission.permits, streams=admission.streams)
            ) as answers:
                async for answer in answers:
                    yield answer

    def _answer(
        self, request: pb.ExplainRequest, call: PendingCall, note: RequestNote, progress: Report | None = None
    ) -> Awaitable[pb.ExplainResponse]:
        read, size = partial(to_query, request), received.get()
        return self._explainer.answer(request.model, request.version, read, from_answer, call, size, note, progress)

    async def _item(
        self,
        item: pb.ExplainStreamRequest | Malformed,
        send: stream.Send[pb.ExplainStreamResponse],
        call: PendingCall,
        span: Span,
    ) -> pb.ExplainStreamResponse:
        item_id = "" if isinstance(item, Malformed) else item.id
        with self._explainer.item("ExplainStream", span, call, item_id) as record:
            if isinstance(item, Malformed):
                return _refusal(record, item_id, InputError(item.problem), "")
            try:
                progress = ProgressMessages(item.id, send) if item.progress else None
                answer = await self._answer(item.request, call, record.note, progress)
                return pb.ExplainStreamResponse(id=item.id, response=answer)
            except Error as error:
                return _refusal(record, item_id, error, locate(error.field, item.request))
            except Exception as error:  # an error of one item must not end the stream
                log.exception("ExplainStream: the request with id %r failed", item.id)
                return _refusal(record, item_id, error, "")


def _refusal(record: Item, item_id: str, error: Exception, field: str) -> pb.ExplainStreamResponse:
    status = status_of(error, field) if isinstance(error, Error) else internal("")
    drop_tracebacks(error)
    record.fail(error, status)
    return pb.ExplainStreamResponse(
        id=item_id, error=pb.ItemError(code=status.code, message=status.message, field=field)
    )
