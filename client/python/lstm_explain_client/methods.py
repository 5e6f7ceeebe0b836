"""The methods as types. A parameter left at None takes the server's default; an answer has every parameter set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from lstm_explain_client.composite import Composite, read_composite, write_composite
from lstm_explain_client.errors import InvalidRequest
from lstm_explain_client.tensors import as_array, from_wire, to_wire
from lstm_explain_proto.lstm_explain.v1 import method_pb2

ProductRule = Literal["all", "half", "prop", "abs"]
Quantity = Literal["score", "probability"]
Players = Literal["steps", "features", "cells"]


def _numbers(enum: Any, prefix: str, choices: Any) -> dict[str, int]:
    return {choice: enum.Value(f"{prefix}_{choice.upper()}") for choice in get_args(choices)}


# Parameters that take one of a few words, as the wire numbers them.
_CHOICES: dict[str, dict[str, int]] = {
    "product_rule": _numbers(method_pb2.ProductRule, "PRODUCT_RULE", ProductRule),
    "of": _numbers(method_pb2.Quantity, "QUANTITY", Quantity),
    "over": _numbers(method_pb2.Players, "PLAYERS", Players),
}


@dataclass(frozen=True)
class Method:
    """Base of all methods. `name` is what `explain(method=…)` calls it."""

    name: ClassVar[str] = ""

    def parameters(self) -> dict[str, Any]:
        """The parameters that are set."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {key: value for key, value in values.items() if value is not None}

    def __str__(self) -> str:
        shown = (
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in self.parameters().items()
            if key != "baseline"
        )
        return ", ".join([self.name, *shown])


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise relevance propagation with the epsilon rule (Arras et al. 2017, 2019).

    product_rule: what a gate and its signal receive: "all" (the signal takes all; the default), "half", "prop", "abs".
    epsilon: the stabiliser, not negative; default 0.001.
    bias_factor: share of bias and stabiliser given to a sum's inputs, in [0, 1]; default 0.
    composite: other rules for some dense and convolutional layers; default none.
    """

    name: ClassVar[str] = "lrp"
    product_rule: ProductRule | None = None
    epsilon: float | None = None
    bias_factor: float | None = None
    composite: Composite | None = None


@dataclass(frozen=True)
class Gradient(Method):
    """Partial derivatives of the explained value."""

    name: ClassVar[str] = "gradient"


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Partial derivatives times the input."""

    name: ClassVar[str] = "gradient_times_input"


@dataclass(frozen=True, eq=False)
class IntegratedGradients(Method):
    """Gradients averaged along the line from `baseline` (input name to array; default zero) in `steps` (50) points."""

    name: ClassVar[str] = "integrated_gradients"
    steps: int | None = None
    baseline: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Gradients averaged over `samples` (25) copies with `noise` (0.1: a share of the input's range); `seed` (0)."""

    name: ClassVar[str] = "smooth_grad"
    samples: int | None = None
    noise: float | None = None
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Occlusion(Method):
    """Fall of the explained value when `window` (1) time steps become `baseline` (input name to array; zero).

    of: "score" (the default), or "probability".
    """

    name: ClassVar[str] = "occlusion"
    window: int | None = None
    baseline: Mapping[str, Any] | None = None
    of: Quantity | None = None


@dataclass(frozen=True, eq=False)
class ShapleySampling(Method):
    """Shapley values over `permutations` (25) orders; `seed` (0); `baseline` for what is absent.

    over: who plays: "steps" (the default), "features" (each for all of time), "cells".
    """

    name: ClassVar[str] = "shapley_sampling"
    permutations: int | None = None
    seed: int | None = None
    baseline: Mapping[str, Any] | None = None
    over: Players | None = None


@dataclass(frozen=True)
class ContextualDecomposition(Method):
    """Contextual decomposition of LSTMs (Murdoch et al. 2018)."""

    name: ClassVar[str] = "contextual_decomposition"


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
    )
}


def resolve(method: str | Method, parameters: Mapping[str, Any] | None) -> Method:
    """The typed method for a name with its parameters; InvalidRequest if there is none of that name or parameter."""
    if isinstance(method, Method):
        if parameters:
            raise InvalidRequest("parameters belong inside a method that is given as an object", field="parameters")
        return method
    cls = METHODS.get(method) if isinstance(method, str) else None
    if cls is None:
        raise InvalidRequest(f"unknown method {method!r}, there are {', '.join(METHODS)}", field="method")
    known = [f.name for f in fields(cls)]
    for key in parameters or {}:
        if key not in known:
            wanted = ", ".join(known) or "none"
            raise InvalidRequest(f"{method}: unknown parameter {key!r}, it has {wanted}", field=f"method.{key}")
    return cls(**dict(parameters or {}))


def to_wire_method(method: Method) -> method_pb2.Method:
    """The message for a method. Bounds are the server's to check; types and names are checked here."""
    message = method_pb2.Method()
    body = getattr(message, method.name)
    body.SetInParent()
    for key, value in method.parameters().items():
        try:
            _set(body, key, value)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InvalidRequest):
                raise
            raise InvalidRequest(f"{method.name}: {key} is {value!r}: {error}", field=f"method.{key}") from error
    return message


def _set(body: Any, key: str, value: Any) -> None:
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            wanted = ", ".join(_CHOICES[key])
            raise InvalidRequest(f"{key} is {value!r}, wanted one of {wanted}", field=f"method.{key}")
        setattr(body, key, _CHOICES[key][value])
    elif key == "composite":
        write_composite(body.composite, value)
    elif key == "baseline":
        if not isinstance(value, Mapping):
            raise InvalidRequest("baseline: wanted a dict of input name to array", field="method.baseline")
        body.baseline.extend(to_wire(as_array(array, f"method.baseline.{name}"), name) for name, array in value.items())
    else:
        setattr(body, key, value)


def from_wire_method(message: method_pb2.Method) -> Method | None:
    """The typed method of a message; None where no method is set, or one that this client does not know."""
    name = message.WhichOneof("method")
    if name not in METHODS:
        return None
    body = getattr(message, name)
    return METHODS[name](**{f.name: _get(body, f.name) for f in fields(METHODS[name])})


def _get(body: Any, key: str) -> Any:
    if key in _CHOICES:
        return next((word for word, number in _CHOICES[key].items() if number == getattr(body, key)), None)
    if key == "baseline":
        return {tensor.name: from_wire(tensor) for tensor in body.baseline} or None
    if not body.HasField(key):
        return None
    return read_composite(body.composite) if key == "composite" else getattr(body, key)
