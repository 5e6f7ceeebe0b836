"""Converts requests and responses of the Open Inference Protocol.

These parameters of a request ask for an explanation:

explain                 the name of a method. The method starts from the parameters in model.yaml if it is the model's
                        default method, or if it is missing and another of these parameters is present
explain_target          a whole number, or text: `3`, `1,0`, `logits`, `logits:1,0`, a class of model.yaml
explain_contrast        a whole number, or text: `3`, `1,0`
explain_batch_axis      a whole number, or `none`
explain_pre_activation  true or false
explain_<parameter>     a parameter of the method. It may be text too, for clients that cannot send a float, and for
                        values of several numbers: `[0, 0.5]`, `0.1,0.01`, `2:5`,
                        `dense=gamma(0.25); first=z_box(-1, 1)`

A request without any of them asks for a prediction only.
These parameters of a response describe the explanation; both are strings:

warnings                a JSON list of strings with reasons not to rely on the answer; `[]` if there are none
explained_quantity how the explained value relates to the target's output, as in lstm_explain.v1.ExplainResponse
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from lstm_explain.errors import Error, InputError, MethodError, TargetError
from lstm_explain.methods import Method
from lstm_explain.model import Explanation
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.served_model import Card, ServedModel
from lstm_explain.repository.text_notation import override_from_text, parse_value
from lstm_explain.serving.errors import short
from lstm_explain.serving.execution.batcher import Job
from lstm_explain.serving.models.snapshot import Entry, Failed, InTrial, Ready, Unloaded
from lstm_explain.serving.wire.inference_tensors import add_outputs, to_arrays, to_metadata
from lstm_explain.serving.wire.models import version_of
from lstm_explain.target import Target, parse_target
from lstm_explain_proto.inference import grpc_service_pb2 as pb

Array = npt.NDArray[Any]

EXPLAIN, PREFIX = "explain", "explain_"
PLATFORM = "onnx_onnxv1"
RELEVANCE, TOKENS, LEDGER, EXPLAINED = "relevance:", "tokens:", "ledger:", "explained"
STANDARD_ERROR = "standard_error:"
WARNINGS, QUANTITY = "warnings", "explained_quantity"
LEDGER_PARTS = ("inputs", "initial_states", "absorbed", "residual")
_TARGET = ("target", "contrast", "batch_axis", "pre_activation")


def wants_explanation(request: pb.ModelInferRequest) -> bool:
    """Whether the request asks for an explanation."""
    return any(key == EXPLAIN or key.startswith(PREFIX) for key in request.parameters)


def to_inference_query(request: pb.ModelInferRequest, served: ServedModel) -> ModelRequest:
    """The request with the model's defaults filled in. Raises InputError, MethodError, TargetError."""
    values = {_rest(key): _value(key, p) for key, p in request.parameters.items() if key.startswith(PREFIX)}
    query = ModelRequest(
        inputs=to_arrays(request),
        method=served.with_background(_method(request, values, served.default_method)),
        target=_target(values, served) or served.default_target,
    )
    texts = [name for name, array in query.inputs.items() if array.dtype == object]
    explanation = [EXPLAINED, *(RELEVANCE + name for name in served.model.inputs), *(TOKENS + name for name in texts)]
    ledger = [LEDGER + part for part in LEDGER_PARTS]
    if query.method is not None and query.method.standard_error:
        explanation += [STANDARD_ERROR + name for name in served.model.inputs]
    _check_outputs(request, [*served.model.outputs, *explanation, *ledger])
    return query


def to_prediction_query(request: pb.ModelInferRequest, served: ServedModel) -> ModelRequest:
    """Raises InputError."""
    _check_outputs(request, served.model.outputs)
    return ModelRequest(to_arrays(request))


def from_prediction(request: pb.ModelInferRequest, job: Job) -> pb.ModelInferResponse:
    return _response(request, job.served, job.answer)


def _response(
    request: pb.ModelInferRequest, served: ServedModel, outputs: Mapping[str, Array]
) -> pb.ModelInferResponse:
    """The response with the outputs that the request asks for, raw or typed as the request is."""
    response = pb.ModelInferResponse(model_name=served.name, model_version=str(served.version), id=request.id)
    chosen = {o.name: outputs[o.name] for o in request.outputs} if request.outputs else outputs
    add_outputs(response, chosen, raw=bool(request.raw_input_contents))
    return response


def from_inference_answer(request: pb.ModelInferRequest, job: Job) -> pb.ModelInferResponse:
    """Does the same as `from_prediction`, and adds the explanation. The ledger is included only if the request names
    it.
    """
    explanation: Explanation = job.answer
    ledger = explanation.ledger
    outputs = {
        **explanation.outputs,
        **{RELEVANCE + name: array for name, array in explanation.relevance.items()},
        EXPLAINED: explanation.explained,
        **{STANDARD_ERROR + name: array for name, array in explanation.standard_error.items()},
        **{TOKENS + name: array for name, array in job.request.tokens.items()},
    }
    if request.outputs:
        outputs |= {LEDGER + part: getattr(ledger, part) for part in LEDGER_PARTS}
    response = _response(request, job.served, outputs)
    response.parameters[WARNINGS].string_param = json.dumps(explanation.warnings, ensure_ascii=False)
    response.parameters[QUANTITY].string_param = explanation.explained_quantity
    return response


def to_model_metadata(card: Card, versions: Iterable[Entry]) -> pb.ModelMetadataResponse:
    """The inputs and outputs of the model itself, without those that only an explanation has."""
    return pb.ModelMetadataResponse(
        name=card.name,
        versions=[str(entry.version) for entry in versions if isinstance(entry, Ready)],
        platform=PLATFORM,
        inputs=to_metadata(card.inputs),
        outputs=to_metadata(card.outputs, sent=True),
    )


def to_index(entry: Entry) -> pb.RepositoryIndexResponse.ModelIndex:
    index = pb.RepositoryIndexResponse.ModelIndex(name=entry.name, version=version_of(entry), state="UNAVAILABLE")
    if isinstance(entry, Failed):
        index.reason = short(entry.reason)
    elif isinstance(entry, Unloaded):
        index.reason = "unloaded"
    elif isinstance(entry, InTrial):
        index.state, index.reason = "LOADING", "on trial"
    else:
        index.state, index.reason = "READY", short(entry.card.problem)
    return index


def _rest(key: str) -> str:
    return key.removeprefix(PREFIX)


def _value(key: str, parameter: pb.InferParameter) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    if kind is None:
        raise MethodError(f"the parameter {key} has no value", field=f"method.{_rest(key)}")
    return getattr(parameter, kind)


def _method(request: pb.ModelInferRequest, values: Mapping[str, Any], default: Method) -> Method:
    name = _value(EXPLAIN, request.parameters[EXPLAIN]) if EXPLAIN in request.parameters else None
    if name is not None and not isinstance(name, str):
        raise MethodError(f"{EXPLAIN} must be the name of a method, not {name!r}", field="method")
    return override_from_text(default, name, {key: value for key, value in values.items() if key not in _TARGET})


def _target(values: Mapping[str, Any], served: ServedModel) -> Target:
    """The model's default target, changed by the parameters. Raises TargetError."""
    target = served.default_target
    if "target" in values:
        output, index = _position("target", values["target"], served)
        target = replace(target, output=output or target.output, index=index, contrast=None)
    if "contrast" in values:
        output, index = _position("contrast", values["contrast"], served)
        if output is not None or index is None:
            raise TargetError(f"explain_contrast {values['contrast']!r} is not an index", field="target.contrast")
        target = replace(target, contrast=index)
    if "batch_axis" in values:
        target = replace(target, batch_axis=_axis(values["batch_axis"]))
    if "pre_activation" in values:
        target = replace(target, pre_activation=_flag(values["pre_activation"]))
    return target


def _position(name: str, value: Any, served: ServedModel) -> tuple[str | None, int | tuple[int, ...] | None]:
    if isinstance(value, int) and not isinstance(value, bool):
        return None, value
    if not isinstance(value, str):
        raise TargetError(f"{PREFIX}{name} must be a whole number or text, not {value!r}", field=f"target.{name}")
    try:
        return parse_target(value, served.model.outputs, served.config.classes)
    except Error as error:
        raise TargetError(str(error), field=f"target.{name}") from None


def _axis(value: Any) -> int | None:
    number = parse_value(value) if isinstance(value, str) else value
    if isinstance(number, bool) or (not isinstance(number, int) and number != "none"):
        raise TargetError(
            f"explain_batch_axis must be a whole number or none, not {value!r}", field="target.batch_axis"
        )
    return number if isinstance(number, int) else None


def _flag(value: Any) -> bool:
    flag = parse_value(value) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise TargetError(f"explain_pre_activation must be true or false, not {value!r}", field="target.pre_activation")
    return flag


def _check_outputs(request: pb.ModelInferRequest, names: Iterable[str]) -> None:
    """Raises InputError for an output that does not exist, or an option that is not supported."""
    known = list(names)
    for i, output in enumerate(request.outputs):
        if output.name not in known:
            problem = f"there is no output {output.name!r}, only {', '.join(known)}"
            raise InputError(problem, field=f"outputs[{i}].name")
        for key in ("shared_memory_region", "classification"):
            if key in output.parameters:
                raise InputError(f"output {output.name!r}: {key} is not supported", field=f"outputs[{i}].parameters")
