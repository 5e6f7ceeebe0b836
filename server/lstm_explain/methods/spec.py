"""Every method's parameters with their defaults and bounds. How each computes is in the file of its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from lstm_explain.errors import MethodError

ProductRule = Literal["all", "half", "prop", "abs"]


def _at_least(method: Method, name: str, least: float, most: float = math.inf) -> None:
    value = getattr(method, name)
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        wanted = f"a number of at least {least}" if most == math.inf else f"a number from {least} to {most}"
        raise MethodError(f"{method.name}: {name} is {value!r}, wanted {wanted}", field=f"method.{name}")


def _whole(method: Method, name: str, least: int) -> None:
    value = getattr(method, name)
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise MethodError(
            f"{method.name}: {name} is {value!r}, wanted a whole number of at least {least}", field=f"method.{name}"
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
    """

    name: ClassVar[str] = "lrp"
    product_rule: ProductRule = "all"
    epsilon: float = 1e-3
    bias_factor: float = 0.0

    def __post_init__(self) -> None:
        if self.product_rule not in get_args(ProductRule):
            raise MethodError(
                f"lrp: product_rule is {self.product_rule!r}, wanted one of {', '.join(get_args(ProductRule))}",
                field="method.product_rule",
            )
        _at_least(self, "epsilon", 0.0)
        _at_least(self, "bias_factor", 0.0, 1.0)


@dataclass(frozen=True)
class Gradient(Method):
    """Partial derivatives of the explained value."""

    name: ClassVar[str] = "gradient"


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Partial derivatives times the input."""

    name: ClassVar[str] = "gradient_times_input"


METHODS: dict[str, type[Method]] = {m.name: m for m in (LRP, Gradient, GradientTimesInput)}


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
