# SPDX-License-Identifier: Apache-2.0
"""Estimates the memory of an explanation before it runs, by extrapolating from explanations of small inputs.

What a pass keeps depends on the model's graph: arrays of T × T for self-attention, a few numbers per unit and step for
an LSTM. The engine therefore explains made-up inputs of small extents, with each symbolic extent doubled in turn. Every
array that is held at the end yields a law: constant, linear or quadratic in each extent. Their sum predicts the memory
for other extents.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_explain.cancellation import checkpoint
from lstm_explain.errors import InputError
from lstm_explain.graph.session import run_session, session_of
from lstm_explain.growth_law import Law, law_of, total
from lstm_explain.inputs import TensorSpec, probe_inputs
from lstm_explain.kernels.compilation import was_without
from lstm_explain.methods import Method
from lstm_explain.operators import TABLE, Kind, Trait
from lstm_explain.operators.tape import Tape
from lstm_explain.program.axes import Axes
from lstm_explain.program.engine import Engine, in_float64
from lstm_explain.program.head import Head
from lstm_explain.program.passes import ForwardPass, Iterations, Stacked, bytes_of
from lstm_explain.program.precision import Precision
from lstm_explain.program.propagation import walked_back
from lstm_explain.target import Target, select

Array = npt.NDArray[Any]
Extents = dict[str, int]
Sizes = dict[str, int]

# Extents to try first, in this order: some models accept no sequence shorter than their kernels and pools.
FIRST_EXTENTS = (16, 64, 256)
# Temporary arrays of a node's backward step, in units of its output's size, by kind of operator. Measured.
TEMPORARY = {
    Kind.SUM: 3.0,
    Kind.MAP: 3.0,
    Kind.PRODUCT: 4.0,
    Kind.LOOKUP: 1.0,
    Kind.SCALE: 1.0,
    Kind.ACTIVATION: 2.0,
    Kind.WEIGHTS: 3.5,
    Kind.FIRST_ORDER: 4.0,
}
TEMPORARY_OF_GRADIENTS = {Kind.ACTIVATION: 1.0, Kind.LOOKUP: 1.0}
OF_LOOPS = 1.0  # the same for a loop whose iterations run at once, in units of what these save
# The same for a recurrent node whose kernels are not compiled yet, in units of its hidden states' size. Measured: 30 to
# 54 for an LSTM.
WITHOUT_KERNELS = 50.0
SECONDS_BETWEEN_MEASUREMENTS = 10.0  # of a model whose kernels are not compiled yet
SECONDS_BETWEEN_CHECKS = 0.05  # while another request measures the model
MAX_CACHED = 4096  # estimates, by extents


# --- memory that is held until the end ---------------------------------------------------------------------------


class Holdings:
    """Bytes of the arrays that are held, by name. Arrays that share memory count once."""

    def __init__(self) -> None:
        self.sizes: Sizes = {}
        self._seen: dict[int, Array] = {}

    def add(self, name: str, held: object) -> None:
        if isinstance(held, np.ndarray):
            owner = held
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            if id(owner) not in self._seen:
                self._seen[id(owner)] = owner
                self.sizes[name] = self.sizes.get(name, 0) + owner.nbytes
        elif isinstance(held, Mapping):
            for key, value in held.items():
                self.add(f"{name} {key}", value)
        elif isinstance(held, (list, tuple)):
            for value in held:
                self.add(name, value)
        elif isinstance(held, (ForwardPass, Stacked, Tape)):
            self.add(name, vars(held))
        elif isinstance(held, Iterations):
            self.add(name, held.given)


def _held(engine: Engine, head: Head, output: str, method: Method, inputs: Mapping[str, Array], double: bool) -> Sizes:
    """Returns the bytes that an explanation holds when it is done."""
    program, since = engine.program(head, method), time.time_ns()
    done = program.forward(in_float64(inputs) if double else inputs)
    # One backward pass serves all samples: which of them is explained does not change what is kept.
    back = walked_back(program, done, select(Target(), done.values[output], output))
    holdings = Holdings()
    holdings.add("", [inputs[name] for name in inputs])  # the caller holds these
    holdings.sizes.clear()
    holdings.add("kept", done)
    for name, message in back.messages.items():
        holdings.add(f"message {name}", [message.relevance, message.density, message.amount])
    passing, without = {}, was_without(since)
    for backward_node in program.plan.backward_nodes:
        arrived = [m for name in backward_node.carrying if (m := back.messages.get(name)) is not None]
        sizes = [a.nbytes for m in arrived for a in (m.relevance, m.density) if a is not None]
        times = (TEMPORARY_OF_GRADIENTS if program.plan.gradient else TEMPORARY).get(backward_node.kind, 0.0)
        record = done.tapes.get(backward_node.node.name)
        at_once = isinstance(record, Iterations) and isinstance(record.given, Stacked)
        inside = OF_LOOPS * bytes_of(record) if at_once else 0.0
        if without and isinstance(record, list):  # its directions run one after the other
            inside = WITHOUT_KERNELS * max(tape.hidden.nbytes for tape in record)
        passing[f"passing {backward_node.node.name}"] = int(times * sum(sizes) + inside)
    return holdings.sizes | passing


# --- temporary memory --------------------------------------------------------------------------------------------

# ONNX Runtime chooses its own order of nodes, and its arena has gaps.
SLACK = 1.2


def _values(engine: Engine, inputs: Mapping[str, Array]) -> Sizes:
    """Returns the bytes of every value of the graph, as computed by ONNX Runtime, and of its temporaries inside
    recurrent nodes.
    """
    graph = engine.graph
    if not engine.runtime_runs:
        raise InputError("ONNX Runtime cannot run this model as a whole")
    names = [o for node in graph.nodes for o in node.outputs if o]
    session = session_of(graph, graph.nodes, graph.inputs, names, optimise=False)
    values = dict(inputs) | dict(zip(names, run_session(session, names, dict(inputs)), strict=True))
    sizes = {name: value.nbytes for name, value in values.items() if isinstance(value, np.ndarray)}
    for name, cell in engine.cells.items():
        source = values.get(cell.node.inputs[0])
        if source is not None:
            numbers = source.shape[0] * source.shape[1] * len(cell.directions) * cell.hidden
            sizes[f"inside {name}"] = 4 * cell.gates * numbers
    return sizes


def _moments(engine: Engine, kept: Iterable[str]) -> list[list[str]]:
    """Returns for each node the values that exist while it runs, except those that are kept anyway."""
    graph = engine.graph
    root = {name: name for name in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        views = Trait.ALIASES_INPUT in TABLE.traits(node.op)
        root.update((o, root[node.inputs[0]] if views else o) for o in node.outputs if o)
    last = {root[name]: i for i, node in enumerate(graph.nodes) for name in (*node.inputs, *node.captured) if name}
    last.update(dict.fromkeys((root[name] for name in graph.outputs), len(graph.nodes)))
    known = {root.get(name, name) for name in kept} | set(graph.constants) | set(graph.inputs)
    live: set[str] = set()
    moments = []
    for i, node in enumerate(graph.nodes):
        ending = {name for name in live if last.get(name, -1) <= i}
        made = {root[o] for o in node.outputs if o} - known - live
        in_place = Trait.NOT_IN_PLACE not in TABLE.traits(node.op) and ending
        moments.append([*(live - ending if in_place else live), *made, f"inside {node.name}"])
        live = (live - ending) | {name for name in made if last.get(name, -1) > i}
    return moments


# --- the estimate ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """The laws of one kind of explanation.

    held: memory at the end. moments: additional memory while each node runs forward; the largest one counts. passing:
    additional memory of each node's backward step; the largest one counts, too.
    """

    held: Law
    moments: list[Law]
    passing: list[Law]


class MeasuredModel(Protocol):
    """The part of a model that estimates need."""

    inputs: dict[str, TensorSpec]

    @property
    def axes(self) -> Mapping[str, Axes]: ...
    @property
    def lengths(self) -> Mapping[str, str]: ...
    @property
    def default_output(self) -> str: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def precision(self) -> Precision: ...
    def head_of(self, output: str) -> Head: ...


class Footprint:
    """Estimates for one model, which it does not keep alive. Safe to call from several threads."""

    def __init__(self, model: MeasuredModel) -> None:
        self._model: MeasuredModel = weakref.proxy(model)
        self._symbols = list(dict.fromkeys(d for s in model.inputs.values() for d in s.shape if isinstance(d, str)))
        self._lock = threading.Lock()
        self._estimates: dict[object, Estimate | None] = {}
        self._cache: dict[tuple[object, tuple[int, ...]], tuple[float, float] | None] = {}
        # What was measured without compiled kernels, which take less, and when it is to be measured again.
        self._again: dict[object, float] = {}

    def of(self, inputs: Mapping[str, Array], method: Method | None) -> tuple[float, float] | None:
        """Returns the bytes that one pass over these inputs takes, and how many of them its arrays keep; None where it
        cannot be measured.

        method: one with a backward pass; None for a prediction.
        """
        kind = _memory_class(method)
        extents = self._extents(inputs)
        key = (kind, extents)
        if key not in self._cache or kind in self._again:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[key] = self._bytes(self._estimate(kind, method), extents)
        return self._cache[key]

    def knows(self, method: Method | None) -> bool:
        """Returns whether `of` can answer for this method without measuring the model."""
        kind = _memory_class(method)
        return kind in self._estimates and not self._is_outdated(kind)

    def _is_outdated(self, kind: object) -> bool:
        return time.monotonic() >= self._again.get(kind, math.inf)

    def _extents(self, inputs: Mapping[str, Array]) -> tuple[int, ...]:
        found = dict.fromkeys(self._symbols, 1)
        for name, spec in self._model.inputs.items():
            if name in inputs:
                for symbol, extent in zip(spec.shape, inputs[name].shape, strict=False):
                    if isinstance(symbol, str):
                        found[symbol] = max(found[symbol], extent)
        return tuple(found.values())

    def _bytes(self, estimate: Estimate | None, extents: tuple[int, ...]) -> tuple[float, float] | None:
        if estimate is None:
            return None
        held, moment, largest = (
            max((law.at(extents) for law in laws), default=0.0)
            for laws in ([estimate.held], estimate.moments, estimate.passing)
        )
        return held + SLACK * moment + largest, held

    def _estimate(self, kind: object, method: Method | None) -> Estimate | None:
        while not self._lock.acquire(timeout=SECONDS_BETWEEN_CHECKS):  # another request measures the model
            checkpoint()
        try:
            if kind not in self._estimates or self._is_outdated(kind):
                since = time.time_ns()
                with np.errstate(all="ignore"):
                    self._estimates[kind] = self._measure(method)
                self._again.pop(kind, None)
                if was_without(since):
                    self._again[kind] = time.monotonic() + SECONDS_BETWEEN_MEASUREMENTS
            return self._estimates[kind]
        finally:
            self._lock.release()

    def _measure(self, method: Method | None) -> Estimate | None:
        for first in FIRST_EXTENTS:
            checkpoint()
            try:
                return self._measure_at(method, first)
            except Exception:  # The model rejects the made-up inputs.
                continue
        return None

    def _measure_at(self, method: Method | None, first: int) -> Estimate:
        model, batch = self._model, self._batch_symbols()
        engine, double = (
            (model.precision.engine_for(method), model.precision.starts_in_double(method))
            if method
            else (model.engine, False)
        )
        extents = {symbol: 2 if symbol in batch else first for symbol in self._symbols}
        trials = [extents, *({**extents, symbol: 2 * extents[symbol]} for symbol in self._symbols)]
        held, values = [], []
        for trial in trials:
            checkpoint()
            inputs = self._made_up(trial)
            if method is not None:
                head = model.head_of(model.default_output)
                held.append(_held(engine, head, model.default_output, method, inputs, double))
            values.append(_values(engine, in_float64(inputs) if double else inputs))
        at = tuple(extents.values())
        laws, passing = _laws(at, values), _laws(at, held)
        kept = {name: passing.pop(name) for name in list(passing) if not name.startswith("passing ")}
        if held:  # Our own kernels have no temporaries that they do not keep.
            laws = {name: law for name, law in laws.items() if not name.startswith("inside ")}
        passed = {name.removeprefix("kept values ") for name in kept}
        moments = [total([laws[n] for n in names if n in laws] or [Law(at, {})]) for names in _moments(engine, passed)]
        return Estimate(total(kept.values()) if kept else Law(at, {}), _largest(moments), _largest([*passing.values()]))

    def _batch_symbols(self) -> set[object]:
        axes = self._model.axes
        return {spec.shape[axis] for name, spec in self._model.inputs.items() if (axis := axes[name].batch) is not None}

    def _made_up(self, extents: Extents) -> dict[str, Array]:
        shapes = {
            name: TensorSpec(spec.dtype, tuple(extents[d] if isinstance(d, str) else d for d in spec.shape))
            for name, spec in self._model.inputs.items()
        }
        made = probe_inputs(shapes)
        for lengths, of in self._model.lengths.items():
            axis = self._model.axes[of].time
            if axis is not None:
                made[lengths][...] = made[of].shape[axis]
        return made


def _laws(at: tuple[int, ...], trials: Sequence[Sizes]) -> dict[str, Law]:
    """Returns a law per name. trials: the sizes at the first extents, and with each of them doubled separately."""
    if not trials:
        return {}
    return {name: law_of(at, size, [t.get(name, size) for t in trials[1:]]) for name, size in trials[0].items()}


def _memory_class(method: Method | None) -> object:
    """Returns what determines how much is kept."""
    return False if method is None else method.memory_class


def _largest(laws: list[Law]) -> list[Law]:
    """Returns the laws that may be the largest at some extents."""
    found: dict[int, Law] = {}
    for scale in (1, 8, 64, 512, 4096):
        for uneven in range(len(laws[0].first) + 1 if laws else 0):
            extents = [f * (1 if i == uneven else scale) for i, f in enumerate(laws[0].first)]
            best = max(laws, key=lambda law: law.at(extents))
            found[id(best)] = best
    return list(found.values())
