from lstm_explain_proto.lstm_explain.v1 import method_pb2 as _method_pb2
from lstm_explain_proto.lstm_explain.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MeasureKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEASURE_KIND_UNSPECIFIED: _ClassVar[MeasureKind]
    MEASURE_KIND_MEAN_SQUARED_ERROR: _ClassVar[MeasureKind]
    MEASURE_KIND_MEAN_ABSOLUTE_ERROR: _ClassVar[MeasureKind]
    MEASURE_KIND_L1_NORM: _ClassVar[MeasureKind]
    MEASURE_KIND_L2_NORM: _ClassVar[MeasureKind]
    MEASURE_KIND_LOG_PROBABILITY: _ClassVar[MeasureKind]
    MEASURE_KIND_PROBABILITY: _ClassVar[MeasureKind]
    MEASURE_KIND_PATH_SCORE: _ClassVar[MeasureKind]
MEASURE_KIND_UNSPECIFIED: MeasureKind
MEASURE_KIND_MEAN_SQUARED_ERROR: MeasureKind
MEASURE_KIND_MEAN_ABSOLUTE_ERROR: MeasureKind
MEASURE_KIND_L1_NORM: MeasureKind
MEASURE_KIND_L2_NORM: MeasureKind
MEASURE_KIND_LOG_PROBABILITY: MeasureKind
MEASURE_KIND_PROBABILITY: MeasureKind
MEASURE_KIND_PATH_SCORE: MeasureKind

class Target(_message.Message):
    __slots__ = ("output", "indices", "contrast_indices", "weights", "batch_axis", "no_batch_axis", "pre_activation", "measure")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_INDICES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    BATCH_AXIS_FIELD_NUMBER: _ClassVar[int]
    NO_BATCH_AXIS_FIELD_NUMBER: _ClassVar[int]
    PRE_ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    output: str
    indices: _containers.RepeatedScalarFieldContainer[int]
    contrast_indices: _containers.RepeatedScalarFieldContainer[int]
    weights: _tensor_pb2.Tensor
    batch_axis: int
    no_batch_axis: bool
    pre_activation: bool
    measure: Measure
    def __init__(self, output: _Optional[str] = ..., indices: _Optional[_Iterable[int]] = ..., contrast_indices: _Optional[_Iterable[int]] = ..., weights: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., batch_axis: _Optional[int] = ..., no_batch_axis: bool = ..., pre_activation: bool = ..., measure: _Optional[_Union[Measure, _Mapping]] = ...) -> None: ...

class Measure(_message.Message):
    __slots__ = ("kind", "ahead", "blank", "input", "tensor")
    KIND_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    BLANK_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    kind: MeasureKind
    ahead: int
    blank: int
    input: str
    tensor: _tensor_pb2.Tensor
    def __init__(self, kind: _Optional[_Union[MeasureKind, str]] = ..., ahead: _Optional[int] = ..., blank: _Optional[int] = ..., input: _Optional[str] = ..., tensor: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class TargetSet(_message.Message):
    __slots__ = ("target", "every")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    EVERY_FIELD_NUMBER: _ClassVar[int]
    target: Target
    every: Every
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., every: _Optional[_Union[Every, _Mapping]] = ...) -> None: ...

class Every(_message.Message):
    __slots__ = ("target", "axis", "entries")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    target: Target
    axis: int
    entries: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., axis: _Optional[int] = ..., entries: _Optional[_Iterable[int]] = ...) -> None: ...

class Groups(_message.Message):
    __slots__ = ("features", "model_features", "window", "words", "change_points")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FEATURES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    CHANGE_POINTS_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedCompositeFieldContainer[FeatureGroup]
    model_features: bool
    window: int
    words: bool
    change_points: ChangePoints
    def __init__(self, features: _Optional[_Iterable[_Union[FeatureGroup, _Mapping]]] = ..., model_features: bool = ..., window: _Optional[int] = ..., words: bool = ..., change_points: _Optional[_Union[ChangePoints, _Mapping]] = ...) -> None: ...

class ChangePoints(_message.Message):
    __slots__ = ("segments", "penalty")
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    PENALTY_FIELD_NUMBER: _ClassVar[int]
    segments: int
    penalty: float
    def __init__(self, segments: _Optional[int] = ..., penalty: _Optional[float] = ...) -> None: ...

class FeatureGroup(_message.Message):
    __slots__ = ("name", "input", "features")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    name: str
    input: str
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., input: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class GroupAnswer(_message.Message):
    __slots__ = ("relevance", "names", "steps", "standard_error")
    RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    relevance: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    names: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    steps: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    standard_error: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    def __init__(self, relevance: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., names: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., steps: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., standard_error: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ...) -> None: ...

class Through(_message.Message):
    __slots__ = ("value", "units")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    value: str
    units: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, value: _Optional[str] = ..., units: _Optional[_Iterable[int]] = ...) -> None: ...

class CapturedAxes(_message.Message):
    __slots__ = ("name", "batch_axis", "time_axis")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BATCH_AXIS_FIELD_NUMBER: _ClassVar[int]
    TIME_AXIS_FIELD_NUMBER: _ClassVar[int]
    name: str
    batch_axis: int
    time_axis: int
    def __init__(self, name: _Optional[str] = ..., batch_axis: _Optional[int] = ..., time_axis: _Optional[int] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("model", "version", "inputs", "target", "method", "capture", "parameters", "targets", "receipt", "condition", "groups", "through")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    target: Target
    method: _method_pb2.Method
    capture: _containers.RepeatedScalarFieldContainer[str]
    parameters: _containers.ScalarMap[str, str]
    targets: _containers.RepeatedCompositeFieldContainer[TargetSet]
    receipt: bool
    condition: str
    groups: Groups
    through: _containers.RepeatedCompositeFieldContainer[Through]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., method: _Optional[_Union[_method_pb2.Method, _Mapping]] = ..., capture: _Optional[_Iterable[str]] = ..., parameters: _Optional[_Mapping[str, str]] = ..., targets: _Optional[_Iterable[_Union[TargetSet, _Mapping]]] = ..., receipt: bool = ..., condition: _Optional[str] = ..., groups: _Optional[_Union[Groups, _Mapping]] = ..., through: _Optional[_Iterable[_Union[Through, _Mapping]]] = ...) -> None: ...

class Ledger(_message.Message):
    __slots__ = ("inputs", "initial_states", "absorbed", "residual", "by_node")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    INITIAL_STATES_FIELD_NUMBER: _ClassVar[int]
    ABSORBED_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    BY_NODE_FIELD_NUMBER: _ClassVar[int]
    inputs: _tensor_pb2.Tensor
    initial_states: _tensor_pb2.Tensor
    absorbed: _tensor_pb2.Tensor
    residual: _tensor_pb2.Tensor
    by_node: _containers.RepeatedCompositeFieldContainer[NodeShare]
    def __init__(self, inputs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., initial_states: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., absorbed: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., residual: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., by_node: _Optional[_Iterable[_Union[NodeShare, _Mapping]]] = ...) -> None: ...

class NodeShare(_message.Message):
    __slots__ = ("node", "absorbed")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ABSORBED_FIELD_NUMBER: _ClassVar[int]
    node: str
    absorbed: _tensor_pb2.Tensor
    def __init__(self, node: _Optional[str] = ..., absorbed: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class TargetAnswer(_message.Message):
    __slots__ = ("target", "warnings", "explained_quantity", "steps_used", "not_explained")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    STEPS_USED_FIELD_NUMBER: _ClassVar[int]
    NOT_EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    target: Target
    warnings: _containers.RepeatedScalarFieldContainer[str]
    explained_quantity: str
    steps_used: _containers.RepeatedScalarFieldContainer[int]
    not_explained: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ..., explained_quantity: _Optional[str] = ..., steps_used: _Optional[_Iterable[int]] = ..., not_explained: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("model", "version", "outputs", "explained", "relevance", "captured", "ledger", "method", "target", "tokens", "standard_error", "warnings", "explained_quantity", "steps_used", "targets", "receipt", "not_explained", "groups", "captured_axes")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    STEPS_USED_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    NOT_EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AXES_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    explained: _tensor_pb2.Tensor
    relevance: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    captured: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    ledger: Ledger
    method: _method_pb2.Method
    target: Target
    tokens: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    standard_error: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    explained_quantity: str
    steps_used: _containers.RepeatedScalarFieldContainer[int]
    targets: _containers.RepeatedCompositeFieldContainer[TargetAnswer]
    receipt: str
    not_explained: _containers.RepeatedScalarFieldContainer[str]
    groups: GroupAnswer
    captured_axes: _containers.RepeatedCompositeFieldContainer[CapturedAxes]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., outputs: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., explained: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., relevance: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., captured: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., ledger: _Optional[_Union[Ledger, _Mapping]] = ..., method: _Optional[_Union[_method_pb2.Method, _Mapping]] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., tokens: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., standard_error: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ..., explained_quantity: _Optional[str] = ..., steps_used: _Optional[_Iterable[int]] = ..., targets: _Optional[_Iterable[_Union[TargetAnswer, _Mapping]]] = ..., receipt: _Optional[str] = ..., not_explained: _Optional[_Iterable[str]] = ..., groups: _Optional[_Union[GroupAnswer, _Mapping]] = ..., captured_axes: _Optional[_Iterable[_Union[CapturedAxes, _Mapping]]] = ...) -> None: ...

class ExplainStreamRequest(_message.Message):
    __slots__ = ("id", "request", "progress")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    id: str
    request: ExplainRequest
    progress: bool
    def __init__(self, id: _Optional[str] = ..., request: _Optional[_Union[ExplainRequest, _Mapping]] = ..., progress: bool = ...) -> None: ...

class ExplainStreamResponse(_message.Message):
    __slots__ = ("id", "response", "error", "progress")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    id: str
    response: ExplainResponse
    error: ItemError
    progress: Progress
    def __init__(self, id: _Optional[str] = ..., response: _Optional[_Union[ExplainResponse, _Mapping]] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "total")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("code", "message", "field")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    field: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., field: _Optional[str] = ...) -> None: ...
