"""The calls that both gRPC services go through: an explanation, or a prediction only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lstm_explain.catalogue.limits import Limits, costs_of
from lstm_explain.catalogue.served import ServedModel
from lstm_explain.catalogue.together import Request
from lstm_explain.errors import InputError
from lstm_explain.inputs import check_inputs
from lstm_explain.model import Explanation
from lstm_explain.service import tracing
from lstm_explain.service.batches import Batches, Job, Load, Room
from lstm_explain.service.gate import Call, Slots
from lstm_explain.service.metrics import Metrics
from lstm_explain.service.runs import PREDICTION, Runs
from lstm_explain.service.tracing import Span
from lstm_explain.spec.method import Method
from lstm_explain.target import Target

Array = npt.NDArray[Any]
Message = TypeVar("Message")

_ALONE = (Room(1), Load(1))


@dataclass(frozen=True)
class Query:
    """What a caller wants of one model. Text inputs are object arrays of str; None stands for the model's default."""

    inputs: Mapping[str, Array]
    method: Method | None = None
    target: Target | None = None
    capture: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """tokens: by text input, the tokens in the shape of the input's relevance, as an object array of str."""

    served: ServedModel
    explanation: Explanation
    tokens: Mapping[str, Array]


@dataclass
class Item:
    """One request of a stream. code: the name of the status that it ended with."""

    code: str = "OK"


class Explainer:
    """Runs queries, as many at a time as there are slots; those of one kind together where that is allowed."""

    def __init__(self, slots: Slots, metrics: Metrics, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._batches = Batches(slots, Runs(metrics))
        self._metrics = metrics
        self._limits = limits

    def explain(self, served: ServedModel, query: Query, call: Call) -> Answer:
        """Raises lstm_explain.Error; TooLate or Dropped as soon as nobody waits any more."""
        inputs, tokens = read_text(served, query.inputs)
        method = query.method or served.default_method
        request = Request(inputs, method, query.target or served.default_target, query.capture)
        explanation: Explanation = self._done(served, request, call)
        self._metrics.explained(explanation)
        return Answer(served, explanation, tokens)

    def predict(self, served: ServedModel, inputs: Mapping[str, Array], call: Call) -> dict[str, Array]:
        """Every output by name. Raises what `explain` does."""
        arrays, _ = read_text(served, inputs)
        outputs: dict[str, Array] = self._done(served, Request(arrays), call)
        return outputs

    def encoded(self, encode: Callable[[Answer], Message], answer: Answer) -> Message:
        """The answer as the message that `encode` makes of it."""
        began = time.time_ns()
        message = encode(answer)
        ended = time.time_ns()
        self._metrics.parts["encode"].observe((ended - began) / 1e9)
        tracing.current().child("encode", began, ended)
        return message

    @contextmanager
    def item(self, rpc: str, stream: Span) -> Iterator[Item]:
        """Put around the work for one request of a stream, whose span is `stream`."""
        item, own = Item(), stream.begin("item")
        yield item
        self._metrics.items[rpc, item.code].inc()
        own.end(item.code)

    def _done(self, served: ServedModel, request: Request, call: Call) -> Any:
        """The answer, once there was a slot for it; within the limits, and with what is to be told of its way."""
        limits = self._limits.tightened(served.limits)
        limits.check(served.model, request.inputs, request.method)
        job = Job(served, request, call)
        room, load = _ALONE
        if served.together is not None and (kind := served.together.kind(request)) is not None:
            check_inputs(served.model.inputs, request.inputs)  # what is wrong in itself is told before it joins others
            job.kind, room, load = kind, _room(served, limits), _load(served, request)
        self._batches.do(job, room, load)
        self._metrics.waiting.observe(max(0, job.began - job.asked) / 1e9)
        span = tracing.current()
        if span is not tracing.NOTHING:
            _tell(job, span)
        if job.error is not None:
            raise job.error
        return job.answer


def _room(served: ServedModel, limits: Limits) -> Room:
    batching = served.config.batching
    assert batching is not None
    most = batching.max_batch if limits.batch is None else min(batching.max_batch, limits.batch)
    return Room(most, limits.costs, batching.max_delay_ms / 1e3)


def _load(served: ServedModel, request: Request) -> Load:
    assert served.together is not None
    samples = served.together.samples(request.inputs)
    return Load(samples, costs_of(served.model, request.inputs, request.method, samples))


def _tell(job: Job, span: Span) -> None:
    span.note("model", f"{job.served.name}/{job.served.version}")
    span.note("method", PREDICTION if job.request.method is None else job.request.method.name)
    span.child("queue", job.asked, job.began)
    for part, done in job.parts.items():
        seconds = round(done.seconds, 9)
        span.child(part, done.start, done.end, times=done.times, seconds=seconds, together=job.company)


def read_text(served: ServedModel, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs with ids in the place of text, and the tokens. Raises InputError."""
    arrays = dict(inputs)
    tokens: dict[str, Array] = {}
    for name, array in inputs.items():
        if array.dtype != np.dtype(object) or name not in served.model.inputs:
            continue
        text = served.text_inputs.get(name)
        if text is None:
            wanted = served.model.inputs[name].dtype
            raise InputError(
                f"input {name!r} takes {wanted}, text came and it has no tokenizer", field=f"inputs.{name}"
            )
        arrays[name], tokens[name] = text.encode(array)
    return arrays, tokens
