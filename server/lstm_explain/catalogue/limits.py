"""How much one request may ask for. Requests above it cannot succeed later either: they are INVALID_ARGUMENT."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy.typing as npt

from lstm_explain.errors import InputError, MethodError
from lstm_explain.methods.players import player_shape
from lstm_explain.methods.stacking import MOST_BYTES
from lstm_explain.model import Model
from lstm_explain.plan.axes import Axes
from lstm_explain.spec.method import LRP, IntegratedGradients, Method, Occlusion, ShapleySampling, SmoothGrad

Inputs = Mapping[str, npt.NDArray[Any]]

# What an LSTM's forward pass keeps and its way back makes: arrays of one hidden unit a time step, float32.
# Measured with LSTMs of 64 to 256 units: 13.4 to 14.5 for LRP, 17.7 for gradients.
ARRAYS_A_UNIT = 18
# LRP is computed again in float64 where float32 leaves something over, and the first pass is kept meanwhile: measured
# 46.5 to 53.9.
ARRAYS_A_UNIT_AND_AGAIN = 54
BYTES_A_NUMBER = 4
COPIES_OF_INPUTS = 6
NO_AXES = Axes(None, None)


@dataclass(frozen=True)
class Limits:
    """None: no limit.

    batch: samples. steps: length of the longest time axis. elements: of all inputs together. samples: runs of the model
    that a perturbation method makes, times the batch. bytes_estimate: what the work may take, see `estimate`.
    characters: of all texts together, before they are tokenised.
    """

    batch: int | None = None
    steps: int | None = None
    elements: int | None = None
    samples: int | None = None
    bytes_estimate: int | None = None
    characters: int | None = None

    @property
    def costs(self) -> tuple[float, ...]:
        """What a run may cost, in the order of `costs_of`."""
        return tuple(math.inf if m is None else m for m in (self.elements, self.samples, self.bytes_estimate))

    @functools.lru_cache(maxsize=256)  # noqa: B019 - of the few settings that there are
    def tightened(self, other: Limits) -> Limits:
        """The smaller of each: a model's own limits cannot widen the server's."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Limits(**{n: min((v for v in pair if v is not None), default=None) for n, pair in pairs.items()})

    def check(self, model: Model, inputs: Inputs, method: Method | None) -> tuple[int, int]:
        """Time steps of all samples of all runs, which the time of a request is proportional to, and the bytes that it
        is estimated to take.

        method: None for a prediction. Raises InputError, MethodError. Of inputs that do not fit the model it says
        nothing: the engine does.
        """
        elements, largest = 0, (1, 1)
        for name, array in inputs.items():
            batch, steps = _extents(model, name, array)
            if self.batch is not None and batch > self.batch:
                raise _too_long(name, batch, "samples", self.batch)
            if self.steps is not None and steps > self.steps:
                raise _too_long(name, steps, "time steps", self.steps)
            elements += array.size
            largest = max(largest[0], batch), max(largest[1], steps)
        if self.elements is not None and elements > self.elements:
            raise InputError(f"{elements} elements in all inputs, at most {self.elements} are allowed", field="inputs")
        times = runs(model, inputs, method)
        samples = largest[0] * times
        if method is not None and self.samples is not None and samples > self.samples:
            raise MethodError(
                f"{method.name} would run the model on {samples} samples, at most {self.samples} are allowed",
                field="method",
            )
        size = _estimate(model, inputs, method, times, largest)
        if self.bytes_estimate is not None and size > self.bytes_estimate:
            raise InputError(
                f"the request would take about {size:.3g} bytes of memory, {self.bytes_estimate:.3g} are allowed",
                field="inputs",
            )
        return samples * largest[1], size


def costs_of(model: Model, inputs: Inputs, method: Method | None, samples: int) -> tuple[float, ...]:
    """Of one sample: elements, runs of the model, bytes."""
    elements = sum(array.size for array in inputs.values())
    return (elements / samples, float(runs(model, inputs, method)), estimate(model, inputs, method) / samples)


def runs(model: Model, inputs: Inputs, method: Method | None) -> int:
    """How often the method runs the model on the whole batch; 1 for LRP and gradients."""
    match method:
        case IntegratedGradients():
            return method.steps
        case SmoothGrad():
            return method.samples
        case Occlusion():
            return sum(max(1, math.prod(_players(model, n, a, "steps")) - method.window + 1) for n, a in inputs.items())
        case ShapleySampling():
            players = sum(math.prod(_players(model, n, a, method.over)) for n, a in inputs.items())
            return method.permutations * max(1, players)
    return 1


def estimate(model: Model, inputs: Inputs, method: Method | None) -> int:
    """Bytes that the work takes at most, roughly.

    18 arrays of float32 (with LRP 54) for every sample, time step and hidden unit, and six copies of the inputs. A
    method of many runs stacks copies of the batch up to 128 MiB, and never fewer than one.
    """
    return _estimate(model, inputs, method, runs(model, inputs, method), extents(model, inputs))


def _estimate(model: Model, inputs: Inputs, method: Method | None, times: int, largest: tuple[int, int]) -> int:
    batch, steps = largest
    arrays = ARRAYS_A_UNIT_AND_AGAIN if isinstance(method, LRP) else ARRAYS_A_UNIT
    one = BYTES_A_NUMBER * arrays * batch * steps * model.hidden_units
    one += COPIES_OF_INPUTS * sum(array.nbytes for array in inputs.values())
    return max(one, min(MOST_BYTES, one * times))


def extents(model: Model, inputs: Inputs) -> tuple[int, int]:
    """The largest batch and the largest number of time steps."""
    batch = steps = 1
    for name, array in inputs.items():
        samples, length = _extents(model, name, array)
        batch, steps = max(batch, samples), max(steps, length)
    return batch, steps


def _extents(model: Model, name: str, array: npt.NDArray[Any]) -> tuple[int, int]:
    """Samples and time steps of one input; 1 where it has no such axis, or not as many axes."""
    axes, shape = model.axes.get(name, NO_AXES), array.shape
    batch = 1 if axes.batch is None or axes.batch >= len(shape) else shape[axes.batch]
    return batch, 1 if axes.time is None or axes.time >= len(shape) else shape[axes.time]


def _too_long(name: str, extent: int, what: str, most: int) -> InputError:
    return InputError(f"input {name!r}: {extent} {what}, at most {most} are allowed", field=f"inputs.{name}.shape")


def _players(model: Model, name: str, array: npt.NDArray[Any], over: Any) -> tuple[int, ...]:
    axes = model.axes.get(name, NO_AXES)
    batch, time = (axis if axis is not None and axis < array.ndim else None for axis in (axes.batch, axes.time))
    return player_shape(array.shape, Axes(batch, time), over)
