# SPDX-License-Identifier: Apache-2.0
"""Several requests as one batch: which ones may be merged, how they are merged, and how the answer is split.

The answer to one caller must not depend on who else calls. So the first batch of each kind is computed both ways, and
later requests of the kind are only batched if every answer equaled that of the request alone (see SAME).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import TargetError
from lstm_explain.methods.base import Batching
from lstm_explain.model import Explanation, Model
from lstm_explain.repository.request import ModelRequest
from lstm_explain.target import Target, of_samples

Array = npt.NDArray[Any]
log = logging.getLogger(__name__)

# Share of the largest number by which a batch may differ from each request alone. In float32, sums in another order
# differ by more, and LRP may magnify that a thousandfold: the limit detects whether the order depends on the batch, not
# how sensitive some inputs are. In float64 it allows for rounding.
SAME = 1e-9
PATIENCE = 8  # failed batches that are allowed before failures are compared with successes
MOST_KINDS = 256  # callers choose methods' parameters freely


@dataclass(frozen=True)
class BatchedOutputs:
    """By output, the axes of samples and time, where they exist."""

    samples: dict[str, int | None]
    time: dict[str, int | None]


@dataclass(frozen=True)
class BatchKey:
    """Requests with equal keys may form one batch. manner: the kind of request, which is everything but the shapes; one
    trial batch decides for all requests of the kind.
    """

    manner: Hashable
    shapes: Hashable


@dataclass
class Record:
    """What is known about the batches of one manner. layout: None until a trial batch has succeeded. refused: whether
    requests of this manner are never batched. won, lost: the numbers of batches that succeeded and that failed.
    """

    layout: BatchedOutputs | None = None
    refused: bool = False
    won: int = 0
    lost: int = 0


@dataclass(eq=False)
class RequestBatching:
    """How requests to one version of a model are batched. padding: by input, the value after a sequence's end."""

    model: Model
    padding: Mapping[str, float]
    _known: dict[Hashable, Record] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def key(self, request: ModelRequest) -> BatchKey | None:
        """None: the request runs alone."""
        target, method = request.target, request.method
        if (
            request.capture
            or request.groups
            or request.through
            or request.targets
            or request.condition
            or target.weights is not None
            or target.measure is not None
            or target.batch_axis is None
        ):
            return None
        if method is None or method.batching is Batching.NONE or not method.is_scalar:
            return None
        places = (_width(target.index), _width(target.contrast))
        manner = (method, target.output, target.batch_axis, target.pre_activation, places)
        refused = [r for r in (False, True) if (known := self._known.get((manner, r))) and known.refused]
        padded = bool(self.padding) and method.batching is Batching.PADDED and True not in refused
        shapes = self._shapes(request.inputs, padded)
        return None if shapes is None or False in refused else BatchKey(manner, shapes)

    def samples(self, inputs: Mapping[str, Array]) -> int:
        """Returns the number of samples in the inputs of a request with a key."""
        name, array = next(iter(inputs.items()))
        return array.shape[self._batch_axis(name)]

    def record(self, key: BatchKey, requests: Sequence[ModelRequest]) -> Record:
        with self._lock:
            if len(self._known) >= MOST_KINDS:
                self._known.clear()
            return self._known.setdefault((key.manner, self._ragged(requests)), Record())

    def count(self, record: Record, *, won: bool) -> None:
        """Counts a batch. Where more batches fail than succeed, requests of this manner are no longer batched."""
        with self._lock:
            record.won, record.lost = record.won + won, record.lost + (not won)
            record.refused = record.lost > max(PATIENCE, record.won)

    def merged(self, requests: Sequence[ModelRequest]) -> ModelRequest:
        inputs = {name: self._joined(name, [r.inputs[name] for r in requests]) for name in requests[0].inputs}
        target, counts = requests[0].target, [self.samples(r.inputs) for r in requests]
        one = Target(
            target.output,
            _rows([r.target.index for r in requests], counts),
            target.batch_axis,
            _rows([r.target.contrast for r in requests], counts),
            None,
            target.pre_activation,
        )
        return ModelRequest(inputs, requests[0].method, one)

    def split(self, whole: Explanation, requests: Sequence[ModelRequest], layout: BatchedOutputs) -> list[Explanation]:
        """Returns the answer to each."""
        parts, start = [], 0
        for request in requests:
            end = start + self.samples(request.inputs)
            parts.append(self._part(whole, request, slice(start, end), layout))
            start = end
        return parts

    def learn(
        self, record: Record, requests: Sequence[ModelRequest], alone: Sequence[Explanation], whole: Explanation
    ) -> None:
        """Decides about a manner, from one batch computed both ways."""
        layout = self._layout(requests, alone, whole)
        problem = "outputs do not show where their samples lie" if layout is None else ""
        if layout is not None:
            apart = max(map(_difference, self.split(whole, requests, layout), alone))
            problem = "" if apart <= SAME else f"a batch differs by {apart:.1e} from its requests alone"
        if problem:
            log.info("%s: requests are not batched: %s", whole.method.name, problem)
        record.layout, record.refused = layout, bool(problem)

    def _ragged(self, requests: Sequence[ModelRequest]) -> bool:
        return len({self._length(r.inputs) for r in requests}) > 1

    def _shapes(self, inputs: Mapping[str, Array], padded: bool) -> Hashable | None:
        """Returns the shape of one sample of each input; lengths that may differ are rounded up to the next power of
        two.
        """
        shapes, counts = [], set()
        for name, array in inputs.items():
            axes, extents = self.model.axes[name], self.model.inputs[name].shape
            if axes.batch is None or not isinstance(extents[axes.batch], str):
                return None
            counts.add(array.shape[axes.batch])
            shape: list[int | str] = list(array.shape)
            shape[axes.batch] = "samples"
            if padded and name in self.padding and axes.time is not None:
                shape[axes.time] = f"up to {1 << array.shape[axes.time].bit_length()}"
            shapes.append((name, *shape))
        return tuple(shapes) if len(counts) == 1 else None

    def _joined(self, name: str, arrays: Sequence[Array]) -> Array:
        axis, time = self._batch_axis(name), self.model.axes[name].time
        if name in self.padding and time is not None:
            longest = max(a.shape[time] for a in arrays)
            arrays = [_lengthened(a, time, longest, self.padding[name]) for a in arrays]
        return np.concatenate(arrays, axis)

    def _part(self, whole: Explanation, request: ModelRequest, rows: slice, layout: BatchedOutputs) -> Explanation:
        length = self._length(request.inputs)

        def of_inputs(arrays: Mapping[str, Array]) -> dict[str, Array]:
            cut = {name: self._batch_axis(name) for name in arrays}
            return {
                n: _cut(a, {cut[n]: rows, self.model.axes[n].time: slice(request.inputs[n].shape[t])})
                if (t := self.model.axes[n].time) is not None
                else _cut(a, {cut[n]: rows})
                for n, a in arrays.items()
            }

        outputs = {
            n: _cut(a, {layout.samples[n]: rows, layout.time[n]: slice(length)}) for n, a in whole.outputs.items()
        }
        return Explanation(
            of_inputs(whole.relevance), outputs, whole.explained[rows], {},
            whole.ledger.take(rows), whole.method, of_samples(whole.target, rows),
            of_inputs(whole.standard_error), whole.explained_quantity,
            whole.findings_of(rows.start, rows.stop), whole.notes,
            None if whole.steps_used is None else whole.steps_used[rows],
        )  # fmt: skip

    def _layout(
        self, requests: Sequence[ModelRequest], alone: Sequence[Explanation], whole: Explanation
    ) -> BatchedOutputs | None:
        """Returns the axes of samples and time in the outputs, derived from their shapes; None where the shapes do not
        show them.
        """
        counts, lengths = [self.samples(r.inputs) for r in requests], [self._length(r.inputs) for r in requests]
        samples: dict[str, int | None] = {}
        time: dict[str, int | None] = {}
        for name, array in whole.outputs.items():
            samples[name] = time[name] = None
            for axis, extent in enumerate(array.shape):
                own = [e.outputs[name].shape[axis] for e in alone]
                if own == counts and extent == sum(counts) and samples[name] is None:
                    samples[name] = axis
                elif own == lengths and extent == max(lengths, key=lambda n: n or 0):
                    time[name] = axis
                elif any(n != extent for n in own):
                    return None
        return BatchedOutputs(samples, time)

    def _batch_axis(self, name: str) -> int:
        axis = self.model.axes[name].batch
        assert axis is not None  # or the request has no key
        return axis

    def _length(self, inputs: Mapping[str, Array]) -> int | None:
        """Returns the time steps of inputs that may be padded."""
        axes = {name: self.model.axes[name].time for name in self.padding}
        return max((inputs[n].shape[t] for n, t in axes.items() if t is not None), default=None)


def _width(index: Any) -> int:
    """Returns the number of indices of one position; 0 where the target is the largest entry."""
    if index is None:
        return 0
    shape = np.shape(index)
    if isinstance(index, np.ndarray) and index.ndim:
        return shape[1] if len(shape) > 1 else 1
    return shape[0] if shape else 1


def _rows(indices: Sequence[Any], counts: Sequence[int]) -> Array | None:
    """Returns one position per sample, [samples, numbers]. Raises TargetError."""
    if indices[0] is None:
        return None
    width = _width(indices[0])
    rows = []
    for index, count in zip(indices, counts, strict=True):
        array = np.asarray(index)
        if isinstance(index, np.ndarray) and index.ndim:
            if len(array) != count:
                raise TargetError(f"{len(array)} positions for {count} samples", field="target.index")
            rows.append(array.reshape(count, width))
        else:
            rows.append(np.broadcast_to(array.reshape(1, width), (count, width)))
    return np.concatenate(rows)


def _lengthened(array: Array, axis: int, length: int, fill: float) -> Array:
    missing = length - array.shape[axis]
    if not missing:
        return array
    return np.pad(array, [(0, missing if a == axis else 0) for a in range(array.ndim)], constant_values=fill)


def _cut(array: Array, places: Mapping[int | None, slice]) -> Array:
    """Returns a copy, which does not keep the whole batch in memory."""
    return array[tuple(places.get(axis, slice(None)) for axis in range(array.ndim))].copy()


def _difference(part: Explanation, alone: Explanation) -> float:
    """Returns the largest difference, relative to the largest element of its array; infinite where names or findings
    differ.
    """
    mine, theirs = _arrays(part), _arrays(alone)
    if mine.keys() != theirs.keys() or _flaws(part) != _flaws(alone):
        return math.inf
    return max(_apart(mine[name], theirs[name]) for name in mine)


def _flaws(e: Explanation) -> list[object]:
    """Returns which samples fail which checks. The figures are left out, because a batch rounds them differently."""
    return [*[(finding.check, finding.samples) for finding in e.findings], *e.notes]


def _arrays(e: Explanation) -> dict[str, Array]:
    """Returns every array to compare. Entries of the ledger are compared relative to the explained value."""
    positions = {"index": e.target.index, "contrast": e.target.contrast}
    return {
        **{f"relevance {n}": a for n, a in e.relevance.items()},
        **{f"output {n}": a for n, a in e.outputs.items()},
        **{f"error {n}": a for n, a in e.standard_error.items()},
        **{f"node {n}": np.append(a, e.explained) for n, a in e.ledger.by_node.items()},
        "explained": e.explained,
        "ledger inputs": np.append(e.ledger.inputs, e.explained),
        **{name: np.asarray(a) for name, a in positions.items() if a is not None},
    }


def _apart(a: Array, b: Array) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    if a.dtype.kind != "f":
        return 0.0 if np.array_equal(a, b) else math.inf
    known = np.isfinite(b)
    if not np.array_equal(known, np.isfinite(a)):
        return math.inf
    largest = float(np.abs(b[known], dtype=np.float64).max(initial=0.0))
    return float(np.abs(a[known] - b[known], dtype=np.float64).max(initial=0.0)) / (largest or 1.0)
