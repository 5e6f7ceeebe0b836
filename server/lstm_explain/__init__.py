"""Explains the predictions of recurrent ONNX models: `load` a model, `explain` its inputs.

Names are imported when first used: the command line answers without waiting for the engine, and can say what is missing
where it is not installed.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_explain import evaluate as evaluate
    from lstm_explain.errors import Error, InputError, MethodError, ModelError, TargetError, UnsupportedOperator
    from lstm_explain.ledger import Ledger
    from lstm_explain.loading import load
    from lstm_explain.methods import (
        LRP,
        ContextualDecomposition,
        Gradient,
        GradientTimesInput,
        IntegratedGradients,
        Method,
        Occlusion,
        ShapleySampling,
        SmoothGrad,
        method_from_name,
    )
    from lstm_explain.methods.composite import AlphaBeta, Composite, Epsilon, Flat, Gamma, Rule, ZBox, ZPlus
    from lstm_explain.model import Explanation, Model, NodeReport, Report, TensorSpec
    from lstm_explain.program.axes import Axes
    from lstm_explain.runner.baselines import mean_baseline
    from lstm_explain.target import Target

# Released builds of ONNX Runtime (from 1.29) report to their makers what models they load, unless told not to before
# they are imported. Whoever sets the variable decides otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "LRP",
    "AlphaBeta",
    "Axes",
    "Composite",
    "ContextualDecomposition",
    "Epsilon",
    "Error",
    "Explanation",
    "Flat",
    "Gamma",
    "Gradient",
    "GradientTimesInput",
    "InputError",
    "IntegratedGradients",
    "Ledger",
    "Method",
    "MethodError",
    "Model",
    "ModelError",
    "NodeReport",
    "Occlusion",
    "Report",
    "Rule",
    "ShapleySampling",
    "SmoothGrad",
    "Target",
    "TargetError",
    "TensorSpec",
    "UnsupportedOperator",
    "ZBox",
    "ZPlus",
    "evaluate",
    "load",
    "mean_baseline",
    "method_from_name",
]

# Of all names but those of the methods, which the registry has.
_HOMES = {
    "errors": ["Error", "InputError", "MethodError", "ModelError", "TargetError", "UnsupportedOperator"],
    "ledger": ["Ledger"],
    "program.axes": ["Axes"],
    "runner.baselines": ["mean_baseline"],
    "methods.composite": ["AlphaBeta", "Composite", "Epsilon", "Flat", "Gamma", "Rule", "ZBox", "ZPlus"],
    "loading": ["load"],
    "model": ["Explanation", "Model", "NodeReport", "Report", "TensorSpec"],
    "target": ["Target"],
}


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        return import_module(f"{__name__}.evaluate")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _HOMES.items() if name in names), "methods")
    globals()[name] = value = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
