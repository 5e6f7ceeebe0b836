# SPDX-License-Identifier: Apache-2.0
"""Registers every method by the name that the wire and the command line use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lstm_explain.errors import MethodError
from lstm_explain.methods.base import Method
from lstm_explain.methods.contextual_decomposition import ContextualDecomposition
from lstm_explain.methods.counterfactual import Counterfactual
from lstm_explain.methods.gradient import Gradient
from lstm_explain.methods.gradient_shap import GradientShap
from lstm_explain.methods.gradient_times_input import GradientTimesInput
from lstm_explain.methods.integrated_gradients import IntegratedGradients
from lstm_explain.methods.lrp import LRP
from lstm_explain.methods.occlusion import Occlusion
from lstm_explain.methods.shapley_sampling import ShapleySampling
from lstm_explain.methods.smooth_grad import SmoothGrad

METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
        LRP,
        Gradient,
        GradientTimesInput,
        IntegratedGradients,
        GradientShap,
        SmoothGrad,
        Occlusion,
        ShapleySampling,
        ContextualDecomposition,
        Counterfactual,
    )
}


def method_from_name(name: str, parameters: Mapping[str, Any] | None = None) -> Method:
    """Returns the method called `name`. Raises MethodError if there is none, or if it lacks one of the parameters."""
    cls = METHODS.get(name)
    if cls is None:
        raise MethodError(f"unknown method {name!r}, there are {', '.join(METHODS)}", field="method")
    known = {f.name for f in fields(cls)}
    for key in parameters or {}:
        if key not in known:
            accepted = ", ".join(sorted(known)) or "none"
            raise MethodError(f"{name}: unknown parameter {key!r}, it has {accepted}", field=f"method.{key}")
    return cls(**dict(parameters or {}))


def override(default: Method, name: str | None, parameters: Mapping[str, Any]) -> Method:
    """Returns the method of a request to a model whose default method is `default`. Raises MethodError.

    Where `name` is None or that of `default`, `parameters` replace those of `default` one by one; any other method
    starts from its own defaults. Every way to request an explanation comes through here.
    """
    if name is not None and name != default.name:
        return method_from_name(name, parameters)
    return method_from_name(default.name, {**default.kept_beside(parameters), **parameters}) if parameters else default


__all__ = [
    "LRP",
    "METHODS",
    "ContextualDecomposition",
    "Counterfactual",
    "Gradient",
    "GradientShap",
    "GradientTimesInput",
    "IntegratedGradients",
    "Method",
    "Occlusion",
    "ShapleySampling",
    "SmoothGrad",
    "method_from_name",
    "override",
]
