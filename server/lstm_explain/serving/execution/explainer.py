# SPDX-License-Identifier: Apache-2.0
"""Answers the requests of both gRPC services: explanations, and predictions without explanation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TypeVar

from google.rpc import code_pb2, status_pb2

from lstm_explain.cancellation import Cancelled, CancelScope, Deferred, cancel_scope
from lstm_explain.errors import CostError
from lstm_explain.inputs import check_inputs
from lstm_explain.progress import Report
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.request_limits import Limits, costs_of
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.audit.log import AuditLog
from lstm_explain.serving.audit.note import RequestNote
from lstm_explain.serving.drift.monitor import DriftMonitor
from lstm_explain.serving.errors import NoReceiptKey, refusal_of
from lstm_explain.serving.execution.batcher import BatchCapacity, Batcher, Job, RequestLoad, slot_for
from lstm_explain.serving.execution.engine_runs import PREDICTION, EngineRuns
from lstm_explain.serving.execution.inputs_of_requests import find_groups_of, read_text
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.models.quarantine import Quarantine
from lstm_explain.serving.observability import tracing
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.observability.tracing import Span
from lstm_explain.serving.scheduling.admission import PendingCall, Slots
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.scheduling.memory_trim import HEAVY, MemoryTrimmer
from lstm_explain.serving.shared_board import SharedBoard

Message = TypeVar("Message")

# Bytes of a message that takes very little time to read, even if all of it is text; seconds of a run that is mostly
# Python.
SMALL_MESSAGE, SHORT_RUN = 1 << 14, 1e-3
SMALL_TEXT = 1 << 11  # bytes of a message whose text takes very little time to tokenise

NO_TURN = nullcontext()


class Item:
    """One request of a stream. code: the name of the status that it ended with. note: for the audit log."""

    def __init__(self, note: RequestNote, metrics: Metrics) -> None:
        self.note, self.code = note, "OK"
        self._metrics = metrics

    def fail(self, error: Exception, status: status_pb2.Status) -> None:
        """Notes that the caller receives this status because of the error."""
        self.code, self.note.error = code_pb2.Code.Name(status.code), status.message
        if why := refusal_of(error):
            self._metrics.refusals[why,].inc()


class Explainer:
    """Answers as many requests at a time as there are slots, and requests with the same batch key together where that
    is allowed.

    Short requests run in asyncio's loop. The interpreter runs one thread at a time, and passing it between threads
    would cost as much as the work itself. All others would block the loop, so they run in background threads.
    """

    def __init__(
        self,
        models: ModelManager,
        slots: Slots,
        metrics: Metrics,
        background: BackgroundThreads,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        memory_trimmer: MemoryTrimmer | None = None,
        most_seconds: float | None = None,
        board: SharedBoard | None = None,
        quarantine: Quarantine | None = None,
        audit: AuditLog | None = None,
        receipt_of: Callable[[Job], str] | None = None,
        drift: DriftMonitor | None = None,
        most_samples_later: int = 0,
        own_samples: bool = False,
    ) -> None:
        """most_seconds: the most time that a request may take once its work has begun. audit: None where there is no
        audit log. receipt_of: signs the receipt of an answered job; None where there is no key. drift: None where it is
        not measured. most_samples_later: on how many samples an operation may run the model, which a request with more
        samples than `limits` allows is told of; 0 where there are no operations. own_samples: whether `limits.samples`
        also holds for models whose owner allows requests fewer.
        """
        self._models = models
        self._slots = slots
        self._quarantine = quarantine or Quarantine()
        self._runs = EngineRuns(metrics, board or SharedBoard())
        self._batcher = Batcher(self._runs)
        self._metrics = metrics
        self._background = background
        self._limits = limits
        self._memory_trimmer = memory_trimmer or MemoryTrimmer()
        self._most_seconds = most_seconds
        self._audit = audit
        self._receipt_of = receipt_of
        self._drift = drift
        self._most_samples_later = most_samples_later
        self._own_samples = own_samples

    async def answer(
        self,
        model: str,
        version: str,
        read: Callable[[ServedModel], ModelRequest],
        write: Callable[[Job], Message],
        call: PendingCall,
        size: int,
        note: RequestNote,
        progress: Report | None = None,
    ) -> Message:
        """Runs the request that `read` returns, and returns the response that `write` builds from its job: an
        explanation or a prediction.

        size: bytes of the request's message. note: receives what the audit log says of the request. progress: receives
        the progress of the run, in its thread. Raises lstm_explain.Error, including the errors of `read`: NotFound and
        NotReady, and TooLate or Dropped as soon as nobody waits for the answer.
        """
        served = await self.selected(model, version, call, note)
        job, marked = Job(served, call, note, self._most_seconds, progress), served.tag in self._quarantine.marked
        async with self._quarantine.turn(served.tag, call) if marked else NO_TURN:
            try:
                if size <= _most_in_the_loop(served) and self._done_in_the_loop(job, read):
                    return self._written(job, write)
                return await self._background.do(partial(self._in_turn, job, read, write), call)
            except CostError as error:
                raise self._with_advice(error) from None

    async def check(
        self,
        model: str,
        version: str,
        read: Callable[[ServedModel], ModelRequest],
        call: PendingCall,
        note: RequestNote,
    ) -> Job:
        """Reads a request and checks it against the limits, without running it. Its permit pays for it as for any other
        request. Raises what `answer` raises before the work begins.
        """
        served = await self.selected(model, version, call, note)
        job = Job(served, call, note, self._most_seconds)

        def check() -> None:
            self._read_in_background(job, read)
            check_inputs(served.model.inputs, job.request.inputs)

        await self._background.do(check, call)
        return job

    async def selected(self, model: str, version: str, call: PendingCall, note: RequestNote) -> ServedModel:
        """Returns the version that answers. Raises NotFound, NotReady, ModelForbidden, OverQuota, Unauthenticated."""
        note.name(model, version)
        call.permit.begin_request(model)
        if not version:
            key = f"{model}\0{call.origin.request_id}\0{note.item}"
            version = self._models.snapshot.routed(model, key, call.canary)
        served = self._models.cached(model, version)
        if served is None:
            served = await self._background.do(partial(self._models.ready, model, version), call)
        note.answered_by(served)
        return served

    def _with_advice(self, error: CostError) -> CostError:
        """Returns the error, which says that an operation would be allowed where that is so."""
        if error.samples > self._most_samples_later:
            return error
        advice = f"StartExplain computes it as an operation, which may take {self._most_samples_later}"
        return CostError(f"{error}; {advice}", error.samples)

    @contextmanager
    def item(self, rpc: str, stream: Span, call: PendingCall, item_id: str) -> Iterator[Item]:
        """A context for the work on one request of a stream, whose span is `stream`."""
        item, own, began = Item(RequestNote(item=item_id), self._metrics), stream.begin("item"), time.perf_counter()
        try:
            yield item
        except asyncio.CancelledError:  # the stream has ended
            item.code = "CANCELLED"
            raise
        finally:
            self._metrics.items[rpc, item.code].inc()
            own.end(item.code)
            seconds = time.perf_counter() - began
            if item.note.digest:
                self._metrics.answered(item.note.model, item.note.version, item.code, seconds)
            if self._audit is not None:
                self._audit.request(rpc, call.origin, item.note, item.code, seconds)

    def _done_in_the_loop(self, job: Job, read: Callable[[ServedModel], ModelRequest]) -> bool:
        """Answers the job at once if it is short and there is a slot for it. Returns whether it did."""
        try:
            self._read(job, read, brief=True)
            if not job.short or job.key is not None or not self._slots.acquire(0.0):
                return False
            try:
                job.deadline.begin()
                job.began = time.time_ns()
                self._runs.alone(job, brief=True)
            finally:
                self._slots.release()
        except Deferred:  # it takes longer, because it compiles or is repeated in float64
            return False
        return True

    def _in_turn(
        self, job: Job, read: Callable[[ServedModel], ModelRequest], write: Callable[[Job], Message]
    ) -> Message:
        """Answers the job when there is a slot for it."""
        try:
            if not job.is_read:
                self._read_in_background(job, read)
            if job.key is not None:
                self._batcher.do(job, self._slots)
            else:
                with slot_for(job, self._slots) as may_run:
                    if may_run:
                        self._runs.alone(job)
            return self._written(job, write)
        finally:
            if job.heavy:
                self._memory_trimmer.after_heavy_request()

    def _read_in_background(self, job: Job, read: Callable[[ServedModel], ModelRequest]) -> None:
        """`_read`, for a message that may take long to read, such as text."""
        try:
            job.deadline.begin()
            with cancel_scope(CancelScope(job.deadline, describe=job.about, on_compiled=job.deadline.extend)):
                self._read(job, read)
        except Cancelled as stopped:
            raise stopped.cause from None
        finally:
            job.deadline.pause()

    def _read(self, job: Job, read: Callable[[ServedModel], ModelRequest], *, brief: bool = False) -> None:
        """Reads the request and determines how long it may take, and whether others may run with it.

        Short requests run one after the other anyway, so they join a batch only where the model's owner allows a delay.
        brief: raises Deferred where this decision takes long.
        """
        served = job.served
        request = job.request = job.note.request = read(served)
        if request.receipt and self._receipt_of is None:
            raise NoReceiptKey("this server signs no receipts: it was started without --receipt-key", field="receipt")
        read_text(served, request, self._limits)
        limits = self._limits.tightened(served.limits)
        if self._own_samples:
            limits = replace(limits, samples=self._limits.samples)
        if request.groups is not None:
            limits.check(served.model, request.inputs, None)  # finding groups takes time in proportion to the inputs
            find_groups_of(served, request)
        job.units, size = limits.check(
            served.model, request.inputs, request.method, request.targets, brief=brief, groups=request.group_counts
        )
        job.heavy = size > HEAVY or not served.model.steady
        job.most_bytes, job.most_samples, job.most_targets = limits.bytes_estimate, limits.samples, limits.targets
        # A different set of captured values needs a new plan; a measure needs a model, or the search for a path.
        plain = not request.capture and not request.through and request.target.measure is None
        usual = served.model.steady and plain
        job.short = usual and served.latency.seconds(request.method, job.units) < SHORT_RUN
        if not job.short or _waits(served):
            self._find_key(job, limits)
        job.permit.pay(job.units)
        job.is_read = True

    def _find_key(self, job: Job, limits: Limits) -> None:
        """Finds out which others may run with it."""
        served, request, batching = job.served, job.request, job.served.request_batching
        if request.receipt:  # a verifier computes the answer alone, too
            return
        if batching is None or (key := batching.key(request)) is None:
            return
        check_inputs(served.model.inputs, request.inputs)  # an invalid request is refused before it joins others
        job.key, job.capacity = key, _capacity(served, limits)
        samples = batching.samples(request.inputs)
        job.load = RequestLoad(samples, costs_of(served.model, request.inputs, request.method, samples))

    def _written(self, job: Job, write: Callable[[Job], Message]) -> Message:
        """Returns the message with the answer, after the metrics and the span have recorded the run."""
        self._metrics.waiting.observe(max(0, job.began - job.asked) / 1e9)
        span = tracing.current()
        if span is not tracing.NOTHING:
            _trace(job, span)
        if job.error is not None:
            raise job.error
        if job.request.method is None:
            return write(job)
        answers = job.answer if job.request.targets else [job.answer]
        job.note.answered(answers)
        for explanation in answers:
            self._metrics.explained(explanation)
        if self._drift is not None and not job.request.targets:
            self._drift.explained(job.served, job.request, job.answer)
        if job.request.receipt and self._receipt_of is not None:
            job.receipt = self._receipt_of(job)
        began = time.time_ns()
        written = write(job)
        ended = time.time_ns()
        self._metrics.parts["encode"].observe((ended - began) / 1e9)
        span.child("encode", began, ended)
        return written


def _most_in_the_loop(served: ServedModel) -> int:
    """Returns the largest message, in bytes, that is read in the event loop. The limit is lower for messages that may
    hold text, which takes longer.
    """
    if not served.text_inputs:
        return SMALL_MESSAGE
    return SMALL_TEXT if all(text.quick for text in served.text_inputs.values()) else -1


def _waits(served: ServedModel) -> bool:
    return served.config.batching is not None and served.config.batching.max_delay_ms > 0


def _capacity(served: ServedModel, limits: Limits) -> BatchCapacity:
    batching = served.config.batching
    assert batching is not None
    most = batching.max_batch if limits.batch is None else min(batching.max_batch, limits.batch)
    return BatchCapacity(most, limits.costs, batching.max_delay_ms / 1e3)


def _trace(job: Job, span: Span) -> None:
    span.note("model", f"{job.served.name}/{job.served.version}")
    span.note("method", PREDICTION if job.request.method is None else job.request.method.name)
    span.child("queue", job.asked, job.began)
    for part, done in job.parts.items():
        seconds = round(done.seconds, 9)
        span.child(part, done.start, done.end, times=done.times, seconds=seconds, together=job.company)
