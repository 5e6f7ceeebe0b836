"""The calls that both gRPC services go through: an explanation, or a prediction only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError
from lstm_explain.methods.spec import Method
from lstm_explain.model import Explanation
from lstm_explain.service.gate import Call, Slots
from lstm_explain.service.metrics import Metrics
from lstm_explain.service.served import ServedModel
from lstm_explain.target import Target

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


class Explainer:
    """Runs queries, as many at a time as there are slots."""

    def __init__(self, slots: Slots, metrics: Metrics) -> None:
        self._slots = slots
        self._metrics = metrics

    def explain(self, served: ServedModel, query: Query, call: Call) -> Answer:
        """Raises lstm_explain.Error; TooLate or Dropped if nobody waits any more when its turn comes."""
        inputs, tokens = read_text(served, query.inputs)
        method = query.method or served.default_method
        asked = time.perf_counter()
        with self._slots.slot(call):
            self._metrics.waiting.observe(time.perf_counter() - asked)
            with self._metrics.engine_time(served.name, method.name):
                explanation = served.model.explain(
                    inputs, method=method, target=query.target or served.default_target, capture=query.capture
                )
        self._metrics.explained(explanation)
        return Answer(served, explanation, tokens)

    def predict(self, served: ServedModel, inputs: Mapping[str, Array], call: Call) -> dict[str, Array]:
        """Every output by name. Raises what `explain` does."""
        arrays, _ = read_text(served, inputs)
        asked = time.perf_counter()
        with self._slots.slot(call):
            self._metrics.waiting.observe(time.perf_counter() - asked)
            with self._metrics.engine_time(served.name, PREDICTION):
                return served.model.predict(arrays)


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
