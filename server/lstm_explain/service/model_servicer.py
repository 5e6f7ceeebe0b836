"""lstm_explain.v1.ModelService."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc

from lstm_explain.service.errors import Unimplemented
from lstm_explain.service.imports import Imports
from lstm_explain.service.repository import Repository
from lstm_explain.service.wire import to_detail, to_parts, to_summary, to_upload
from lstm_explain_proto.lstm_explain.v1 import model_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import model_pb2_grpc


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Errors are raised as lstm_explain.Error; calls.Calls makes statuses of them.

    imports: None where they are off. patience: seconds that an import may go without a message.
    """

    def __init__(self, repository: Repository, imports: Imports | None, patience: float) -> None:
        self._repository = repository
        self._imports = imports
        self._patience = patience

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:  # noqa: N802
        return pb.ListModelsResponse(models=[to_summary(entry) for entry in self._repository.snapshot])

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:  # noqa: N802
        entry = self._repository.with_news(request.name, request.version).entry(request.name, request.version)
        return pb.GetModelResponse(model=to_detail(entry))

    def ImportModel(  # noqa: N802
        self, request_iterator: Iterator[pb.ImportModelRequest], context: grpc.ServicerContext
    ) -> pb.ImportModelResponse:
        imports = self._allowed()
        requests = _in_time(request_iterator, context, self._patience)
        added = imports.add(to_upload(requests), to_parts(requests))
        return pb.ImportModelResponse(model=to_detail(added))

    def DeleteModel(self, request: pb.DeleteModelRequest, context: grpc.ServicerContext) -> pb.DeleteModelResponse:  # noqa: N802
        self._allowed().delete(request.name, request.version)
        return pb.DeleteModelResponse()

    def _allowed(self) -> Imports:
        if self._imports is None:
            raise Unimplemented("callers may not change this server's models; --allow-import would let them")
        return self._imports


def _in_time(
    requests: Iterator[pb.ImportModelRequest], context: grpc.ServicerContext, seconds: float
) -> Iterator[pb.ImportModelRequest]:
    """The requests, as long as none keeps us waiting longer: then the call is cancelled, and its place is free."""
    while True:
        timer = threading.Timer(seconds, context.cancel)
        timer.start()
        try:
            request = next(requests, None)
        finally:
            timer.cancel()
        if request is None:
            return
        yield request
