"""lstm_explain.v1.ModelService."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from lstm_explain.service.errors import Unimplemented
from lstm_explain.service.repository import Repository
from lstm_explain.service.wire import to_detail, to_summary
from lstm_explain_proto.lstm_explain.v1 import model_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import model_pb2_grpc


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Errors are raised as lstm_explain.Error; calls.Calls makes statuses of them."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:  # noqa: N802
        return pb.ListModelsResponse(models=[to_summary(entry) for entry in self._repository.snapshot])

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:  # noqa: N802
        entry = self._repository.snapshot.entry(request.name, request.version)
        return pb.GetModelResponse(model=to_detail(entry))

    def ImportModel(  # noqa: N802
        self, request_iterator: Iterator[pb.ImportModelRequest], context: grpc.ServicerContext
    ) -> pb.ImportModelResponse:
        raise Unimplemented("this server does not import models; put them into its folder of models and restart it")

    def DeleteModel(self, request: pb.DeleteModelRequest, context: grpc.ServicerContext) -> pb.DeleteModelResponse:  # noqa: N802
        raise Unimplemented("this server does not delete models; take them out of its folder of models and restart it")
