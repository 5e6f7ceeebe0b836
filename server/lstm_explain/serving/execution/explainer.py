"""The calls that both gRPC services go through: an explanation, or a prediction only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lstm_explain.cancellation import Cancelled, CancelScope, Deferred, cancel_scope
from lstm_explain.errors import InputError
from lstm_explain.inputs import check_inputs
from lstm_explain.methods import Method
from lstm_explain.model import Explanation
from lstm_explain.repository.batching import BatchableRequest
from lstm_explain.repository.request_limits import Limits, costs_of
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.execution.batcher import BatchCapacity, Batcher, Job, RequestLoad
from lstm_explain.serving.execution.engine_runs import PREDICTION, EngineRuns
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.models.quarantine import Quarantine
from lstm_explain.serving.observability import tracing
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.observability.tracing import Span
from lstm_explain.serving.scheduling.admission import PendingCall, Slots
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.scheduling.memory_trim import HEAVY, Housekeeping
from lstm_explain.serving.shared_board import SharedBoard
from lstm_explain.target import Target

Array = npt.NDArray[Any]
Message = TypeVar("Message")

# Bytes of a message that is read in next to no time, even if all is text; seconds of a run that is mostly Python.
SMALL_MESSAGE, SHORT_RUN = 1 << 14, 1e-3
SMALL_TEXT = 1 << 11  # bytes of a message whose text becomes tokens in next to no time

_ALONE = (BatchCapacity(1), RequestLoad(1))


@dataclass(frozen=True)
class ExplainQuery:
    """What a caller wants of one model. Text inputs are object arrays of str; None stands for the model's default."""

    inputs: Mapping[str, Array]
    method: Method | None = None
    target: Target | None = None
    capture: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExplainResult:
    """tokens: by text input, the tokens in the shape of the input's relevance, as an object array of str."""

    served: ServedModel
    explanation: Explanation
    tokens: Mapping[str, Array]


@dataclass
class Item:
    """One request of a stream. code: the name of the status that it ended with."""

    code: str = "OK"


class Explainer:
    """Runs queries, as many at a time as there are slots; those of one kind together where that is allowed.

    Short ones run in asyncio's loop: the interpreter runs one thread at a time, and threads that all want it take it
    from each other, which costs as much again as the work. The others, which would hold up the loop, run beside it.
    """

    def __init__(
        self,
        slots: Slots,
        metrics: Metrics,
        background: BackgroundThreads,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        housekeeping: Housekeeping | None = None,
        most_seconds: float | None = None,
        board: SharedBoard | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        """most_seconds: what a request may take once its work has begun."""
        self._slots = slots
        self._caution = quarantine or Quarantine()
        self._runs = EngineRuns(metrics, board or SharedBoard())
        self._batches = Batcher(self._runs)
        self._metrics = metrics
        self._beside = background
        self._limits = limits
        self._housekeeping = housekeeping or Housekeeping()
        self._most_seconds = most_seconds

    async def found(self, repository: ModelManager, name: str, version: str, call: PendingCall) -> ServedModel:
        """The model to answer with. Raises NotFound, NotReady."""
        served = repository.at_hand(name, version)
        if served is None:
            served = await self._beside.do(lambda: repository.ready(name, version), call)
        return served

    async def explain(
        self,
        served: ServedModel,
        read: Callable[[], ExplainQuery],
        write: Callable[[ExplainResult], Message],
        call: PendingCall,
        size: int,
    ) -> Message:
        """What `write` makes of the answer to what `read` gives. size: bytes of the request's message.

        Raises lstm_explain.Error, what `read` raises too; TooLate or Dropped as soon as nobody waits any more.
        """
        tokens: dict[str, Array] = {}

        def request() -> BatchableRequest:
            query = read()
            inputs = read_text(served, query.inputs, tokens, self._limits)
            method = query.method or served.default_method
            return BatchableRequest(inputs, method, query.target or served.default_target, query.capture)

        def message(explanation: Explanation) -> Message:
            self._metrics.explained(explanation)
            began = time.time_ns()
            written = write(ExplainResult(served, explanation, tokens))
            ended = time.time_ns()
            self._metrics.parts["encode"].observe((ended - began) / 1e9)
            tracing.current().child("encode", began, ended)
            return written

        return await self._do(Job(served, call, self._most_seconds), request, message, call, size)

    async def predict(
        self,
        served: ServedModel,
        read: Callable[[], Mapping[str, Array]],
        write: Callable[[dict[str, Array]], Message],
        call: PendingCall,
        size: int,
    ) -> Message:
        """The same of every output by name, from inputs."""
        job = Job(served, call, self._most_seconds)
        return await self._do(
            job, lambda: BatchableRequest(read_text(served, read(), {}, self._limits)), write, call, size
        )

    @contextmanager
    def item(self, rpc: str, stream: Span) -> Iterator[Item]:
        """Put around the work for one request of a stream, whose span is `stream`."""
        item, own = Item(), stream.begin("item")
        yield item
        self._metrics.items[rpc, item.code].inc()
        own.end(item.code)

    async def _do(
        self,
        job: Job,
        read: Callable[[], BatchableRequest],
        write: Callable[[Any], Message],
        call: PendingCall,
        size: int,
    ) -> Message:
        """What a request takes, from reading it to writing the answer."""
        if job.served.tag in self._caution.marked:
            async with self._caution.turn(job.served.tag, call):
                return await self._done(job, read, write, call, size)
        return await self._done(job, read, write, call, size)

    async def _done(
        self,
        job: Job,
        read: Callable[[], BatchableRequest],
        write: Callable[[Any], Message],
        call: PendingCall,
        size: int,
    ) -> Message:
        if size > _most_in_the_loop(job.served):
            return await self._beside.do(lambda: self._in_turn(job, self._begun_beside(job, read), write), call)
        try:
            company = self._begun(job, read, brief=True)
        except Deferred:
            return await self._beside.do(lambda: self._in_turn(job, self._begun_beside(job, read), write), call)
        if not (job.short and job.kind is None and self._slots.take(0.0)):
            return await self._beside.do(lambda: self._in_turn(job, company, write), call)
        try:
            job.deadline.begin()
            job.began = time.time_ns()
            self._runs.brief(job)
        except Deferred:  # compiles, or is repeated in float64
            pass
        finally:
            self._slots.give_back()
        if job.settled:
            return write(self._told(job))
        return await self._beside.do(lambda: self._in_turn(job, company, write), call)

    def _begun_beside(self, job: Job, read: Callable[[], BatchableRequest]) -> tuple[BatchCapacity, RequestLoad]:
        """`_begun`, of a message that may take long to read: a text in particular."""
        try:
            job.deadline.begin()
            with cancel_scope(CancelScope(job.deadline, about=job.about, compiled=job.deadline.extend)):
                return self._begun(job, read)
        except Cancelled as stopped:
            raise stopped.cause from None
        finally:
            job.deadline.pause()

    def _begun(
        self, job: Job, read: Callable[[], BatchableRequest], *, brief: bool = False
    ) -> tuple[BatchCapacity, RequestLoad]:
        """Reads the request and finds out how long it may take, and in which company.

        Those that are short take turns anyway, and are in a batch only where the model's owner lets them wait for it.
        brief: raises Deferred where finding out takes long.
        """
        request = job.request = read()
        limits = self._limits.tightened(job.served.limits)
        job.units, size = limits.check(job.served.model, request.inputs, request.method, brief=brief)
        job.heavy = size > HEAVY or not job.served.model.steady
        job.most_bytes, job.most_samples = limits.bytes_estimate, limits.samples
        # What is to be captured is prepared for anew each time that it is something else.
        usual = job.served.model.steady and not request.capture
        job.short = usual and job.served.latency.seconds(request.method, job.units) < SHORT_RUN
        return _ALONE if job.short and not _waits(job.served) else self._kind(job, limits)

    def _in_turn(
        self, job: Job, company: tuple[BatchCapacity, RequestLoad], write: Callable[[Any], Message]
    ) -> Message:
        """The rest, when there is a slot for it."""
        try:
            self._batches.do(job, *company, self._slots)
            return write(self._told(job))
        finally:
            if job.heavy:
                self._housekeeping.much_was_used()

    def _kind(self, job: Job, limits: Limits) -> tuple[BatchCapacity, RequestLoad]:
        """Finds out whether others may run with it."""
        served, request = job.served, job.request
        if served.request_batching is None or (kind := served.request_batching.kind(request)) is None:
            return _ALONE
        check_inputs(served.model.inputs, request.inputs)  # what is wrong in itself is told before it joins others
        job.kind = kind
        return _room(served, limits), _load(served, request)

    def _told(self, job: Job) -> Any:
        """The answer, once what is to be told of its way is told."""
        self._metrics.waiting.observe(max(0, job.began - job.asked) / 1e9)
        span = tracing.current()
        if span is not tracing.NOTHING:
            _tell(job, span)
        if job.error is not None:
            raise job.error
        return job.answer


def _most_in_the_loop(served: ServedModel) -> int:
    """Bytes of the largest message that is read in the event loop: less where it may hold text, which takes longer."""
    if not served.text_inputs:
        return SMALL_MESSAGE
    return SMALL_TEXT if all(text.quick for text in served.text_inputs.values()) else -1


def _waits(served: ServedModel) -> bool:
    return served.config.batching is not None and served.config.batching.max_delay_ms > 0


def _room(served: ServedModel, limits: Limits) -> BatchCapacity:
    batching = served.config.batching
    assert batching is not None
    most = batching.max_batch if limits.batch is None else min(batching.max_batch, limits.batch)
    return BatchCapacity(most, limits.costs, batching.max_delay_ms / 1e3)


def _load(served: ServedModel, request: BatchableRequest) -> RequestLoad:
    assert served.request_batching is not None
    samples = served.request_batching.samples(request.inputs)
    return RequestLoad(samples, costs_of(served.model, request.inputs, request.method, samples))


def _tell(job: Job, span: Span) -> None:
    span.note("model", f"{job.served.name}/{job.served.version}")
    span.note("method", PREDICTION if job.request.method is None else job.request.method.name)
    span.child("queue", job.asked, job.began)
    for part, done in job.parts.items():
        seconds = round(done.seconds, 9)
        span.child(part, done.start, done.end, times=done.times, seconds=seconds, request_batching=job.company)


def read_text(
    served: ServedModel, inputs: Mapping[str, Array], tokens: dict[str, Array], limits: Limits
) -> dict[str, Array]:
    """Inputs with ids in the place of text, whose tokens are put into `tokens`. limits: the server's.

    Raises InputError.
    """
    arrays = dict(inputs)
    for name, array in inputs.items():
        if array.dtype != np.dtype(object) or name not in served.model.inputs:
            continue
        text = served.text_inputs.get(name)
        if text is None:
            wanted = served.model.inputs[name].dtype
            raise InputError(
                f"input {name!r} takes {wanted}, text came and it has no tokenizer", field=f"inputs.{name}"
            )
        arrays[name], tokens[name] = text.encode(array, limits.tightened(text.limits))
    return arrays
