# SPDX-License-Identifier: Apache-2.0
"""Computes the operations that StartExplain has started, as Explain answers its requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from google.rpc import code_pb2

from lstm_explain.errors import Error
from lstm_explain.serving.audit.log import AuditLog
from lstm_explain.serving.audit.note import Origin, RequestNote
from lstm_explain.serving.errors import TooLate, status_of
from lstm_explain.serving.execution.batcher import Job
from lstm_explain.serving.execution.explainer import Explainer
from lstm_explain.serving.operations.claim import Claim
from lstm_explain.serving.scheduling.admission import PendingCall
from lstm_explain.serving.wire import from_answer, locate, to_query
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb

EVENT = "RunOperation"  # as the audit log names it, in place of an rpc


class ExplainWork:
    """audit: None where there is no audit log. Each attempt has a line in it, unless it is left to another process."""

    def __init__(self, explainer: Explainer, audit: AuditLog | None, most_seconds: float) -> None:
        self._explainer, self._audit, self._most_seconds = explainer, audit, most_seconds

    async def __call__(self, claim: Claim, call: PendingCall, progress: Callable[[int, int], None]) -> bytes:
        """Raises lstm_explain.Error, Damaged."""
        facts, data = claim.facts, await asyncio.to_thread(claim.request)
        request = pb.ExplainRequest.FromString(data)
        call.origin = Origin(facts.call_id, facts.caller, facts.subject, facts.peer, "operation")
        note, began, code = RequestNote(item=claim.id), time.perf_counter(), "OK"
        try:
            read = partial(to_query, request)
            return await self._explainer.answer(
                facts.model, facts.version, read, _encoded, call, len(data), note, progress
            )
        except Error as error:
            if isinstance(error, TooLate):  # there is no deadline
                error = too_long(self._most_seconds)
            error.field = locate(error.field, request)
            status = status_of(error, error.field)
            code, note.error = code_pb2.Code.Name(status.code), status.message
            raise error from None
        finally:
            if self._audit is not None:
                self._audit.request(EVENT, call.origin, note, code, time.perf_counter() - began)


def too_long(most_seconds: float) -> TooLate:
    """Returns the error of an attempt that has taken all of the time that it may take."""
    return TooLate(f"the work took longer than an operation may (--max-operation-seconds {most_seconds:g})")


def _encoded(job: Job) -> bytes:
    return from_answer(job).SerializeToString()
