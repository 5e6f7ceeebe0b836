from lstm_explain_proto.lstm_explain.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProductRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRODUCT_RULE_UNSPECIFIED: _ClassVar[ProductRule]
    PRODUCT_RULE_ALL: _ClassVar[ProductRule]
    PRODUCT_RULE_HALF: _ClassVar[ProductRule]
    PRODUCT_RULE_PROP: _ClassVar[ProductRule]
    PRODUCT_RULE_ABS: _ClassVar[ProductRule]
    PRODUCT_RULE_ATTN: _ClassVar[ProductRule]

class Quantity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUANTITY_UNSPECIFIED: _ClassVar[Quantity]
    QUANTITY_SCORE: _ClassVar[Quantity]
    QUANTITY_PROBABILITY: _ClassVar[Quantity]

class Players(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLAYERS_UNSPECIFIED: _ClassVar[Players]
    PLAYERS_STEPS: _ClassVar[Players]
    PLAYERS_FEATURES: _ClassVar[Players]
    PLAYERS_CELLS: _ClassVar[Players]
    PLAYERS_GROUPS: _ClassVar[Players]
PRODUCT_RULE_UNSPECIFIED: ProductRule
PRODUCT_RULE_ALL: ProductRule
PRODUCT_RULE_HALF: ProductRule
PRODUCT_RULE_PROP: ProductRule
PRODUCT_RULE_ABS: ProductRule
PRODUCT_RULE_ATTN: ProductRule
QUANTITY_UNSPECIFIED: Quantity
QUANTITY_SCORE: Quantity
QUANTITY_PROBABILITY: Quantity
PLAYERS_UNSPECIFIED: Players
PLAYERS_STEPS: Players
PLAYERS_FEATURES: Players
PLAYERS_CELLS: Players
PLAYERS_GROUPS: Players

class Method(_message.Message):
    __slots__ = ("lrp", "gradient", "gradient_times_input", "integrated_gradients", "smooth_grad", "occlusion", "shapley_sampling", "contextual_decomposition", "gradient_shap", "counterfactual")
    LRP_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_TIMES_INPUT_FIELD_NUMBER: _ClassVar[int]
    INTEGRATED_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_GRAD_FIELD_NUMBER: _ClassVar[int]
    OCCLUSION_FIELD_NUMBER: _ClassVar[int]
    SHAPLEY_SAMPLING_FIELD_NUMBER: _ClassVar[int]
    CONTEXTUAL_DECOMPOSITION_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_SHAP_FIELD_NUMBER: _ClassVar[int]
    COUNTERFACTUAL_FIELD_NUMBER: _ClassVar[int]
    lrp: Lrp
    gradient: Gradient
    gradient_times_input: GradientTimesInput
    integrated_gradients: IntegratedGradients
    smooth_grad: SmoothGrad
    occlusion: Occlusion
    shapley_sampling: ShapleySampling
    contextual_decomposition: ContextualDecomposition
    gradient_shap: GradientShap
    counterfactual: Counterfactual
    def __init__(self, lrp: _Optional[_Union[Lrp, _Mapping]] = ..., gradient: _Optional[_Union[Gradient, _Mapping]] = ..., gradient_times_input: _Optional[_Union[GradientTimesInput, _Mapping]] = ..., integrated_gradients: _Optional[_Union[IntegratedGradients, _Mapping]] = ..., smooth_grad: _Optional[_Union[SmoothGrad, _Mapping]] = ..., occlusion: _Optional[_Union[Occlusion, _Mapping]] = ..., shapley_sampling: _Optional[_Union[ShapleySampling, _Mapping]] = ..., contextual_decomposition: _Optional[_Union[ContextualDecomposition, _Mapping]] = ..., gradient_shap: _Optional[_Union[GradientShap, _Mapping]] = ..., counterfactual: _Optional[_Union[Counterfactual, _Mapping]] = ...) -> None: ...

class Lrp(_message.Message):
    __slots__ = ("product_rule", "epsilon", "bias_factor", "composite", "stabiliser", "cell_stabiliser", "layer_stabiliser", "ceiling")
    PRODUCT_RULE_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    BIAS_FACTOR_FIELD_NUMBER: _ClassVar[int]
    COMPOSITE_FIELD_NUMBER: _ClassVar[int]
    STABILISER_FIELD_NUMBER: _ClassVar[int]
    CELL_STABILISER_FIELD_NUMBER: _ClassVar[int]
    LAYER_STABILISER_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    product_rule: ProductRule
    epsilon: float
    bias_factor: float
    composite: Composite
    stabiliser: float
    cell_stabiliser: float
    layer_stabiliser: float
    ceiling: float
    def __init__(self, product_rule: _Optional[_Union[ProductRule, str]] = ..., epsilon: _Optional[float] = ..., bias_factor: _Optional[float] = ..., composite: _Optional[_Union[Composite, _Mapping]] = ..., stabiliser: _Optional[float] = ..., cell_stabiliser: _Optional[float] = ..., layer_stabiliser: _Optional[float] = ..., ceiling: _Optional[float] = ...) -> None: ...

class Composite(_message.Message):
    __slots__ = ("rules", "first")
    class RulesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Rule
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Rule, _Mapping]] = ...) -> None: ...
    RULES_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.MessageMap[str, Rule]
    first: Rule
    def __init__(self, rules: _Optional[_Mapping[str, Rule]] = ..., first: _Optional[_Union[Rule, _Mapping]] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("epsilon", "gamma", "z_plus", "alpha_beta", "flat", "z_box", "w_square")
    class Epsilon(_message.Message):
        __slots__ = ("epsilon",)
        EPSILON_FIELD_NUMBER: _ClassVar[int]
        epsilon: float
        def __init__(self, epsilon: _Optional[float] = ...) -> None: ...
    class Gamma(_message.Message):
        __slots__ = ("gamma",)
        GAMMA_FIELD_NUMBER: _ClassVar[int]
        gamma: float
        def __init__(self, gamma: _Optional[float] = ...) -> None: ...
    class ZPlus(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class AlphaBeta(_message.Message):
        __slots__ = ("alpha", "beta")
        ALPHA_FIELD_NUMBER: _ClassVar[int]
        BETA_FIELD_NUMBER: _ClassVar[int]
        alpha: float
        beta: float
        def __init__(self, alpha: _Optional[float] = ..., beta: _Optional[float] = ...) -> None: ...
    class Flat(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class ZBox(_message.Message):
        __slots__ = ("low", "high")
        LOW_FIELD_NUMBER: _ClassVar[int]
        HIGH_FIELD_NUMBER: _ClassVar[int]
        low: float
        high: float
        def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...
    class WSquare(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    Z_PLUS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_BETA_FIELD_NUMBER: _ClassVar[int]
    FLAT_FIELD_NUMBER: _ClassVar[int]
    Z_BOX_FIELD_NUMBER: _ClassVar[int]
    W_SQUARE_FIELD_NUMBER: _ClassVar[int]
    epsilon: Rule.Epsilon
    gamma: Rule.Gamma
    z_plus: Rule.ZPlus
    alpha_beta: Rule.AlphaBeta
    flat: Rule.Flat
    z_box: Rule.ZBox
    w_square: Rule.WSquare
    def __init__(self, epsilon: _Optional[_Union[Rule.Epsilon, _Mapping]] = ..., gamma: _Optional[_Union[Rule.Gamma, _Mapping]] = ..., z_plus: _Optional[_Union[Rule.ZPlus, _Mapping]] = ..., alpha_beta: _Optional[_Union[Rule.AlphaBeta, _Mapping]] = ..., flat: _Optional[_Union[Rule.Flat, _Mapping]] = ..., z_box: _Optional[_Union[Rule.ZBox, _Mapping]] = ..., w_square: _Optional[_Union[Rule.WSquare, _Mapping]] = ...) -> None: ...

class Gradient(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GradientTimesInput(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Background(_message.Message):
    __slots__ = ("samples", "draws", "seed")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    draws: int
    seed: int
    def __init__(self, samples: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., draws: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class IntegratedGradients(_message.Message):
    __slots__ = ("steps", "baseline", "max_steps", "background")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    steps: int
    baseline: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    max_steps: int
    background: Background
    def __init__(self, steps: _Optional[int] = ..., baseline: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., max_steps: _Optional[int] = ..., background: _Optional[_Union[Background, _Mapping]] = ...) -> None: ...

class GradientShap(_message.Message):
    __slots__ = ("samples", "seed", "baseline", "background")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    samples: int
    seed: int
    baseline: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    background: Background
    def __init__(self, samples: _Optional[int] = ..., seed: _Optional[int] = ..., baseline: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., background: _Optional[_Union[Background, _Mapping]] = ...) -> None: ...

class SmoothGrad(_message.Message):
    __slots__ = ("samples", "noise", "seed")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    samples: int
    noise: float
    seed: int
    def __init__(self, samples: _Optional[int] = ..., noise: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class Occlusion(_message.Message):
    __slots__ = ("window", "baseline", "of", "over", "background")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    window: int
    baseline: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    of: Quantity
    over: Players
    background: Background
    def __init__(self, window: _Optional[int] = ..., baseline: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., of: _Optional[_Union[Quantity, str]] = ..., over: _Optional[_Union[Players, str]] = ..., background: _Optional[_Union[Background, _Mapping]] = ...) -> None: ...

class Counterfactual(_message.Message):
    __slots__ = ("most", "max_runs", "threshold", "baseline", "over", "background")
    MOST_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    most: int
    max_runs: int
    threshold: float
    baseline: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    over: Players
    background: Background
    def __init__(self, most: _Optional[int] = ..., max_runs: _Optional[int] = ..., threshold: _Optional[float] = ..., baseline: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., over: _Optional[_Union[Players, str]] = ..., background: _Optional[_Union[Background, _Mapping]] = ...) -> None: ...

class ShapleySampling(_message.Message):
    __slots__ = ("permutations", "seed", "baseline", "over", "background", "standard_error", "max_permutations", "exact_players")
    PERMUTATIONS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    MAX_PERMUTATIONS_FIELD_NUMBER: _ClassVar[int]
    EXACT_PLAYERS_FIELD_NUMBER: _ClassVar[int]
    permutations: int
    seed: int
    baseline: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    over: Players
    background: Background
    standard_error: float
    max_permutations: int
    exact_players: int
    def __init__(self, permutations: _Optional[int] = ..., seed: _Optional[int] = ..., baseline: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., over: _Optional[_Union[Players, str]] = ..., background: _Optional[_Union[Background, _Mapping]] = ..., standard_error: _Optional[float] = ..., max_permutations: _Optional[int] = ..., exact_players: _Optional[int] = ...) -> None: ...

class ContextualDecomposition(_message.Message):
    __slots__ = ("span",)
    SPAN_FIELD_NUMBER: _ClassVar[int]
    span: Span
    def __init__(self, span: _Optional[_Union[Span, _Mapping]] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...
