# SPDX-License-Identifier: Apache-2.0
"""lstm_explain.v1.ModelService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.errors import Dropped, Unimplemented
from lstm_explain.serving.models.imports import Imports
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.models.routes import Routes
from lstm_explain.serving.scheduling.admission import CallDeadline, PendingCall
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.wire import (
    describe_or_failed,
    to_detail,
    to_parts,
    to_route,
    to_summary,
    to_upload,
    with_route,
)
from lstm_explain_proto.lstm_explain.v1 import model_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import model_pb2_grpc

NOT_ALLOWED = "callers may not change this server's models; --allow-import would let them"


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Errors are raised as lstm_explain.Error; calls.Calls converts them to statuses.

    imports, routes: None where callers may not change models. patience: seconds that an import may go without a
    message.
    """

    def __init__(
        self,
        repository: ModelManager,
        imports: Imports | None,
        routes: Routes | None,
        deadline: float,
        background: BackgroundThreads,
    ) -> None:
        self._repository = repository
        self._routes = routes
        self._imports = imports
        self._patience = deadline
        self._background = background

    def ListModels(self, request: pb.ListModelsRequest, call: PendingCall) -> pb.ListModelsResponse:  # noqa: N802
        snapshot = self._repository.snapshot
        seen = [entry for entry in snapshot if call.permit.sees(entry.name)]
        return pb.ListModelsResponse(
            models=[with_route(describe_or_failed(to_summary, entry), snapshot) for entry in seen]
        )

    def GetModel(self, request: pb.GetModelRequest, call: PendingCall) -> pb.GetModelResponse:  # noqa: N802
        call.permit.allow(request.name)
        snapshot = self._repository.snapshot_with(request.name, request.version)
        detail = describe_or_failed(to_detail, snapshot.entry(request.name, request.version))
        with_route(detail.summary, snapshot)
        return pb.GetModelResponse(model=detail)

    async def ImportModel(  # noqa: N802
        self, requests: AsyncIterator[pb.ImportModelRequest], call: PendingCall
    ) -> pb.ImportModelResponse:
        imports, coming = self._allowed(), _in_time(requests, asyncio.get_running_loop(), self._patience)

        def add() -> ServedModel:
            upload = to_upload(coming)
            call.note.name(upload.name, upload.version)
            call.permit.allow(upload.name)
            return imports.add(upload, to_parts(coming), CallDeadline(call))

        added = await self._background.do(add, call)
        call.note.answered_by(added)
        return pb.ImportModelResponse(model=to_detail(added))

    def DeleteModel(self, request: pb.DeleteModelRequest, call: PendingCall) -> pb.DeleteModelResponse:  # noqa: N802
        call.note.name(request.name, request.version)
        call.permit.allow(request.name)
        self._allowed().delete(request.name, request.version)
        return pb.DeleteModelResponse()

    def RouteModel(self, request: pb.RouteModelRequest, call: PendingCall) -> pb.RouteModelResponse:  # noqa: N802
        call.note.name(request.name, request.default_version)
        call.permit.allow(request.name)
        share = request.canary_share
        route = self._routing().change(request.name, request.default_version, request.canary_version, share)
        call.note.change = str(route)
        return pb.RouteModelResponse(route=to_route(route))

    def RollBackModel(self, request: pb.RollBackModelRequest, call: PendingCall) -> pb.RollBackModelResponse:  # noqa: N802
        call.note.name(request.name, "")
        call.permit.allow(request.name)
        route = self._routing().roll_back(request.name)
        call.note.change = str(route)
        return pb.RollBackModelResponse(route=to_route(route))

    def _routing(self) -> Routes:
        if self._routes is None:
            raise Unimplemented(NOT_ALLOWED)
        return self._routes

    def _allowed(self) -> Imports:
        if self._imports is None:
            raise Unimplemented(NOT_ALLOWED)
        return self._imports


def _in_time(
    requests: AsyncIterator[pb.ImportModelRequest], loop: asyncio.AbstractEventLoop, seconds: float
) -> Iterator[pb.ImportModelRequest]:
    """Yields the requests, for a background thread. Raises Dropped when a request does not arrive within this number of
    seconds.
    """

    async def following() -> pb.ImportModelRequest | None:
        return await anext(requests, None)

    while True:
        coming = asyncio.run_coroutine_threadsafe(following(), loop)
        try:
            request = coming.result(seconds)
        except TimeoutError:
            coming.cancel()
            raise Dropped(f"no message arrived for {seconds:g} seconds") from None
        if request is None:
            return
        yield request
