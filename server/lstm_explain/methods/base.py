# SPDX-License-Identifier: Apache-2.0
"""Defines what the server knows of a method: its parameters, what it promises, what it costs and how it runs.

A method is one file of this folder and one line of the table in `__init__.py`. Everything that the server knows of it
is an attribute or a hook of its class, so no other module lists methods or distinguishes them. These files can be
imported without the engine, which hooks receive as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import MethodError
from lstm_explain.methods.background import Background
from lstm_explain.methods.parameters import check

if TYPE_CHECKING:
    from lstm_explain.methods.lrp import LRP
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.cost import Cost
    from lstm_explain.runner.method_tools import MethodTools

Players = Literal["steps", "features", "cells"]
GroupedPlayers = Literal[Players, "groups"]
SingleBaseline = float | npt.NDArray[Any] | Mapping[str, float | npt.NDArray[Any]] | None
Baseline = SingleBaseline | Background
CountPlayers = Callable[[GroupedPlayers], Sequence[int]]  # the number of players of every input
MAX_RUNS = 10_000  # steps, samples or permutations that one call to a server may request


class Promise(Enum):
    """What a method promises of its relevance; `verdict.py` checks the answers against it."""

    SHARES = "the numbers are shares of the explained value, none of them many times as large as it is"
    COMPLETE = "the ledger accounts for the whole value"
    MOST_ARRIVES = "biases, constants and stabilisers keep little of it"


class Batching(Enum):
    """Which requests for a method the server may answer as one batch without changing any of the answers."""

    NONE = "none"
    EQUAL_LENGTHS = "those whose sequences are equally long"
    PADDED = "any, where the shorter sequences can be padded"


UNITS: Mapping[str, str] = {
    "steps": "time steps",
    "features": "features",
    "cells": "features of every step",
    "groups": "groups of the request",
}


@dataclass(frozen=True)
class Words:
    """What people read of a method. The clients, the page and docs/methods.md are generated from it.

    label, hint: what the page calls it, and one clause on what it does.
    absorbed, residual: what these two entries of the ledger hold under it.
    relevance, runs: its row in docs/methods.md: what relevance is, and how often it runs the model.
    """

    label: str
    hint: str
    absorbed: str
    residual: str
    relevance: str
    runs: str


@dataclass(frozen=True)
class Method:
    """Base class of all methods. `name` is its name on the command line and on the wire.

    words, promises, batching: every method declares them.
    propagates: whether it is one forward pass and one backward pass (`program/propagation.py`); all other methods
        implement `explain`.
    times_value: whether the backward pass reports derivatives times the value.
    before_activation: whether it can explain only the value before the activation that an output ends in.
    gates: whether it yields relevance for the cells and gates of a recurrent node.
    unit: what it gives one value to, as `over` names it, where it has no such parameter; None for single cells.
    wire_names: maps a field of its message to the parameter that it sets, where their names differ.
    on_overflow: what a caller can do where the model's inner values are not finite.
    """

    name: ClassVar[str] = ""
    words: ClassVar[Words]
    promises: ClassVar[frozenset[Promise]]
    batching: ClassVar[Batching]
    propagates: ClassVar[bool] = False
    before_activation: ClassVar[bool] = False
    times_value: ClassVar[bool] = False
    gates: ClassVar[bool] = False
    unit: ClassVar[Players | None] = None
    wire_names: ClassVar[Mapping[str, str]] = {}
    on_overflow: ClassVar[str] = "try occlusion, which needs predictions only"

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        """The name and the parameters, as the client writes them; without arrays."""
        shown = {name: value for name, value in self.parameters().items() if value is not None and name != "baseline"}
        baseline = self.parameters().get("baseline")
        shown |= {"background": baseline} if isinstance(baseline, Background) else {}
        return ", ".join([self.name, *(f"{name} {_text(value)}" for name, value in shown.items())])

    def parameters(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def has_standard_error(self) -> bool:
        """Whether its answers have a standard error."""
        return False

    @property
    def explains_probability(self) -> bool:
        """Whether the explained value is the output converted to a probability, whatever the target says."""
        return False

    def over_groups(self) -> Method:
        """The method that values the groups of a request as wholes, where it values parts of the input as wholes;
        otherwise the method itself.
        """
        return self

    def kept_beside(self, names: Collection[str]) -> dict[str, Any]:
        """The parameters that stay where those in `names` are replaced; without those that `names` exclude."""
        return {name: value for name, value in self.parameters().items() if name not in names}

    def explain(self, tools: MethodTools) -> Attribution:
        """Computes the answer by running the model as often as needed.

        Raises SamplesMixed where every sample of the batch must be explained separately.
        """
        raise MethodError(f"{self!r} is not a method of this engine", field="method")

    # --- its backward pass -------------------------------------------------------------------------------------------

    @property
    def rules(self) -> LRP | None:
        """The relevance rules of the backward pass, which account for the whole value; None: derivatives."""
        return None

    @property
    def needs_float64(self) -> bool:
        """Whether the backward pass always runs in float64, because it divides by sums that may be close to zero."""
        return False

    # --- what it costs -----------------------------------------------------------------------------------------------

    @property
    def fixed_runs(self) -> int:
        """How often it runs the model at least, whatever the inputs are."""
        return 1

    def runs(self, players: CountPlayers) -> int:
        """How often it runs the model on the whole batch; 1 for a forward pass and a backward pass."""
        return self.fixed_runs

    def likely_runs(self, players: CountPlayers) -> int:
        """How often it runs the model in most cases, where `runs` is an upper bound."""
        return self.runs(players)

    @property
    def backward_method(self) -> Method | None:
        """The method of its backward passes, be they one or many; None for a method that only needs predictions."""
        return self if self.propagates else None

    def memory(self, cost: Cost) -> float:
        """Bytes that it takes at most."""
        return cost.pass_bytes

    @property
    def memory_class(self) -> object:
        """Determines how much its backward pass keeps in memory: methods with equal values take the same."""
        return True

    @property
    def variant(self) -> str:
        """The parameter value that determines how long a run takes."""
        return ""

    # --- equality, faults and advice ---------------------------------------------------------------------------------

    @property
    def is_scalar(self) -> bool:
        """Whether every parameter is a number or a word, so that equal methods are interchangeable."""
        return True

    def cheapest_variant(self) -> Self:
        """The method with the parameters that detect values which are not finite at the lowest cost."""
        return self

    def not_finite(self) -> MethodError | None:
        """The error to raise where a parameter of the method itself makes the answer not finite."""
        return None

    def advice(self, broken: Promise) -> str:
        """What a caller can do whose answer breaks a promise."""
        return "compare it with occlusion"


class BaselineMethod(Method):
    """Base class of the methods that compare the input with a baseline.

    baseline: None for zeros (for tokens a vector of zeros under IntegratedGradients, otherwise the token 0), a number,
    an array that broadcasts to the input (for example one entry per feature), or any of these by input. A background
    set for the mean over the draws from it.
    """

    wire_names: ClassVar[Mapping[str, str]] = {"background": "baseline"}
    baseline: Baseline

    def with_baseline(self, baseline: Baseline) -> Self:
        """The method with another baseline."""
        return type(self)(**{**self.parameters(), "baseline": baseline})

    def with_background(self, samples: Mapping[str, npt.NDArray[Any]] | None) -> Self:
        """The method in which these samples stand for a background set that is the model's own.

        samples: None where the model has none. Raises MethodError if the method needs them.
        """
        if not isinstance(self.baseline, Background) or self.baseline.samples is not None:
            return self
        if samples is None:
            problem = "the model has no background set (background.npz); give one with its samples, or another baseline"
            raise MethodError(f"{self.name}: {problem}", field="method.baseline")
        return self.with_baseline(Background(samples, self.baseline.draws, self.baseline.seed))

    @property
    def draws(self) -> int:
        """The number of baselines that it compares the input with."""
        return self.baseline.used if isinstance(self.baseline, Background) else 1

    @property
    def has_standard_error(self) -> bool:
        return isinstance(self.baseline, Background) and self.baseline.used != self.baseline.count

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.parameters(), other.parameters()
        return all(_same(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        return hash((type(self), *(value for name, value in self.parameters().items() if name != "baseline")))

    @property
    def is_scalar(self) -> bool:
        return self.baseline is None or isinstance(self.baseline, (int, float))

    def advice(self, broken: Promise) -> str:
        return "try another baseline"


def _text(value: Any) -> str:
    if isinstance(value, tuple):  # a span
        return "; ".join(f"{name} {end}" for name, end in zip(("start", "end"), value, strict=True))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    return type(a) is type(b) and (np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)
