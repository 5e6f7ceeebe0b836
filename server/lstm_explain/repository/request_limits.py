# SPDX-License-Identifier: Apache-2.0
"""Checks requests against the limits of a server and a model. A request beyond them is INVALID_ARGUMENT."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy.typing as npt

from lstm_explain.cancellation import Deferred
from lstm_explain.errors import InputError
from lstm_explain.methods.base import Method
from lstm_explain.model import Model
from lstm_explain.program.propagation import targets_together
from lstm_explain.runner.cost import Cost
from lstm_explain.runner.per_sample import too_many_samples
from lstm_explain.runner.run_count import NO_GROUPS, Counts, extents, extents_of, runs
from lstm_explain.target_sets import TargetSet, check_count, count_of

Inputs = Mapping[str, npt.NDArray[Any]]

# Requests with at most this many elements and steps are small for any model and need no measurement.
SMALL_ELEMENTS, SMALL_STEPS = 4096, 512
# Bytes that an LSTM keeps per hidden unit and step under the product rules that keep most, where nothing was measured.
BYTES_PER_UNIT = 72
COPIES_OF_INPUTS = 1  # the request's message; the response takes the place of tensors that were saved to compute it
RELEVANCE_BYTES = 8  # of one number, in the answer and in its message


@dataclass(frozen=True)
class Limits:
    """None: no limit.

    batch: samples. steps: length of the longest time axis. elements: of all inputs together. samples: runs of the model
    that a perturbation method makes, times the batch; for a model that turns out to mix the samples of a batch, the
    batch squared (runner/per_sample.py). bytes_estimate: memory for the work, see `estimate`. characters: of all texts
    together, before tokenisation. targets: of one request.
    """

    batch: int | None = None
    steps: int | None = None
    elements: int | None = None
    samples: int | None = None
    bytes_estimate: int | None = None
    characters: int | None = None
    targets: int | None = None

    @property
    def costs(self) -> tuple[float, ...]:
        """The limits of the costs of a run, in the order of `costs_of`."""
        return tuple(math.inf if m is None else m for m in (self.elements, self.samples, self.bytes_estimate))

    @functools.lru_cache(maxsize=256)  # noqa: B019 - there are few different limits
    def tightened(self, other: Limits) -> Limits:
        """Returns the smaller of each: a model's own limits cannot widen the server's."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Limits(**{n: min((v for v in pair if v is not None), default=None) for n, pair in pairs.items()})

    def check(
        self,
        model: Model,
        inputs: Inputs,
        method: Method | None,
        targets: Sequence[TargetSet] = (),
        *,
        brief: bool = False,
        groups: Counts = NO_GROUPS,
    ) -> tuple[int, int]:
        """Returns the time steps of all samples of all runs, to which the time of a request is proportional, and the
        estimate of its memory in bytes.

        method: None for a prediction. targets: several of one request. brief: raises Deferred if the estimate would
        take time, see `estimate`. groups: the number of groups of every input, where the request has groups. Raises
        InputError, MethodError, TargetError. Inputs that do not match the model are left for the engine to refuse.
        """
        elements, largest = 0, (1, 1)
        for name, array in inputs.items():
            batch, steps = extents_of(model.axes, name, array)
            if self.batch is not None and batch > self.batch:
                raise _over_limit(name, batch, "samples", self.batch)
            if self.steps is not None and steps > self.steps:
                raise _over_limit(name, steps, "time steps", self.steps)
            elements += array.size
            largest = max(largest[0], batch), max(largest[1], steps)
        if self.elements is not None and elements > self.elements:
            raise InputError(f"{elements} elements in all inputs, at most {self.elements} are allowed", field="inputs")
        count = targets_in(model, inputs, targets)
        check_count(count, self.targets)
        times = runs(model.axes, inputs, method, groups)
        samples = largest[0] * times * count
        if method is not None and self.samples is not None and samples > self.samples:
            raise too_many_samples(method, samples, self.samples)
        if brief and not _small(elements, largest[1]) and not model.footprint.knows(_backward_method(method)):
            raise Deferred
        size = _estimate(model, inputs, method, times, largest, count)
        if self.bytes_estimate is not None and size > self.bytes_estimate:
            raise InputError(
                f"the request would take about {size:.3g} bytes of memory, {self.bytes_estimate:.3g} are allowed",
                field="inputs",
            )
        return samples * largest[1], size


def costs_of(model: Model, inputs: Inputs, method: Method | None, samples: int) -> tuple[float, ...]:
    """Returns the costs of one sample: elements, runs of the model, bytes."""
    elements = sum(array.size for array in inputs.values())
    return (elements / samples, float(runs(model.axes, inputs, method)), estimate(model, inputs, method) / samples)


def targets_in(model: Model, inputs: Inputs, targets: Sequence[TargetSet]) -> int:
    """Returns how many targets a request has; where only the outputs will show it, at least as many as that."""
    if not targets:
        return 1
    extents: dict[str, int] = {}
    for name, spec in model.inputs.items():
        if name in inputs:
            declared = zip(spec.shape, inputs[name].shape, strict=False)
            extents.update((symbol, extent) for symbol, extent in declared if isinstance(symbol, str))
    return count_of(targets, {name: spec.shape for name, spec in model.outputs.items()}, extents)


def estimate(
    model: Model,
    inputs: Inputs,
    method: Method | None,
    targets: Sequence[TargetSet] = (),
    groups: Counts = NO_GROUPS,
) -> int:
    """Returns the most bytes that the work takes, estimated from a small explanation with this method (footprint.py),
    which is measured when it is first needed.

    Measured peaks are between two thirds and one and a half times the estimate. A method of many runs stacks as many
    copies of the batch as fit into 128 MiB, and at least one. groups: see `Limits.check`.
    """
    count = targets_in(model, inputs, targets)
    times = runs(model.axes, inputs, method, groups)
    return _estimate(model, inputs, method, times, extents(model.axes, inputs), count)


def _estimate(
    model: Model, inputs: Inputs, method: Method | None, times: int, largest: tuple[int, int], targets: int = 1
) -> int:
    """targets: of one request. Each keeps its relevance; those of one backward pass are held at the same time."""
    batch, steps = largest
    elements, input_bytes = 0, 0
    for array in inputs.values():
        elements, input_bytes = elements + array.size, input_bytes + array.nbytes
    found = None if _small(elements, steps) else model.footprint.of(inputs, _backward_method(method))
    one, held = found or (BYTES_PER_UNIT * batch * steps * model.hidden_units, 0.0)
    cost = Cost(one, held, times, batch, steps, model.recurrent_units, input_bytes)
    work = one if method is None else method.memory(cost)
    if targets > 1:
        together = targets_together(batch, targets) if method is not None and method.propagates else 1
        work = work * together + RELEVANCE_BYTES * elements * targets
    return int(COPIES_OF_INPUTS * input_bytes + work)


def _small(elements: int, steps: int) -> bool:
    return elements <= SMALL_ELEMENTS and steps <= SMALL_STEPS


def _backward_method(method: Method | None) -> Method | None:
    """Returns the backward pass that the method makes, once or many times; None for predictions only."""
    return None if method is None else method.backward_method


def _over_limit(name: str, extent: int, what: str, most: int) -> InputError:
    return InputError(f"input {name!r}: {extent} {what}, at most {most} are allowed", field=f"inputs.{name}.shape")
