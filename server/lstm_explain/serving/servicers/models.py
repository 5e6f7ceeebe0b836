"""lstm_explain.v1.ModelService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from lstm_explain.serving.errors import Dropped, Unimplemented
from lstm_explain.serving.models.imports import Imports
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.scheduling.admission import CallDeadline, PendingCall
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.wire import describe_or_failed, to_detail, to_parts, to_summary, to_upload
from lstm_explain_proto.lstm_explain.v1 import model_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import model_pb2_grpc


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Errors are raised as lstm_explain.Error; calls.Calls makes statuses of them.

    imports: None where they are off. patience: seconds that an import may go without a message.
    """

    def __init__(
        self, repository: ModelManager, imports: Imports | None, deadline: float, background: BackgroundThreads
    ) -> None:
        self._repository = repository
        self._imports = imports
        self._patience = deadline
        self._background = background

    def ListModels(self, request: pb.ListModelsRequest, call: PendingCall) -> pb.ListModelsResponse:  # noqa: N802
        return pb.ListModelsResponse(
            models=[describe_or_failed(to_summary, entry) for entry in self._repository.snapshot]
        )

    def GetModel(self, request: pb.GetModelRequest, call: PendingCall) -> pb.GetModelResponse:  # noqa: N802
        entry = self._repository.snapshot_with(request.name, request.version).entry(request.name, request.version)
        return pb.GetModelResponse(model=describe_or_failed(to_detail, entry))

    async def ImportModel(  # noqa: N802
        self, requests: AsyncIterator[pb.ImportModelRequest], call: PendingCall
    ) -> pb.ImportModelResponse:
        imports, coming = self._allowed(), _in_time(requests, asyncio.get_running_loop(), self._patience)
        added = await self._background.do(
            lambda: imports.add(to_upload(coming), to_parts(coming), CallDeadline(call)), call
        )
        return pb.ImportModelResponse(model=to_detail(added))

    def DeleteModel(self, request: pb.DeleteModelRequest, call: PendingCall) -> pb.DeleteModelResponse:  # noqa: N802
        self._allowed().delete(request.name, request.version)
        return pb.DeleteModelResponse()

    def _allowed(self) -> Imports:
        if self._imports is None:
            raise Unimplemented("callers may not change this server's models; --allow-import would let them")
        return self._imports


def _in_time(
    requests: AsyncIterator[pb.ImportModelRequest], loop: asyncio.AbstractEventLoop, seconds: float
) -> Iterator[pb.ImportModelRequest]:
    """The requests, for a background thread. Raises Dropped when a request does not arrive within this number of
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
