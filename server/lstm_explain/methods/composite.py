# SPDX-License-Identifier: Apache-2.0
"""Selects the rule that LRP uses at each dense or convolutional layer (data only: program/steps/layer_rules.py
computes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from lstm_explain.errors import MethodError


@dataclass(frozen=True)
class Rule:
    """Base class of the rules. `name` is its name on the wire and in texts.

    stabilised: whether its sums may cancel, so that they need LRP's stabiliser.
    """

    name: ClassVar[str] = ""
    stabilised: ClassVar[bool] = True

    def parameters(self) -> dict[str, float]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters().values()))})"


def _check(rule: str, name: str, value: float, *, least: float | None = None) -> None:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or (least is not None and value < least):
        expected = "a number" if least is None else f"a number of at least {least:g}"
        raise MethodError(f"{rule}: {name} is {value!r}, expected {expected}", field="method.composite")


@dataclass(frozen=True)
class Epsilon(Rule):
    """R_i = sum_j x_i w_ij / stab(z_j) R_j, with this epsilon (Bach et al. 2015, equation 58)."""

    name: ClassVar[str] = "epsilon"
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        _check("Epsilon", "epsilon", self.epsilon, least=0.0)


@dataclass(frozen=True)
class Gamma(Rule):
    """Epsilon with positive contributions increased by gamma (Montavon et al. 2019, section 10.2.3).

    For inputs and outputs of both signs, as in Andéol et al. 2021 (arXiv 2112.01195) and zennit: for a negative output,
    the negative contributions are increased.
    """

    name: ClassVar[str] = "gamma"
    gamma: float = 0.25

    def __post_init__(self) -> None:
        _check("Gamma", "gamma", self.gamma, least=0.0)


@dataclass(frozen=True)
class ZPlus(Rule):
    """Positive contributions only (Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, equation 12)."""

    name: ClassVar[str] = "z_plus"


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """alpha times positive shares minus beta times negative, alpha - beta = 1 (Bach et al. 2015, equation 60)."""

    name: ClassVar[str] = "alpha_beta"
    alpha: float = 2.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            _check("AlphaBeta", name, value, least=0.0)
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise MethodError(
                f"AlphaBeta: alpha - beta is {self.alpha - self.beta:g}, expected 1", field="method.composite"
            )


@dataclass(frozen=True)
class Flat(Rule):
    """Equal shares for all inputs of a unit (Lapuschkin et al. 2019, doi 10.1038/s41467-019-08987-4)."""

    name: ClassVar[str] = "flat"


@dataclass(frozen=True)
class ZBox(Rule):
    """For inputs between low and high: x w - low w+ - high w- (Montavon et al. 2017, section 5.3).

    low, high: bounds of all inputs.
    """

    name: ClassVar[str] = "z_box"
    low: float
    high: float

    def __post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            _check("ZBox", name, value)
        if not self.low < self.high:
            raise MethodError(f"ZBox: low {self.low:g} is not below high {self.high:g}", field="method.composite")


@dataclass(frozen=True)
class WSquare(Rule):
    """R_i = sum_j w_ij² / sum_k w_kj² R_j, for inputs without bounds (the w²-rule of Montavon et al. 2017).

    The sums cannot cancel, so the rule uses no stabiliser.
    """

    name: ClassVar[str] = "w_square"
    stabilised: ClassVar[bool] = False


RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Epsilon, Gamma, ZPlus, AlphaBeta, Flat, ZBox, WSquare)}


def rule_from_name(name: str, *values: Any, **parameters: Any) -> Rule:
    """Returns the rule called `name`. Raises MethodError if there is none, or if it takes other parameters."""
    cls = RULES.get(name)
    if cls is None:
        raise MethodError(f"composite: no rule {name!r}, there are {', '.join(RULES)}", field="method.composite")
    try:
        return cls(*values, **parameters)
    except TypeError:
        received = ", ".join([*map(str, values), *(f"{key} {value}" for key, value in parameters.items())])
        accepted = ", ".join(f.name for f in fields(cls))
        raise MethodError(
            f"composite: {name} received {received or 'nothing'}, it takes {accepted or 'nothing'}",
            field="method.composite",
        ) from None


LAYERS = ("dense", "convolution")  # kinds of layers, as the table of operators calls them


@dataclass(frozen=True)
class Composite:
    """Rules by layer, as in zennit (Anders et al. 2021, arXiv 2106.13200).

    rules: by node name, operator (`Gemm`), or kind of layer (`dense`, `convolution`). The node's name takes precedence,
    then `first`, the operator and the kind. first: for the layers that see the input before any other layer does.
    Layers without a rule, and all other nodes, use LRP's own stabiliser. A bias added by an Add after MatMul or Conv
    belongs to the layer. Recurrent nodes accept only Epsilon.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    first: Rule | None = None

    def __post_init__(self) -> None:
        for key, rule in (*self.rules.items(), *([] if self.first is None else [("first", self.first)])):
            if not isinstance(rule, Rule):
                raise MethodError(f"the rule of {key!r} is {rule!r}, expected a Rule", field="method.composite")

    def __hash__(self) -> int:
        return hash((tuple(sorted((key, hash(rule)) for key, rule in self.rules.items())), self.first))

    def __str__(self) -> str:
        """Returns the text that `repository.text_notation.parse_composite` reads."""
        rules = {**self.rules, **({} if self.first is None else {"first": self.first})}
        return "; ".join(f"{key}={rule}" for key, rule in rules.items())

    def rule_of(self, name: str, op: str, layer: str, *, is_first: bool) -> Rule | None:
        """Returns the rule of a node, by its name, operator and kind of layer; None for LRP's own."""
        if name in self.rules:
            return self.rules[name]
        if is_first and self.first is not None:
            return self.first
        return next((self.rules[key] for key in (op, layer) if key in self.rules), None)
