# SPDX-License-Identifier: Apache-2.0
"""Declares layer-wise relevance propagation and its parameters; `program/steps` implements its rules."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lstm_explain.errors import MethodError
from lstm_explain.methods.base import Batching, Method, Promise, Words
from lstm_explain.methods.composite import Composite
from lstm_explain.methods.parameters import parameter
from lstm_explain.methods.stabiliser import DEFAULT, Stabiliser

if TYPE_CHECKING:
    from lstm_explain.runner.cost import Cost

ProductRule = Literal["all", "half", "prop", "abs", "attn"]
GateRule = Literal["all", "half", "prop", "abs"]
# A single sample that float32 cannot represent is explained again in float64, which then takes twice the memory of the
# first pass. Whether that happens is not known in advance, so the estimate lies in between.
REPEAT_FACTOR = 1.4
RELATIVE = ("stabiliser", "cell_stabiliser", "layer_stabiliser", "ceiling")  # as `Stabiliser` has them


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise relevance propagation: relevance is shared in proportion to the terms of each sum.

    Arras et al. 2017 (arXiv 1706.07206), equation 1; product rules: Arras et al. 2019 (arXiv 1909.12114), section 3.

    product_rule: what gate and signal receive: "all" (the signal takes all), "half", "prop", "abs"; "attn" is "all",
        with the rules of AttnLRP in attention (Achtibat et al. 2024, arXiv 2402.05602).
    epsilon: the papers' absolute stabiliser, z + epsilon * sign(z), not negative. It excludes the relative one.
    bias_factor: the share of bias and stabiliser that goes to the inputs of a sum, in [0, 1]; the rest is absorbed.
        Whatever it is, what the ceiling takes away is absorbed.
    composite: other rules for some dense and convolutional layers.
    stabiliser, cell_stabiliser, layer_stabiliser, ceiling: the relative stabiliser, see `Stabiliser`. `stabiliser` may
        be a pair, of pre-activations and cells. What is None has that class's default, which is sound at any length.
    """

    name: ClassVar[str] = "lrp"
    words: ClassVar[Words] = Words(
        label="LRP",
        hint="passes the prediction back, layer by layer; accounts for all of it",
        absorbed="kept by biases and stabilisers",
        residual="rounding",
        relevance="the explained value, propagated back layer by layer",
        runs="1, and one backward pass",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES, Promise.COMPLETE, Promise.MOST_ARRIVES})
    batching: ClassVar[Batching] = Batching.PADDED
    propagates: ClassVar[bool] = True
    before_activation: ClassVar[bool] = True  # a share of a probability would depend on the logits of the other classes
    gates: ClassVar[bool] = True
    on_overflow: ClassVar[str] = "a larger stabiliser damps it"
    product_rule: ProductRule = parameter(
        "all",
        "Gate and signal",
        choices={
            "all": "all to the signal",
            "half": "half each",
            "prop": "in proportion",
            "abs": "in absolute proportion",
            "attn": "all to the signal; in attention, half each",
        },
    )
    epsilon: float | None = parameter(None, "Stabiliser ε", least=0.0)
    bias_factor: float = parameter(0.0, "Bias factor", least=0.0, most=1.0)
    composite: Composite | None = None
    stabiliser: float | Sequence[float] | None = parameter(
        None, "Stabiliser β", least=0.0, absent=DEFAULT.pre_activations
    )
    cell_stabiliser: float | None = parameter(None, "Stabiliser β of the cell", least=0.0, absent=DEFAULT.cells)
    layer_stabiliser: float | None = parameter(None, "Stabiliser β of other layers", least=0.0, absent=DEFAULT.layers)
    ceiling: float | None = parameter(None, "Ceiling of growth", least=1.0, absent=DEFAULT.ceiling)

    def __post_init__(self) -> None:
        if isinstance(self.stabiliser, (tuple, list)):
            if len(self.stabiliser) != 2:
                raise MethodError(
                    f"lrp: stabiliser is {self.stabiliser!r}, expected a number, or a pair (pre-activations, cells)",
                    field="method.stabiliser",
                )
            pre_activations, cells = self.stabiliser
            self._set("stabiliser", pre_activations)
            self._set("cell_stabiliser", cells)
        given = {name: getattr(self, name) for name in RELATIVE if getattr(self, name) is not None}
        if self.epsilon is None:
            for name, default in zip(RELATIVE, DEFAULT, strict=True):
                self._set(name, given.get(name, default))
        elif given:
            name, value = next(iter(given.items()))
            raise MethodError(
                f"lrp: {name} is {value!r} and epsilon {self.epsilon!r}, expected one of them: they exclude each other",
                field=f"method.{name}",
            )
        super().__post_init__()
        if self.composite is not None and not isinstance(self.composite, Composite):
            raise MethodError(
                f"lrp: composite is {self.composite!r}, expected a Composite or None", field="method.composite"
            )

    def kept_beside(self, names: Collection[str]) -> dict[str, Any]:
        """Epsilon and the relative stabiliser exclude each other: where one is replaced, the other is dropped."""
        dropped = RELATIVE if "epsilon" in names else ()
        if any(name in names for name in RELATIVE):
            dropped = ("epsilon", *dropped)
        return {name: value for name, value in super().kept_beside(names).items() if name not in dropped}

    @property
    def rules(self) -> LRP:
        return self

    @property
    def attention(self) -> bool:
        """Whether attention has rules of its own (program/attention.py)."""
        return self.product_rule == "attn"

    @property
    def gate_rule(self) -> GateRule:
        """The product rule of gates and their signals."""
        return "all" if self.product_rule == "attn" else self.product_rule

    @property
    def needs_float64(self) -> bool:
        """Under the other rules, gates divide the relevance that they receive by their pre-activations. The relative
        stabiliser keeps these divisors at a distance from zero that float32 resolves, epsilon does not.
        """
        return self.gate_rule != "all" and self.relative is None

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @cached_property
    def relative(self) -> Stabiliser | None:
        """The relative stabiliser; None where `epsilon` is given."""
        if self.epsilon is not None:
            return None
        return Stabiliser(*(float(getattr(self, name)) for name in RELATIVE))

    def absolute(self, epsilon: float) -> LRP:
        """The same with an absolute stabiliser."""
        return LRP(self.product_rule, epsilon, self.bias_factor, self.composite)

    def memory(self, cost: Cost) -> float:
        """The other product rules start in float64, and the samples of a batch are repeated a few at a time."""
        return cost.pass_bytes * REPEAT_FACTOR if cost.batch == 1 and self.gate_rule == "all" else cost.pass_bytes

    @property
    def memory_class(self) -> object:
        return self.product_rule, self.bias_factor > 0, self.composite is not None, self.epsilon is None

    @property
    def variant(self) -> str:
        """ "all" takes half as long as the other rules."""
        return self.product_rule

    @property
    def is_scalar(self) -> bool:
        return self.composite is None

    def advice(self, broken: Promise) -> str:
        if broken is Promise.MOST_ARRIVES:
            return "the ledger shows at which nodes; a smaller stabiliser or a bias_factor of 1 passes more of it on"
        damps = "a larger stabiliser damps it"
        if self.epsilon is not None:
            damps = "a larger epsilon damps it, and so does the relative stabiliser in its place"
        return damps if self.gate_rule == "all" else f"{damps}; product rule 'all' avoids most of it"
