# SPDX-License-Identifier: Apache-2.0
"""lstm_explain.v1.OperationService."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from google.rpc import code_pb2

from lstm_explain.errors import InputError
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.errors import Unimplemented
from lstm_explain.serving.operations.assembly import Keeping
from lstm_explain.serving.operations.entry import Damaged, Facts, Kind, Operation
from lstm_explain.serving.operations.messages import from_damage, from_operation, to_id
from lstm_explain.serving.scheduling.admission import Admission, ConcurrencyLimit, PendingCall
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.wire import to_query
from lstm_explain_proto.lstm_explain.v1 import operation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import operation_pb2_grpc
from lstm_explain_proto.lstm_explain.v1.explanation_pb2 import ExplainRequest

NOT_KEPT = "this server keeps no operations: it was started without --operations-folder"
NO_BATCHES = "this server runs no batch jobs: it was started without --batch-folder"
MAX_ID_LENGTH = 128
MAX_WAIT_SECONDS = 30.0
SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_ANSWER = 0.25  # before the deadline of a caller that waits

Checked = tuple[ServedModel, Callable[[], None]]  # the version that is to answer, and what charges the caller


class OperationServicer(operation_pb2_grpc.OperationServiceServicer):
    """Errors are raised as lstm_explain.Error; calls.Calls converts them to statuses.

    keeping: None where operations are not kept. waits: how many calls may wait at a time.
    """

    def __init__(
        self, keeping: Keeping | None, admission: Admission, waits: ConcurrencyLimit, background: BackgroundThreads
    ) -> None:
        self._keeping = keeping
        self._admission = admission
        self._waits = waits
        self._background = background

    async def StartExplain(  # noqa: N802
        self, request: pb.StartExplainRequest, call: PendingCall
    ) -> pb.StartExplainResponse:
        keeping, asked = self._kept(), request.request

        async def check(free: PendingCall) -> Checked:
            job = await keeping.explainer.check(asked.model, asked.version, partial(to_query, asked), free, call.note)

            def pay() -> None:
                call.permit.begin_request(asked.model)
                call.permit.pay(job.units)

            return job.served, pay

        return pb.StartExplainResponse(operation=await self._start("explain", asked, request.request_id, call, check))

    async def StartBatch(self, request: pb.StartBatchRequest, call: PendingCall) -> pb.StartBatchResponse:  # noqa: N802
        keeping = self._kept()
        batches = keeping.batches
        if batches is None:
            raise Unimplemented(NO_BATCHES)

        async def check(free: PendingCall) -> Checked:
            await self._background.do(partial(batches.check, request, call.permit.name), call)
            served = await keeping.explainer.selected(request.model, request.version, free, call.note)
            return served, partial(call.permit.begin_request, request.model)

        return pb.StartBatchResponse(operation=await self._start("batch", request, request.request_id, call, check))

    async def _start(
        self,
        kind: Kind,
        asked: ExplainRequest | pb.StartBatchRequest,
        request_id: str,
        call: PendingCall,
        check: Callable[[PendingCall], Awaitable[Checked]],
    ) -> pb.Operation:
        """Returns the operation that an earlier call with this id started, or a new one, once `check` allows it.

        check: receives a call that is not charged, because only an operation that is kept is charged, once.
        """
        keeping = self._kept()
        with self._admission.calls:
            call.note.name(asked.model, asked.version)
            call.permit.allow(asked.model)
            data = asked.SerializeToString(deterministic=True)
            facts = _facts(kind, asked.model, request_id, data, call)
            name = await self._background.do(partial(keeping.store.repeated, facts), call)
            if name is None:
                served, pay = await check(PendingCall(call.left(), call.origin, canary=call.canary))
                facts = replace(facts, version=str(served.version))
                name = await self._background.do(partial(keeping.store.add, facts, data, pay), call)
                keeping.runner.wake()
            return from_operation(await self._get(name, call))

    async def GetOperation(  # noqa: N802
        self, request: pb.GetOperationRequest, call: PendingCall
    ) -> pb.GetOperationResponse:
        return pb.GetOperationResponse(operation=await self._with_result(to_id(request.name), call))

    async def ListOperations(  # noqa: N802
        self, request: pb.ListOperationsRequest, call: PendingCall
    ) -> pb.ListOperationsResponse:
        found = await self._background.do(partial(self._kept().store.of, call.permit.name), call)
        return pb.ListOperationsResponse(operations=[from_operation(operation) for operation in found])

    async def WaitOperation(  # noqa: N802
        self, request: pb.WaitOperationRequest, call: PendingCall
    ) -> pb.WaitOperationResponse:
        store, name = self._kept().store, to_id(request.name)
        await self._get(name, call)
        with self._waits:
            end = time.monotonic() + min(request.timeout_ms / 1000 or MAX_WAIT_SECONDS, MAX_WAIT_SECONDS)
            if call.end is not None:
                end = min(end, call.end - SECONDS_TO_ANSWER)
            while not store.has_ended(name) and time.monotonic() < end:
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        return pb.WaitOperationResponse(operation=await self._with_result(name, call))

    async def CancelOperation(  # noqa: N802
        self, request: pb.CancelOperationRequest, call: PendingCall
    ) -> pb.CancelOperationResponse:
        keeping, operation = self._kept(), await self._get(to_id(request.name), call)
        if operation.end is None:
            await self._background.do(partial(keeping.store.request_cancel, operation), call)
            await keeping.runner.cancel(operation.id)
        return pb.CancelOperationResponse()

    async def DeleteOperation(  # noqa: N802
        self, request: pb.DeleteOperationRequest, call: PendingCall
    ) -> pb.DeleteOperationResponse:
        operation = await self._get(to_id(request.name), call)
        await self._background.do(partial(self._kept().store.delete, operation), call)
        return pb.DeleteOperationResponse()

    def _kept(self) -> Keeping:
        if self._keeping is None:
            raise Unimplemented(NOT_KEPT)
        return self._keeping

    async def _get(self, name: str, call: PendingCall) -> Operation:
        """Returns the caller's operation, and notes it for the audit log. Raises OperationNotFound."""
        call.note.item = name[:MAX_ID_LENGTH]
        operation = await self._background.do(partial(self._kept().store.get, name, call.permit.name), call)
        call.note.name(operation.facts.model, operation.facts.version)
        return operation

    async def _with_result(self, name: str, call: PendingCall) -> pb.Operation:
        operation, store = await self._get(name, call), self._kept().store

        def read() -> pb.Operation:
            if operation.end is None or operation.end.code != code_pb2.OK:
                return from_operation(operation)
            try:
                return from_operation(operation, store.result(operation))
            except Damaged as problem:
                return from_damage(operation, str(problem))

        return await self._background.do(read, call)


def _facts(kind: Kind, model: str, request_id: str, request: bytes, call: PendingCall) -> Facts:
    """Raises InputError."""
    if len(request_id) > MAX_ID_LENGTH:
        raise InputError(
            f"the request id has {len(request_id)} characters, at most {MAX_ID_LENGTH} are allowed", field="request_id"
        )
    origin, digest = call.origin, hashlib.sha256(request).hexdigest()
    return Facts(
        kind,
        call.permit.name,
        request_id,
        origin.request_id,
        origin.peer,
        origin.subject,
        model,
        "",
        digest,
        time.time(),
    )
