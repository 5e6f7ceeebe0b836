"""Every method's parameters with their defaults and bounds. How each computes is in the file of its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import MethodError
from lstm_explain.spec.composite import Composite

ProductRule = Literal["all", "half", "prop", "abs"]
Players = Literal["steps", "features", "cells"]
Quantity = Literal["score", "probability"]
MOST_RUNS = 10_000  # steps, samples, permutations: what a caller may ask of a server in one call
Baseline = float | npt.NDArray[Any] | Mapping[str, float | npt.NDArray[Any]] | None


def _at_least(method: Method, name: str, least: float, most: float = math.inf) -> None:
    value = getattr(method, name)
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        wanted = f"a number of at least {least}" if most == math.inf else f"a number from {least} to {most}"
        raise MethodError(f"{method.name}: {name} is {value!r}, wanted {wanted}", field=f"method.{name}")


def _whole(method: Method, name: str, least: int, most: float = math.inf) -> None:
    value = getattr(method, name)
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value <= most:
        wanted = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise MethodError(f"{method.name}: {name} is {value!r}, wanted a whole number {wanted}", field=f"method.{name}")


def _one_of(method: Method, name: str, choices: Any) -> None:
    if getattr(method, name) not in get_args(choices):
        raise MethodError(
            f"{method.name}: {name} is {getattr(method, name)!r}, wanted one of {', '.join(get_args(choices))}",
            field=f"method.{name}",
        )


@dataclass(frozen=True)
class Method:
    """Base of all methods. `name` is how the command line and the wire call it."""

    name: ClassVar[str] = ""

    def parameters(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise relevance propagation with the epsilon rule.

    Arras et al. 2017 (arXiv 1706.07206), equation 1; product rules: Arras et al. 2019 (arXiv 1909.12114), section 3.

    product_rule: what gate and signal receive: "all" (the signal takes all), "half", "prop", "abs".
    epsilon: stabiliser, not negative.
    bias_factor: share of bias and stabiliser given to a sum's inputs, in [0, 1]; the rest is absorbed.
    composite: other rules for some dense and convolutional layers.
    """

    name: ClassVar[str] = "lrp"
    product_rule: ProductRule = "all"
    epsilon: float = 1e-3
    bias_factor: float = 0.0
    composite: Composite | None = None

    def __post_init__(self) -> None:
        _one_of(self, "product_rule", ProductRule)
        _at_least(self, "epsilon", 0.0)
        _at_least(self, "bias_factor", 0.0, 1.0)
        if self.composite is not None and not isinstance(self.composite, Composite):
            raise MethodError(
                f"lrp: composite is {self.composite!r}, wanted a Composite or None", field="method.composite"
            )


@dataclass(frozen=True)
class Gradient(Method):
    """Partial derivatives of the explained value."""

    name: ClassVar[str] = "gradient"


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Partial derivatives times the input."""

    name: ClassVar[str] = "gradient_times_input"


class Against(Method):
    """Base of the methods that compare the input with a baseline.

    baseline: None for zeros (a token's vector of zeros for IntegratedGradients, the token 0 for the others), a number,
    an array that broadcasts to the input (one entry a feature, say), or any of these by input.
    """

    baseline: Baseline

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.parameters(), other.parameters()
        return all(_same(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        return hash((type(self), *(value for name, value in self.parameters().items() if name != "baseline")))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    return type(a) is type(b) and (np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)


@dataclass(frozen=True, eq=False)
class IntegratedGradients(Against):
    """Gradients averaged along the straight line from the baseline to the input, times the difference.

    Sundararajan et al. 2017 (arXiv 1703.01365), equation 1; the integral by Gauss-Legendre quadrature.

    steps: points on the line.
    """

    name: ClassVar[str] = "integrated_gradients"
    steps: int = 50
    baseline: Baseline = None

    def __post_init__(self) -> None:
        _whole(self, "steps", 1, MOST_RUNS)


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Gradients averaged over noisy copies of the input (Smilkov et al. 2017, arXiv 1706.03825).

    samples: noisy copies. noise: standard deviation, as a share of the sample's range (largest minus smallest entry).
    """

    name: ClassVar[str] = "smooth_grad"
    samples: int = 25
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        _whole(self, "samples", 1, MOST_RUNS)
        _at_least(self, "noise", 0.0)
        _whole(self, "seed", 0)


@dataclass(frozen=True, eq=False)
class Occlusion(Against):
    """Fall of the explained value when a window of time steps is replaced by the baseline.

    Zeiler and Fergus 2014 (arXiv 1311.2901); for time steps Arras et al. 2019 (arXiv 1909.12114).

    window: time steps replaced together, one step further each time; a step gets the mean of its windows' shares.
    of: the score, or the probability (Softmax or Sigmoid of the output).
    """

    name: ClassVar[str] = "occlusion"
    window: int = 1
    baseline: Baseline = None
    of: Quantity = "score"

    def __post_init__(self) -> None:
        _whole(self, "window", 1)
        _one_of(self, "of", Quantity)


@dataclass(frozen=True, eq=False)
class ShapleySampling(Against):
    """Shapley values, estimated over random orders (Castro et al. 2009, doi 10.1016/j.cor.2008.04.004).

    Every second order is the reverse of the one before it (Mitchell et al. 2022, arXiv 2104.12199, section 2.2).

    permutations: orders drawn. over: who plays: time steps, features (for all of time), or every cell for itself.
    """

    name: ClassVar[str] = "shapley_sampling"
    permutations: int = 25
    seed: int = 0
    baseline: Baseline = None
    over: Players = "steps"

    def __post_init__(self) -> None:
        _whole(self, "permutations", 1, MOST_RUNS)
        _whole(self, "seed", 0)
        _one_of(self, "over", Players)


@dataclass(frozen=True)
class ContextualDecomposition(Method):
    """What each time step alone contributes, in an LSTM with a linear readout.

    Murdoch et al. 2018 (arXiv 1801.05453), section 3: the part beta of the output, with the time step as the phrase.
    """

    name: ClassVar[str] = "contextual_decomposition"


METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
        LRP,
        Gradient,
        GradientTimesInput,
        IntegratedGradients,
        SmoothGrad,
        Occlusion,
        ShapleySampling,
        ContextualDecomposition,
    )
}


def method_from_name(name: str, parameters: Mapping[str, Any] | None = None) -> Method:
    """The method called `name`; raises MethodError if there is none or a parameter does not belong to it."""
    cls = METHODS.get(name)
    if cls is None:
        raise MethodError(f"unknown method {name!r}, there are {', '.join(METHODS)}", field="method")
    known = {f.name for f in fields(cls)}
    for key in parameters or {}:
        if key not in known:
            wanted = ", ".join(sorted(known)) or "none"
            raise MethodError(f"{name}: unknown parameter {key!r}, it has {wanted}", field=f"method.{key}")
    return cls(**dict(parameters or {}))
