# SPDX-License-Identifier: Apache-2.0
"""Runs a model on many changed inputs: its axes, cached sessions, scores of variants, and results with a ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort

from lstm_explain.cancellation import FORWARD, may_take_long
from lstm_explain.errors import InputError, UnsupportedOperator
from lstm_explain.graph.ir import Array, Graph
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.session import run_session, runtime_message, session_of
from lstm_explain.methods import Gradient
from lstm_explain.operators import BatchLayout
from lstm_explain.program.axes import Axes, find_axes
from lstm_explain.program.engine import Engine
from lstm_explain.program.head import Head
from lstm_explain.program.prediction import Prediction, recurrent_nodes
from lstm_explain.program.reachability import live_values, path
from lstm_explain.runner.embedding_inputs import EmbeddingInputs, with_embedding_inputs
from lstm_explain.target import Target

T = TypeVar("T")


class ModelRunner:
    """Belongs to one model and is kept with it. Safe to call from several threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.axes: dict[str, Axes] = find_axes(engine.graph)
        self.padding: dict[str, float] = {}
        self._lock = threading.Lock()
        self._cache: dict[tuple[object, ...], Any] = {}
        self.stackable: dict[tuple[object, ...], bool] = {}
        self.layouts: dict[tuple[object, ...], dict[str, BatchLayout]] = {}
        self.pass_bytes: dict[tuple[object, ...], int] = {}

    def cached(self, compute: Callable[..., T], *arguments: Hashable) -> T:
        """Returns compute(*arguments), which must depend on the arguments only; cached unless it raises."""
        key = (compute, *arguments)
        with self._lock:
            if key not in self._cache:
                may_take_long()
                self._cache[key] = compute(*arguments)
            known: T = self._cache[key]
            return known

    def embedding_inputs(self, value: str) -> EmbeddingInputs:
        return self.cached(with_embedding_inputs, self.engine, value)

    def reachable(self, value: str) -> list[str]:
        """Returns the inputs that `value` depends on through more than a length or a comparison, by any operators."""
        return self.cached(_reachable, self.engine.graph, value)

    def prediction(self, head: Head) -> Prediction | None:
        """Returns what predicts copies that begin alike; None where the model has no recurrent node for that."""
        return self.cached(_prediction_of, self.engine, head)

    def predict(self, inputs: Mapping[str, Array], head: Head) -> dict[str, Array]:
        """Returns every output and the explained value, by ONNX Runtime or else by our own plan. Raises InputError."""
        session = self.cached(_session_of, self.engine, head)
        if session is None:
            return self.engine.program(head, Gradient()).forward(inputs).values
        names = [o.name for o in session.get_outputs()]
        try:
            with FORWARD:
                feeds = {i.name: np.asarray(inputs[i.name]) for i in session.get_inputs()}
                values = run_session(session, names, feeds)
        except Exception as error:  # ONNX Runtime's exception types are not public
            raise InputError(f"the model cannot run on these inputs: {runtime_message(error)}") from error
        return {**inputs, **dict(zip(names, values, strict=True))}


def _reachable(graph: Graph, value: str) -> list[str]:
    backward_nodes = path(graph, live_values(graph, graph.inputs), [value], strict=False)
    read = {s.node.inputs[i] for s in backward_nodes for i in s.live} | {
        name for s in backward_nodes for name in s.captured
    }
    return [name for name in graph.inputs if name in read]


def _prediction_of(engine: Engine, head: Head) -> Prediction | None:
    if not recurrent_nodes(engine, head):
        return None
    try:
        return Prediction(engine, head)
    except Exception:  # As in `_session_of`: what cannot run in parts may run as a whole.
        return None


def _session_of(engine: Engine, head: Head) -> ort.InferenceSession | None:
    """Returns a session over the whole graph that also outputs the explained value; None where ONNX Runtime cannot run
    it.
    """
    graph, shapes = engine.graph, head.keep(engine.graph)
    if not engine.runtime_runs:
        return None
    if any(cell.node.op == "RNN" for cell in engine.cells.values()) and _can_run(engine, head):
        return None  # ONNX Runtime's RNN adds in another order where the batch has one sample.
    outputs = tuple(dict.fromkeys([*graph.outputs, head.value, *shapes]))
    nodes = [*graph.nodes, *(make("Shape", [n.removesuffix("::shape")], [n], 13) for n in shapes)]
    read = {name for n in nodes for name in (*n.inputs, *n.captured)} | set(outputs)
    try:
        return session_of(graph, nodes, [name for name in graph.inputs if name in read], outputs)
    except Exception:  # ONNX Runtime may lack a kernel for a type; if our plan cannot run it either, that is reported.
        return None


def _can_run(engine: Engine, head: Head) -> bool:
    """Returns whether our own plan can run the graph."""
    try:
        engine.program(head, Gradient())
    except UnsupportedOperator:
        return False
    return True


@dataclass(frozen=True)
class ExplainTask:
    """One question: the arguments of `explain`, with checked inputs.

    context_size: the number of samples in the inputs where only one of them is explained, as if all were one sample.
    groups: by input, the group of each entry, in the input's shape; empty where the question has no groups.
    """

    runner: ModelRunner
    inputs: dict[str, Array]
    output: str
    head: Head
    target: Target
    context_size: int = 1
    groups: Mapping[str, Array] = field(default_factory=dict)
