# SPDX-License-Identifier: Apache-2.0
"""Converts requests and responses of the Open Inference Protocol.

These parameters of a request ask for an explanation:

explain                 the name of a method. The method starts from the parameters in model.yaml if it is the model's
                        default method, or if it is missing and another of these parameters is present
explain_target          a whole number, or text: `3`, `1,0`, `logits`, `logits:1,0`, a class of model.yaml
explain_targets         text: several targets at once, `0; 3`, `every class`, `every step`, `steps 0,6,23`. The
                        explanation's outputs then have one more axis in front, along which the targets lie.
                        explain_target and explain_contrast must be absent
explain_contrast        a whole number, or text: `3`, `1,0`
explain_batch_axis      a whole number, or `none`
explain_pre_activation  true or false
explain_receipt         true asks for a receipt of the answer
explain_condition       text: what the prediction of a sample must meet to be explained, such as `probability > 0.8`, as
                        in lstm_explain.v1.ExplainRequest
explain_groups          text: entries that belong together, such as `window=24; features.weather=rain,wind`
explain_through         text: the units of inner values that relevance passes through, such as `lstm.cell=72,86`.
                        Several values, separated by semicolons, are several conditions that must all hold
explain_<parameter>     a parameter of the method. It may be text too, for clients that cannot send a float, and for
                        values of several numbers: `[0, 0.5]`, `0.1,0.01`, `2:5`,
                        `dense=gamma(0.25); first=z_box(-1, 1)`

A request without any of them asks for a prediction only.
These parameters of a response describe the explanation; all are strings:

warnings                a JSON list of strings with reasons not to rely on the answer; `[]` if there are none
explained_quantity      how the explained value relates to the target's output, as in lstm_explain.v1.ExplainResponse
targets                 for several targets: a JSON list with an object per target: `output`, `indices`, `warnings`,
                        `explained_quantity`
not_explained           for explain_condition: a JSON list with a string per sample: why it is not explained, or empty.
                        For several targets, it is in `targets`
receipt                 for explain_receipt: a DSSE envelope in JSON, as in lstm_explain.v1.ExplainResponse
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.condition import parse_condition
from lstm_explain.errors import Error, InputError, MethodError, TargetError
from lstm_explain.methods import Method
from lstm_explain.model import Explanation
from lstm_explain.repository.group_notation import groups_from_text
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.served_model import Card, ServedModel
from lstm_explain.repository.text_notation import override_from_text, parse_value
from lstm_explain.repository.through_notation import through_from_text
from lstm_explain.serving.errors import short
from lstm_explain.serving.execution.batcher import Job
from lstm_explain.serving.models.snapshot import Entry, Failed, InTrial, Ready, Unloaded
from lstm_explain.serving.wire.inference_tensors import add_outputs, to_arrays, to_metadata
from lstm_explain.serving.wire.models import version_of
from lstm_explain.several import joined
from lstm_explain.target import Target, parse_target, target_from_text
from lstm_explain.target_sets import TargetSet, with_target
from lstm_explain_proto.inference import grpc_service_pb2 as pb

Array = npt.NDArray[Any]

EXPLAIN, PREFIX = "explain", "explain_"
PLATFORM = "onnx_onnxv1"
RELEVANCE, TOKENS, LEDGER, EXPLAINED = "relevance:", "tokens:", "ledger:", "explained"
STANDARD_ERROR = "standard_error:"
WARNINGS, QUANTITY, TARGETS, RECEIPT = "warnings", "explained_quantity", "targets", "receipt"
CONDITION, NOT_EXPLAINED = "condition", "not_explained"
THROUGH = "through"
GROUPS, GROUP_RELEVANCE, GROUP_NAMES = "groups", "group_relevance:", "group_names:"
LEDGER_PARTS = ("inputs", "initial_states", "absorbed", "residual")
_TARGET = ("target", "targets", "contrast", "batch_axis", "pre_activation")
_NOT_OF_THE_METHOD = (*_TARGET, RECEIPT, CONDITION, GROUPS, THROUGH)


def wants_explanation(request: pb.ModelInferRequest) -> bool:
    """Returns whether the request asks for an explanation."""
    return any(key == EXPLAIN or key.startswith(PREFIX) for key in request.parameters)


def to_inference_query(request: pb.ModelInferRequest, served: ServedModel) -> ModelRequest:
    """Returns the request with the model's defaults filled in. Raises InputError, MethodError, TargetError."""
    values = {_rest(key): _value(key, p) for key, p in request.parameters.items() if key.startswith(PREFIX)}
    query = ModelRequest(
        inputs=to_arrays(request),
        method=served.with_background(_method(request, values, served.default_method)),
        target=_target(values, served) or served.default_target,
        targets=_targets(values, served),
        receipt=RECEIPT in values and _flag(RECEIPT, values[RECEIPT]),
        condition=parse_condition(_text(CONDITION, values.get(CONDITION, ""))),
        groups=groups_from_text(_text(GROUPS, values[GROUPS])) if GROUPS in values else None,
        through=through_from_text(_text(THROUGH, values.get(THROUGH, ""))),
    )
    texts = [name for name, array in query.inputs.items() if array.dtype == object]
    explanation = [EXPLAINED, *(RELEVANCE + name for name in served.model.inputs), *(TOKENS + name for name in texts)]
    ledger = [LEDGER + part for part in LEDGER_PARTS]
    if query.method is not None and query.method.has_standard_error:
        explanation += [STANDARD_ERROR + name for name in served.model.inputs]
    if query.groups is not None:
        explanation += [kind + name for kind in (GROUP_RELEVANCE, GROUP_NAMES) for name in served.model.inputs]
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
    """Returns the response with the outputs that the request asks for, raw or typed as the request is."""
    response = pb.ModelInferResponse(model_name=served.name, model_version=str(served.version), id=request.id)
    chosen = {o.name: outputs[o.name] for o in request.outputs} if request.outputs else outputs
    add_outputs(response, chosen, raw=bool(request.raw_input_contents))
    return response


def from_inference_answer(request: pb.ModelInferRequest, job: Job) -> pb.ModelInferResponse:
    """Does the same as `from_prediction`, and adds the explanation. The ledger is included only if the request names
    it.
    """
    several: list[Explanation] = job.answer if job.request.targets else [job.answer]
    explanation = joined(several) if job.request.targets else several[0]
    ledger = explanation.ledger
    outputs = {
        **several[0].outputs,
        **{RELEVANCE + name: array for name, array in explanation.relevance.items()},
        EXPLAINED: explanation.explained,
        **{STANDARD_ERROR + name: array for name, array in explanation.standard_error.items()},
        **{TOKENS + name: array for name, array in job.request.tokens.items()},
        **_group_outputs(several, stacked=bool(job.request.targets)),
    }
    if request.outputs:
        outputs |= {LEDGER + part: getattr(ledger, part) for part in LEDGER_PARTS}
    response = _response(request, job.served, outputs)
    response.parameters[WARNINGS].string_param = json.dumps(explanation.warnings, ensure_ascii=False)
    quantities = {one.explained_quantity for one in several}
    response.parameters[QUANTITY].string_param = quantities.pop() if len(quantities) == 1 else ""
    if job.request.targets:
        response.parameters[TARGETS].string_param = json.dumps([_described(one) for one in several], ensure_ascii=False)
    elif job.request.condition is not None:
        response.parameters[NOT_EXPLAINED].string_param = json.dumps(several[0].not_explained, ensure_ascii=False)
    if job.receipt:
        response.parameters[RECEIPT].string_param = job.receipt
    return response


def _group_outputs(explanations: Sequence[Explanation], *, stacked: bool) -> dict[str, Array]:
    """stacked: whether relevance has an axis of targets in front."""
    found: dict[str, Array] = {}
    for name, own in explanations[0].groups.items():
        each = [one.groups[name].relevance for one in explanations]
        found[GROUP_RELEVANCE + name] = np.stack(each) if stacked else each[0]
        found[GROUP_NAMES + name] = own.names
    return found


def _described(explanation: Explanation) -> dict[str, Any]:
    target = explanation.target
    return {
        "output": target.output,
        "indices": None if target.index is None else np.asarray(target.index).tolist(),
        "warnings": explanation.warnings,
        "explained_quantity": explanation.explained_quantity,
        **({NOT_EXPLAINED: explanation.not_explained} if explanation.not_explained else {}),
    }


def to_model_metadata(card: Card, versions: Iterable[Entry]) -> pb.ModelMetadataResponse:
    """Returns the inputs and outputs of the model itself, without those that only an explanation has."""
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
    return override_from_text(
        default, name, {key: value for key, value in values.items() if key not in _NOT_OF_THE_METHOD}
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{PREFIX}{name} must be text, not {value!r}", field=name)
    return value


def _target(values: Mapping[str, Any], served: ServedModel) -> Target:
    """Returns the model's default target, changed by the parameters. Raises TargetError."""
    target = served.default_target
    if "target" in values:
        found = _target_from(values["target"], served)
        output = found.output or target.output
        target = replace(target, output=output, index=found.index, contrast=None, measure=found.measure)
    if "contrast" in values:
        output, index = _position("contrast", values["contrast"], served)
        if output is not None or index is None:
            raise TargetError(f"explain_contrast {values['contrast']!r} is not an index", field="target.contrast")
        target = replace(target, contrast=index)
    return replace(target, **_changes(values))


def _changes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of targets that apply to all targets of a request alike. Raises TargetError."""
    changes: dict[str, Any] = {}
    if "batch_axis" in values:
        changes["batch_axis"] = _axis(values["batch_axis"])
    if "pre_activation" in values:
        changes["pre_activation"] = _flag("pre_activation", values["pre_activation"])
    return changes


def _targets(values: Mapping[str, Any], served: ServedModel) -> tuple[TargetSet, ...]:
    """Returns several targets at once; none where the request asks for one. Raises TargetError."""
    if "targets" not in values:
        return ()
    text = values["targets"]
    if not isinstance(text, str):
        raise TargetError(f"{PREFIX}targets must be text, not {text!r}", field="target.targets")
    for other in ("target", "contrast"):
        if other in values:
            raise TargetError(f"explain_targets and explain_{other} exclude each other", field=f"target.{other}")
    try:
        found = served.targets_from_text(text)
    except Error as error:
        raise TargetError(str(error), field="target.targets") from None
    return tuple(with_target(one, **_changes(values)) for one in found)


def _position(name: str, value: Any, served: ServedModel) -> tuple[str | None, int | tuple[int, ...] | None]:
    if isinstance(value, int) and not isinstance(value, bool):
        return None, value
    if not isinstance(value, str):
        raise TargetError(f"{PREFIX}{name} must be a whole number or text, not {value!r}", field=f"target.{name}")
    try:
        return parse_target(value, served.model.outputs, served.config.classes)
    except Error as error:
        raise TargetError(str(error), field=f"target.{name}") from None


def _target_from(value: Any, served: ServedModel) -> Target:
    if isinstance(value, str):
        try:
            return target_from_text(value, served.model.outputs, served.config.classes)
        except Error as error:
            raise TargetError(str(error), field="target.target") from None
    return Target(*_position("target", value, served))


def _axis(value: Any) -> int | None:
    number = parse_value(value) if isinstance(value, str) else value
    if isinstance(number, bool) or (not isinstance(number, int) and number != "none"):
        raise TargetError(
            f"explain_batch_axis must be a whole number or none, not {value!r}", field="target.batch_axis"
        )
    return number if isinstance(number, int) else None


def _flag(name: str, value: Any) -> bool:
    flag = parse_value(value) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise InputError(f"{PREFIX}{name} must be true or false, not {value!r}", field=f"method.{name}")
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
