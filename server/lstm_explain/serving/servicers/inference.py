# SPDX-License-Identifier: Apache-2.0
"""inference.GRPCInferenceService: the Open Inference Protocol v2 over the same models and the same calls."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from functools import partial

from lstm_explain import __version__
from lstm_explain.errors import Error, drop_tracebacks
from lstm_explain.serving import stream
from lstm_explain.serving.audit.note import RequestNote
from lstm_explain.serving.calls import received
from lstm_explain.serving.errors import NotFound, NotReady, Unimplemented, internal, status_of
from lstm_explain.serving.execution.explainer import Explainer
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.models.readiness import RequiredModels
from lstm_explain.serving.models.snapshot import Ready
from lstm_explain.serving.observability import tracing
from lstm_explain.serving.observability.tracing import Span
from lstm_explain.serving.scheduling.admission import Admission, PendingCall
from lstm_explain.serving.wire import describe_or_failed
from lstm_explain.serving.wire.inference import (
    from_inference_answer,
    from_prediction,
    to_index,
    to_inference_query,
    to_model_metadata,
    to_prediction_query,
    wants_explanation,
)
from lstm_explain_proto.inference import grpc_service_pb2 as pb
from lstm_explain_proto.inference import grpc_service_pb2_grpc

log = logging.getLogger(__name__)

NAME = "lstm-explain"
EXTENSIONS = ("model_repository", "explain")


class InferenceServicer(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """Errors are raised as lstm_explain.Error; calls.Calls converts them to statuses."""

    def __init__(
        self,
        repository: ModelManager,
        explainer: Explainer,
        admission: Admission,
        required: RequiredModels = RequiredModels(),  # noqa: B008 - frozen
    ) -> None:
        self._required = required
        self._repository = repository
        self._explainer = explainer
        self._admission = admission

    async def ServerLive(self, request: pb.ServerLiveRequest, call: PendingCall) -> pb.ServerLiveResponse:  # noqa: N802
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, call: PendingCall) -> pb.ServerReadyResponse:  # noqa: N802
        return pb.ServerReadyResponse(ready=not self._required.missing(self._repository.snapshot))

    def ModelReady(self, request: pb.ModelReadyRequest, call: PendingCall) -> pb.ModelReadyResponse:  # noqa: N802
        call.permit.allow(request.name)
        try:
            self._repository.snapshot_with(request.name, request.version).ready(request.name, request.version)
        except (NotFound, NotReady):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest, call: PendingCall
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=NAME, version=__version__, extensions=EXTENSIONS)

    def ModelMetadata(self, request: pb.ModelMetadataRequest, call: PendingCall) -> pb.ModelMetadataResponse:  # noqa: N802
        call.permit.allow(request.name)
        snapshot = self._repository.snapshot_with(request.name, request.version)
        card = snapshot.ready(request.name, request.version).card
        return to_model_metadata(card, snapshot.models[card.name].values())

    async def ModelInfer(self, request: pb.ModelInferRequest, call: PendingCall) -> pb.ModelInferResponse:  # noqa: N802
        with self._admission.calls:
            return await self._answer(request, call, call.note)

    async def ModelStreamInfer(  # noqa: N802
        self, requests: AsyncIterator[pb.ModelInferRequest], call: PendingCall
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        with call.permit.stream(), self._admission.streams:
            admission, work = self._admission, partial(self._item, call=call, span=tracing.current())
            coming = stream.answers(
                requests, work, admission.window, in_order=True, permits=admission.permits, streams=admission.streams
            )
            async with aclosing(coming) as answers:
                async for answer in answers:
                    yield answer

    def ModelConfig(self, request: pb.ModelConfigRequest, call: PendingCall) -> pb.ModelConfigResponse:  # noqa: N802
        raise Unimplemented("there is no ModelConfig here; ModelMetadata tells inputs and outputs")

    def ModelStatistics(  # noqa: N802
        self, request: pb.ModelStatisticsRequest, call: PendingCall
    ) -> pb.ModelStatisticsResponse:
        raise Unimplemented("there are no ModelStatistics here; the server's Prometheus metrics have them")

    def RepositoryIndex(self, request: pb.RepositoryIndexRequest, call: PendingCall) -> pb.RepositoryIndexResponse:  # noqa: N802
        seen = (entry for entry in self._repository.snapshot if call.permit.sees(entry.name))
        entries = [entry for entry in seen if isinstance(entry, Ready) or not request.ready]
        return pb.RepositoryIndexResponse(models=[describe_or_failed(to_index, entry) for entry in entries])

    def RepositoryModelLoad(  # noqa: N802
        self, request: pb.RepositoryModelLoadRequest, call: PendingCall
    ) -> pb.RepositoryModelLoadResponse:
        if request.parameters:
            raise Unimplemented("a model is loaded as it lies in the repository, without parameters")
        call.note.name(request.model_name, "")
        call.permit.allow(request.model_name)
        self._repository.reload(request.model_name)
        return pb.RepositoryModelLoadResponse()

    def RepositoryModelUnload(  # noqa: N802
        self, request: pb.RepositoryModelUnloadRequest, call: PendingCall
    ) -> pb.RepositoryModelUnloadResponse:
        call.note.name(request.model_name, "")
        call.permit.allow(request.model_name)
        self._repository.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    def _answer(
        self, request: pb.ModelInferRequest, call: PendingCall, note: RequestNote
    ) -> Awaitable[pb.ModelInferResponse]:
        explains = wants_explanation(request)
        read = partial(to_inference_query if explains else to_prediction_query, request)
        write = partial(from_inference_answer if explains else from_prediction, request)
        name, version, size = request.model_name, request.model_version, received.get()
        return self._explainer.answer(name, version, read, write, call, size, note)

    async def _item(
        self, request: pb.ModelInferRequest, _: object, call: PendingCall, span: Span
    ) -> pb.ModelStreamInferResponse:
        with self._explainer.item("ModelStreamInfer", span, call, request.id) as record:
            failed: Exception
            try:
                return pb.ModelStreamInferResponse(infer_response=await self._answer(request, call, record.note))
            except Error as error:
                failed, status = error, status_of(error)
            except Exception as error:  # an error of one request must not end the stream
                log.exception("ModelStreamInfer: the request with id %r failed", request.id)
                failed, status = error, internal("")
            drop_tracebacks(failed)
            record.fail(failed, status)
            whose = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
            return pb.ModelStreamInferResponse(error_message=status.message, infer_response=whose)
