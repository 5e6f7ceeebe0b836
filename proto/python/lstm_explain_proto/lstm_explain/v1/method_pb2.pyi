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
PRODUCT_RULE_UNSPECIFIED: ProductRule
PRODUCT_RULE_ALL: ProductRule
PRODUCT_RULE_HALF: ProductRule
PRODUCT_RULE_PROP: ProductRule
PRODUCT_RULE_ABS: ProductRule

class Method(_message.Message):
    __slots__ = ("lrp", "gradient", "gradient_times_input", "integrated_gradients", "smooth_grad", "occlusion", "shapley_sampling", "contextual_decomposition")
    LRP_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_TIMES_INPUT_FIELD_NUMBER: _ClassVar[int]
    INTEGRATED_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_GRAD_FIELD_NUMBER: _ClassVar[int]
    OCCLUSION_FIELD_NUMBER: _ClassVar[int]
    SHAPLEY_SAMPLING_FIELD_NUMBER: _ClassVar[int]
    CONTEXTUAL_DECOMPOSITION_FIELD_NUMBER: _ClassVar[int]
    lrp: Lrp
    gradient: Gradient
    gradient_times_input: GradientTimesInput
    integrated_gradients: IntegratedGradients
    smooth_grad: SmoothGrad
    occlusion: Occlusion
    shapley_sampling: ShapleySampling
    contextual_decomposition: ContextualDecomposition
    def __init__(self, lrp: _Optional[_Union[Lrp, _Mapping]] = ..., gradient: _Optional[_Union[Gradient, _Mapping]] = ..., gradient_times_input: _Optional[_Union[GradientTimesInput, _Mapping]] = ..., integrated_gradients: _Optional[_Union[IntegratedGradients, _Mapping]] = ..., smooth_grad: _Optional[_Union[SmoothGrad, _Mapping]] = ..., occlusion: _Optional[_Union[Occlusion, _Mapping]] = ..., shapley_sampling: _Optional[_Union[ShapleySampling, _Mapping]] = ..., contextual_decomposition: _Optional[_Union[ContextualDecomposition, _Mapping]] = ...) -> None: ...

class Lrp(_message.Message):
    __slots__ = ("product_rule", "epsilon", "bias_factor")
    PRODUCT_RULE_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    BIAS_FACTOR_FIELD_NUMBER: _ClassVar[int]
    product_rule: ProductRule
    epsilon: float
    bias_factor: float
    def __init__(self, product_rule: _Optional[_Union[ProductRule, str]] = ..., epsilon: _Optional[float] = ..., bias_factor: _Optional[float] = ...) -> None: ...

class Gradient(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GradientTimesInput(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class IntegratedGradients(_message.Message):
    __slots__ = ("steps", "baseline")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    steps: int
    baseline: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    def __init__(self, steps: _Optional[int] = ..., baseline: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("window", "baseline")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    window: int
    baseline: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    def __init__(self, window: _Optional[int] = ..., baseline: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ...) -> None: ...

class ShapleySampling(_message.Message):
    __slots__ = ("permutations", "seed", "baseline")
    PERMUTATIONS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    permutations: int
    seed: int
    baseline: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    def __init__(self, permutations: _Optional[int] = ..., seed: _Optional[int] = ..., baseline: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ...) -> None: ...

class ContextualDecomposition(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
