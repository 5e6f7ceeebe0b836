"""What a method is to the server: its parameters, what its numbers promise, what it costs and how it runs.

A method is one file of this folder and a line of the table in `__init__.py`. All that the server knows of it is an
attribute or a hook of its class, so no other module lists methods or tells one from another. These files can be
imported without the engine, which comes to a hook as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import MethodError
from lstm_explain.methods.parameters import check

if TYPE_CHECKING:
    from lstm_explain.methods.lrp import LRP
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.cost import Cost
    from lstm_explain.runner.method_tools import MethodTools

Players = Literal["steps", "features", "cells"]
Baseline = float | npt.NDArray[Any] | Mapping[str, float | npt.NDArray[Any]] | None
CountPlayers = Callable[[Players], Sequence[int]]  # by input, how many players take part
MOST_RUNS = 10_000  # steps, samples, permutations: what a caller may ask of a server in one call


class Promise(Enum):
    """What a method says of its numbers, and `verdict.py` holds its answers to."""

    SHARES = "the numbers are shares of the explained value, none of them many times as large as it is"
    COMPLETE = "the ledger accounts for the whole value"
    MOST_ARRIVES = "biases, constants and stabilisers keep little of it"


class Batching(Enum):
    """Which requests by a method the server may answer as one batch, without a difference to any of them."""

    NONE = "none"
    EQUAL_LENGTHS = "those whose sequences are equally long"
    PADDED = "any, where the shorter sequences can be padded"


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
    """Base of all methods. `name` is how the command line and the wire call it.

    words, promises, batching: every method declares them.
    propagates: whether it is one forward pass and one walk back (`program/propagation.py`); all others
        implement `explain`.
    before_activation: whether it can explain only the value before an output's Softmax, LogSoftmax or Sigmoid.
    times_value: whether the walk back reports derivatives times the value.
    gates: whether it has relevance for the cells and gates of a recurrent node.
    standard_error: whether its answers have one.
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
    standard_error: ClassVar[bool] = False
    on_overflow: ClassVar[str] = "occlusion may do, which takes predictions alone"

    def __post_init__(self) -> None:
        check(self)

    def parameters(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def explain(self, tools: MethodTools) -> Attribution:
        """The answer to one question, by running the model as often as it takes. Raises SamplesMixed where that takes
        every sample of the batch by itself.
        """
        raise MethodError(f"{self!r} is no method of this engine", field="method")

    # --- how it walks back -------------------------------------------------------------------------------------------

    @property
    def rules(self) -> LRP | None:
        """The relevance rules of the walk back, which account for the whole value; None: derivatives."""
        return None

    @property
    def divides_by_gates(self) -> bool:
        """Whether the walk back divides by pre-activations of gates, which may be small, and so takes float64."""
        return False

    # --- what it costs -----------------------------------------------------------------------------------------------

    @property
    def fixed_runs(self) -> int:
        """How often it runs the model at least, whatever the inputs are."""
        return 1

    def runs(self, players: CountPlayers) -> int:
        """How often it runs the model on the whole batch; 1 for a forward pass and a walk back."""
        return self.fixed_runs

    @property
    def walk(self) -> Method | None:
        """The walk back that it makes, once or many times; None for a method that asks for predictions only."""
        return self if self.propagates else None

    def memory(self, cost: Cost) -> float:
        """Bytes that it takes at most."""
        return cost.one

    @property
    def kept(self) -> object:
        """What decides how much its walk back keeps: methods with equal values take the same memory."""
        return True

    @property
    def variant(self) -> str:
        """Which of its parameters' values decides how long a run takes."""
        return ""

    # --- how it is asked, and what is said of its answers ------------------------------------------------------------

    @property
    def plain(self) -> bool:
        """Whether every parameter is a number or a word: nothing is given sample by sample, and equal methods are
        interchangeable."""
        return True

    def cheapest(self) -> Self:
        """The method with parameters that find a value which is not finite at the least expense."""
        return self

    def not_finite(self) -> MethodError | None:
        """The error where a parameter of the method itself is why the answer is not finite."""
        return None

    def advice(self, broken: Promise) -> str:
        """What a caller can do whose answer does not keep a promise."""
        return "compare it with occlusion"


class BaselineMethod(Method):
    """Base of the methods that compare the input with a baseline.

    baseline: None for zeros (a token's vector of zeros for IntegratedGradients, the token 0 for the others), a number,
    an array that broadcasts to the input (one entry a feature, say), or any of these by input.
    """

    baseline: Baseline

    def against(self, baseline: Baseline) -> Self:
        """The method with another baseline."""
        return type(self)(**{**self.parameters(), "baseline": baseline})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.parameters(), other.parameters()
        return all(_same(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        return hash((type(self), *(value for name, value in self.parameters().items() if name != "baseline")))

    @property
    def plain(self) -> bool:
        return self.baseline is None or isinstance(self.baseline, (int, float))

    def advice(self, broken: Promise) -> str:
        return "try another baseline"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    return type(a) is type(b) and (np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)
