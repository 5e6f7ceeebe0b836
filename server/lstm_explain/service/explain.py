"""The calls that both gRPC services go through: an explanation, or a prediction only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError
from lstm_explain.methods.spec import Method
from lstm_explain.model import Explanation
from lstm_explain.service import tracing
from lstm_explain.service.gate import Call, Patience, Slots
from lstm_explain.service.limits import Limits
from lstm_explain.service.metrics import Metrics
from lstm_explain.service.served import ServedModel
from lstm_explain.service.tracing import Span
from lstm_explain.target import Target
from lstm_explain.watch import Stopped, Watch, part, watching

Array = npt.NDArray[Any]

PREDICTION = "predict"  # beside the methods' names in the metrics


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
    """Runs queries, as many at a time as there are slots."""

    def __init__(self, slots: Slots, metrics: Metrics, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._slots = slots
        self._metrics = metrics
        self._limits = limits

    def explain(self, served: ServedModel, query: Query, call: Call) -> Answer:
        """Raises lstm_explain.Error; TooLate or Dropped as soon as nobody waits any more."""
        inputs, tokens = read_text(served, query.inputs)
        method = query.method or served.default_method
        with self._turn(served, inputs, method, call):
            explanation = served.model.explain(
                inputs, method=method, target=query.target or served.default_target, capture=query.capture
            )
        self._metrics.explained(explanation)
        return Answer(served, explanation, tokens)

    def predict(self, served: ServedModel, inputs: Mapping[str, Array], call: Call) -> dict[str, Array]:
        """Every output by name. Raises what `explain` does."""
        arrays, _ = read_text(served, inputs)
        with self._turn(served, arrays, None, call):
            return part("forward")(served.model.predict)(arrays)

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Put around what makes a message of an answer."""
        began = time.time_ns()
        yield
        ended = time.time_ns()
        self._metrics.parts["encode"].observe((ended - began) / 1e9)
        tracing.current().child("encode", began, ended)

    @contextmanager
    def item(self, rpc: str, stream: Span) -> Iterator[Item]:
        """Put around the work for one request of a stream, whose span is `stream`."""
        item, own = Item(), stream.begin("item")
        yield item
        self._metrics.items.labels(rpc, item.code).inc()
        own.end(item.code)

    @contextmanager
    def _turn(
        self, served: ServedModel, inputs: Mapping[str, Array], method: Method | None, call: Call
    ) -> Iterator[None]:
        """Within the limits, waits for a slot; the engine then stops between its steps where patience ends."""
        self._limits.tightened(served.config.limits.limits()).check(served.model, inputs, method)
        name = PREDICTION if method is None else method.name
        asked, span = time.time_ns(), tracing.current()
        span.note("model", f"{served.name}/{served.version}")
        span.note("method", name)
        with self._slots.slot(call):
            began = time.time_ns()
            self._metrics.waiting.observe(max(0, began - asked) / 1e9)
            span.child("queue", asked, began)
            watch = Watch(Patience(call))
            try:
                with self._metrics.engine_time(served.name, name), watching(watch):
                    yield
            except Stopped as stopped:
                raise stopped.cause from None
            finally:
                for kind, done in watch.parts.items():
                    self._metrics.parts[kind].observe(done.seconds)
                    span.child(kind, done.start, done.end, times=done.times, seconds=done.seconds)


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
