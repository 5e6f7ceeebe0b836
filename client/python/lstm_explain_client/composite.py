"""Rules of LRP by layer, as types and as messages. A parameter left at None takes the server's default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from lstm_explain_client.errors import InvalidRequest
from lstm_explain_proto.lstm_explain.v1 import method_pb2


@dataclass(frozen=True)
class Rule:
    """Base of the rules."""

    name: ClassVar[str] = ""


@dataclass(frozen=True)
class Epsilon(Rule):
    """LRP's own rule with another stabiliser (default 1e-6)."""

    name: ClassVar[str] = "epsilon"
    epsilon: float | None = None


@dataclass(frozen=True)
class Gamma(Rule):
    """Contributions of the output's sign raised by `gamma` (default 0.25)."""

    name: ClassVar[str] = "gamma"
    gamma: float | None = None


@dataclass(frozen=True)
class ZPlus(Rule):
    """Positive contributions only."""

    name: ClassVar[str] = "z_plus"


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """`alpha` (2) times the positive share less `beta` (1) times the negative one; alpha - beta is 1."""

    name: ClassVar[str] = "alpha_beta"
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True)
class Flat(Rule):
    """Equal shares for all inputs of a unit."""

    name: ClassVar[str] = "flat"


@dataclass(frozen=True)
class ZBox(Rule):
    """For layers whose inputs lie between `low` and `high`."""

    name: ClassVar[str] = "z_box"
    low: float | None = None
    high: float | None = None


RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Epsilon, Gamma, ZPlus, AlphaBeta, Flat, ZBox)}


@dataclass(frozen=True)
class Composite:
    """rules: by a node's name, an operator (`Gemm`), or a kind of layer (`dense`, `convolution`).

    first: for the layers that see the input before any other layer does.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    first: Rule | None = None

    def __str__(self) -> str:
        parts = [f"{key} {rule.name}" for key, rule in self.rules.items()]
        return "; ".join(parts if self.first is None else [*parts, f"first {self.first.name}"])


def write_composite(message: Any, composite: Composite) -> None:
    """Fills the message; raises InvalidRequest."""
    if not isinstance(composite, Composite):
        raise InvalidRequest(f"composite is {composite!r}, wanted a Composite", field="method.composite")
    message.SetInParent()
    for key, rule in composite.rules.items():
        _write_rule(message.rules[key], key, rule)
    if composite.first is not None:
        _write_rule(message.first, "first", composite.first)


def read_composite(message: Any) -> Composite:
    """The typed composite of a message; a rule that this client does not know is left out."""
    rules = {key: found for key, rule in message.rules.items() if (found := _read_rule(rule)) is not None}
    return Composite(rules, _read_rule(message.first) if message.HasField("first") else None)


def _write_rule(message: method_pb2.Rule, key: str, rule: Rule) -> None:
    if type(rule) not in RULES.values():
        raise InvalidRequest(f"the rule of {key!r} is {rule!r}, wanted a Rule", field="method.composite")
    chosen = getattr(message, rule.name)
    chosen.SetInParent()
    for part in fields(rule):
        value = getattr(rule, part.name)
        if value is not None:
            setattr(chosen, part.name, value)


def _read_rule(message: method_pb2.Rule) -> Rule | None:
    name = message.WhichOneof("rule")
    if name not in RULES:
        return None
    chosen, cls = getattr(message, name), RULES[name]
    return cls(**{f.name: getattr(chosen, f.name) for f in fields(cls) if chosen.HasField(f.name)})
