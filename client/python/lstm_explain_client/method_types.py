"""The methods as types. A parameter at None takes the server's default; an answer has every parameter set.

Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from lstm_explain_client.method_base import Method, Parameters, Record

# How a gate and its signal share the relevance of their product (Arras et al. 2019, arXiv 1909.12114).
# "all" (the default): "Signal takes all": the signal receives all relevance, the gate none.
# "half": Gate and signal receive one half each.
# "prop": Gate and signal share relevance in proportion to their values.
# "abs": Gate and signal share relevance in proportion to their absolute values.
# "attn": As ALL, except in attention, which has the rules of AttnLRP (Achtibat et al. 2024, arXiv 2402.05602): products
# of weights and values, and of queries and keys, give each operand one half, and the softmax has a rule of its own.
ProductRule = Literal["all", "half", "prop", "abs", "attn"]
# The quantity whose change Occlusion measures.
# "score" (the default): The explained value.
# "probability": The output itself if it ends in Softmax or Sigmoid; otherwise its Softmax.
Quantity = Literal["score", "probability"]
# The units of the input that Occlusion, ShapleySampling and Counterfactual replace.
# "steps" (the default): Time steps.
# "features": Features, each over all time steps.
# "cells": Every feature of every time step.
# "groups": The groups of the request, which take the place of any other units.
Players = Literal["steps", "features", "cells", "groups"]


@dataclass(frozen=True)
class Rule(Parameters):
    """The share of the relevance of output j of a layer that its input i receives. Recurrent layers accept only
    Epsilon.
    """


@dataclass(frozen=True)
class Epsilon(Rule):
    """x_i w_ij divided by the stabilised sum (Bach et al. 2015, equation 58).

    epsilon: The stabiliser. Must not be negative. Default: 1e-6.
    """

    name: ClassVar[str] = "epsilon"
    epsilon: float | None = None


@dataclass(frozen=True)
class Gamma(Rule):
    """As Epsilon, but contributions with the sign of the output are increased by the factor gamma (Montavon et al.
    2019, section 10.2.3).

    gamma: Must not be negative. Default: 0.25.
    """

    name: ClassVar[str] = "gamma"
    gamma: float | None = None


@dataclass(frozen=True)
class ZPlus(Rule):
    """Uses positive contributions only (Montavon et al. 2017, equation 12)."""

    name: ClassVar[str] = "z_plus"


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """alpha times the positive share minus beta times the negative share (Bach et al. 2015, equation 60).

    alpha: alpha - beta must be 1. Default: 2.
    beta: Must not be negative. Default: 1.
    """

    name: ClassVar[str] = "alpha_beta"
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True)
class Flat(Rule):
    """Distributes relevance in equal shares (Lapuschkin et al. 2019)."""

    name: ClassVar[str] = "flat"


@dataclass(frozen=True)
class ZBox(Rule):
    """For inputs between two bounds: x_i w_ij - low w_ij+ - high w_ij-, divided by the sum of these terms (Montavon et
    al. 2017, section 5.3).

    low: Lower bound of all inputs. Required.
    high: Upper bound of all inputs, greater than `low`. Required.
    """

    name: ClassVar[str] = "z_box"
    low: float
    high: float


@dataclass(frozen=True)
class WSquare(Rule):
    """For inputs without bounds: w_ij^2 divided by the sum of these squares (Montavon et al. 2017)."""

    name: ClassVar[str] = "w_square"


@dataclass(frozen=True)
class Composite(Record):
    """Rules per layer (Anders et al. 2021, arXiv 2106.13200). Layers without a rule, and all other nodes, use the
    stabiliser of `Lrp`.

    rules: The rules by the name of a node, of an operator (`Gemm`), or of a kind of layer (`dense`: MatMul, Gemm;
        `convolution`: Conv, ConvTranspose). The name of a node takes precedence, then `first`, the operator, and the
        kind.
    first: The rule for layers that read the input before any other layer does.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    first: Rule | None = None


@dataclass(frozen=True, eq=False)
class Background(Record):
    """A background set: samples from data that take the place of one baseline. The answer is the mean of the answers
    against each of the samples that are drawn from the set.

    samples: The samples: one tensor per input, by name, with the samples along the first axis and then the shape of the
        input without its batch axis. An input without a tensor keeps its own values and gets no relevance. If empty,
        the samples of the model (`background.npz` in its folder). Responses omit the samples.
    draws: Number of samples that are drawn, without replacement; all of them if the set has no more. The cost of a
        request grows in proportion. Default: 20.
    seed: Seed of the random number generator that draws them. Default: 0.
    """

    samples: Mapping[str, Any] | None = None
    draws: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Span(Record):
    """Consecutive time steps.

    start: The first step, counted from 0. Required.
    end: The step after the last one, greater than `start`. Required.
    """

    start: int
    end: int


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise relevance propagation (Arras et al. 2017, arXiv 1706.07206, equation 1). Relevance is divided by sums
    z, which a stabiliser keeps from zero: the relative one, or the absolute `epsilon`. The relative one divides by z +
    beta * (S - |z|) * sign(z), where S is the sum of the absolute terms of z, and has one beta for each kind of sum.

    product_rule: How a gate and its signal share the relevance of their product (Arras et al. 2019, arXiv 1909.12114).
        Default: "all".
    epsilon: The absolute stabiliser: relevance is divided by z + epsilon * sign(z). Must not be negative, and excludes
        the fields of the relative stabiliser: a request that sets one kind drops the other kind of the model's default.
        Default: none. The papers use 0.001.
    bias_factor: The share of the relevance of the bias and the stabiliser that is distributed to the inputs of a sum,
        in [0, 1]. Default: 0, so that bias and stabiliser absorb it.
    composite: Different rules for some dense and convolutional layers. Default: none.
    stabiliser: The relative stabiliser's beta for the pre-activations of recurrent layers. Must not be negative.
        Default: 0.1.
    cell_stabiliser: Its beta for the sums that carry the state of recurrent layers. Must not be negative. Default: 0.
    layer_stabiliser: Its beta for all other layers. Must not be negative. Default: 0.02.
    ceiling: The most that the density of relevance (relevance over state) grows on its way back through the hidden
        states of a recurrent layer, as a multiple of the density that arrives from above. At least 1. Default: 10.
    """

    name: ClassVar[str] = "lrp"
    absorbed: ClassVar[str] = "kept by biases and stabilisers"
    residual: ClassVar[str] = "rounding"
    product_rule: ProductRule | None = None
    epsilon: float | None = None
    bias_factor: float | None = None
    composite: Composite | None = None
    stabiliser: float | None = None
    cell_stabiliser: float | None = None
    layer_stabiliser: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True)
class Gradient(Method):
    """Partial derivatives of the explained value."""

    name: ClassVar[str] = "gradient"
    absorbed: ClassVar[str] = "kept by nothing"
    residual: ClassVar[str] = "not explained: derivatives are no shares"


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Partial derivatives times the input."""

    name: ClassVar[str] = "gradient_times_input"
    absorbed: ClassVar[str] = "kept by nothing"
    residual: ClassVar[str] = "what is not linear"


@dataclass(frozen=True, eq=False)
class IntegratedGradients(Method):
    """Gradients averaged along the straight line from the baseline to the input (Sundararajan et al. 2017).

    steps: Number of points on the line to begin with. Default: 50.
    baseline: The starting point: one tensor per input, by name. An input without a tensor starts at zero. The tensor is
        broadcast to the shape of the input: it is a scalar, has one entry per feature, or has the whole shape. For
        token ids, the tokens whose embeddings are the starting point.
    max_steps: Points are added until the error of the integral is within 1 % of the explained value, or until there are
        this many points; if this is less than `steps`, no points are added. The response contains the number of points
        in `steps_used`. Default: 500.
    background: The background set to start from, instead of `baseline` (expected gradients, Erion et al. 2021, arXiv
        1906.10670).
    """

    name: ClassVar[str] = "integrated_gradients"
    absorbed: ClassVar[str] = "score of the baseline"
    residual: ClassVar[str] = "error of the integral (convergence delta)"
    steps: int | None = None
    baseline: Mapping[str, Any] | None = None
    max_steps: int | None = None
    background: Background | None = None


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Gradients averaged over noisy copies of the input (Smilkov et al. 2017).

    samples: Number of noisy copies. Default: 25.
    noise: Standard deviation of the noise, as a fraction of the range of each feature over time. Default: 0.1.
    seed: Seed of the random number generator. Default: 0.
    """

    name: ClassVar[str] = "smooth_grad"
    absorbed: ClassVar[str] = "kept by nothing"
    residual: ClassVar[str] = "not explained: derivatives are no shares"
    samples: int | None = None
    noise: float | None = None
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Occlusion(Method):
    """How much the explained value decreases when a baseline replaces a window of time steps, a feature or a cell.

    window: Number of time steps that are replaced together. Must be 1 unless `over` is STEPS. Default: 1.
    baseline: The replacement: one tensor per input, by name, that is broadcast to the shape of the input. The default
        is zero.
    of: The quantity whose decrease is measured. Default: "score".
    over: The parts that are replaced. Default: "steps".
    background: The background set whose samples replace them, instead of `baseline`.
    """

    name: ClassVar[str] = "occlusion"
    absorbed: ClassVar[str] = "score of the baseline"
    residual: ClassVar[str] = "what the units do together"
    window: int | None = None
    baseline: Mapping[str, Any] | None = None
    of: Quantity | None = None
    over: Players | None = None
    background: Background | None = None


@dataclass(frozen=True, eq=False)
class ShapleySampling(Method):
    """Shapley values, exact for few players and otherwise estimated over random permutations. Every second permutation
    is the reverse of the previous one.

    permutations: Number of permutations. The samples drawn from a background set share them, but each has at least
        four. Default: 25.
    seed: Seed of the random number generator. Default: 0.
    baseline: The value of absent players: one tensor per input, by name, that is broadcast to the shape of the input.
        The default is zero.
    over: The players. Default: "steps".
    background: The background set whose samples absent players take their values from, instead of `baseline`.
    standard_error: Permutations are added until no player of any sample has a larger standard error than this, in units
        of the explained value, or until there are `max_permutations`, which is a warning. Draws from a background set
        add an error of their own, which more permutations do not lower. Default: none, so that no permutations are
        added.
    max_permutations: Number of permutations at most, where `standard_error` is set. Default: 1000.
    exact_players: Up to this many players, the model scores every coalition (2 to the power of the number of players),
        and the values are exact. At most 13; 0 for never. Default: 10.
    """

    name: ClassVar[str] = "shapley_sampling"
    absorbed: ClassVar[str] = "score of the baseline"
    residual: ClassVar[str] = "rounding"
    permutations: int | None = None
    seed: int | None = None
    baseline: Mapping[str, Any] | None = None
    over: Players | None = None
    background: Background | None = None
    standard_error: float | None = None
    max_permutations: int | None = None
    exact_players: int | None = None


@dataclass(frozen=True)
class ContextualDecomposition(Method):
    """Contextual decomposition of LSTMs (Murdoch et al. 2018, arXiv 1801.05453): what each time step contributes by
    itself.

    span: Time steps that are valued as one phrase; every other step is valued by itself. Must lie within the sequence
        of every sample. The value of the span is divided equally among its steps. Default: none.
    """

    name: ClassVar[str] = "contextual_decomposition"
    absorbed: ClassVar[str] = "constant of the readout"
    residual: ClassVar[str] = "what steps do together"
    unit: ClassVar[str] = "steps"
    span: Span | None = None


@dataclass(frozen=True, eq=False)
class GradientShap(Method):
    """Gradients at random points on the line from the baseline to the input, times the difference, averaged: an
    estimate of integrated gradients with a standard error (Lundberg and Lee 2017, arXiv 1705.07874).

    samples: Number of points. The samples drawn from a background set share them, but each has at least two. Default:
        50.
    seed: Seed of the random number generator. Default: 0.
    baseline: The starting point, as in IntegratedGradients. The default is zero.
    background: The background set to start from, instead of `baseline`.
    """

    name: ClassVar[str] = "gradient_shap"
    absorbed: ClassVar[str] = "score of the baseline"
    residual: ClassVar[str] = "error of the sampling"
    samples: int | None = None
    seed: int | None = None
    baseline: Mapping[str, Any] | None = None
    background: Background | None = None


@dataclass(frozen=True, eq=False)
class Counterfactual(Method):
    """The fewest time steps, features or cells whose replacement turns the prediction, found greedily in the order of
    their relevance and checked by the model (after Martens and Provost 2014). The replaced ones have the relevance that
    the margin regains when they are put back; all others have zero. `explained` is the margin: the target's entry minus
    the largest other one, or the value minus `threshold`. The prediction has turned where `ledger.absorbed`, the margin
    of the changed input, has the other sign; where it cannot be turned, no relevance is set and a warning says so.
    `steps_used` is the number of runs of the model.

    most: The most units that are replaced. Default: 0, any number.
    max_runs: How often the model may run to put units back that need not be replaced, for each draw from a background
        set. Default: 1000.
    threshold: The prediction turns where the explained value crosses this number. Default: none, where another entry of
        the output becomes the largest, or the logit of an output of one entry crosses zero.
    baseline: The replacement: one tensor per input, by name, that is broadcast to the shape of the input. The default
        is zero.
    over: The parts that are replaced. Default: "steps".
    background: The background set whose samples replace them, instead of `baseline`. Each is tried; the one is kept
        that needs the fewest units.
    """

    name: ClassVar[str] = "counterfactual"
    absorbed: ClassVar[str] = "margin of the changed input"
    residual: ClassVar[str] = "what the replaced units do together"
    most: int | None = None
    max_runs: int | None = None
    threshold: float | None = None
    baseline: Mapping[str, Any] | None = None
    over: Players | None = None
    background: Background | None = None


METHODS: dict[str, type[Method]] = {
    cls.name: cls
    for cls in (
        LRP,
        Gradient,
        GradientTimesInput,
        IntegratedGradients,
        SmoothGrad,
        Occlusion,
        ShapleySampling,
        ContextualDecomposition,
        GradientShap,
        Counterfactual,
    )
}
# The classes that a message stands for: one, or those of its oneof.
TYPES: dict[str, tuple[type[Parameters], ...]] = {
    "Method": tuple(METHODS.values()),
    "Rule": (Epsilon, Gamma, ZPlus, AlphaBeta, Flat, ZBox, WSquare),
    "Composite": (Composite,),
    "Background": (Background,),
    "Span": (Span,),
}

__all__ = [
    "LRP",
    "AlphaBeta",
    "Background",
    "Composite",
    "ContextualDecomposition",
    "Counterfactual",
    "Epsilon",
    "Flat",
    "Gamma",
    "Gradient",
    "GradientShap",
    "GradientTimesInput",
    "IntegratedGradients",
    "Occlusion",
    "Rule",
    "ShapleySampling",
    "SmoothGrad",
    "Span",
    "WSquare",
    "ZBox",
    "ZPlus",
]
