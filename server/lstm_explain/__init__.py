# SPDX-License-Identifier: Apache-2.0
"""Explains the predictions of recurrent ONNX models: `load` a model, then `explain` its inputs.

Names are imported on first use, so that the command line starts without loading the engine and can report what is
missing where it is not installed.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from lstm_explain import evaluate as evaluate
    from lstm_explain.calibration import Calibration, calibrate
    from lstm_explain.compiled.compiler import compile as compile
    from lstm_explain.condition import Condition, PredictedClass, Threshold
    from lstm_explain.errors import (
        Error,
        InputError,
        MethodError,
        ModelError,
        PrecisionWarning,
        TargetError,
        UnsupportedOperator,
    )
    from lstm_explain.grouping import ChangePoints, Groups
    from lstm_explain.ledger import Ledger
    from lstm_explain.measure import Measure
    from lstm_explain.methods import (
        LRP,
        ContextualDecomposition,
        Counterfactual,
        Gradient,
        GradientShap,
        GradientTimesInput,
        IntegratedGradients,
        Method,
        Occlusion,
        ShapleySampling,
        SmoothGrad,
        method_from_name,
    )
    from lstm_explain.methods.background import Background
    from lstm_explain.methods.composite import AlphaBeta, Composite, Epsilon, Flat, Gamma, Rule, WSquare, ZBox, ZPlus
    from lstm_explain.model import Explanation, Model, NodeReport, Report, TensorSpec
    from lstm_explain.opening import load
    from lstm_explain.program.axes import Axes
    from lstm_explain.runner.baselines import mean_baseline
    from lstm_explain.target import Target
    from lstm_explain.target_sets import Every

# Released builds of ONNX Runtime (from 1.29 on) report to their makers which models they load, unless this variable is
# set before they are imported. A value that the user sets takes precedence.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "LRP",
    "AlphaBeta",
    "Axes",
    "Background",
    "Calibration",
    "ChangePoints",
    "Composite",
    "Condition",
    "ContextualDecomposition",
    "Counterfactual",
    "Epsilon",
    "Error",
    "Every",
    "Explanation",
    "Flat",
    "Gamma",
    "Gradient",
    "GradientShap",
    "GradientTimesInput",
    "Groups",
    "InputError",
    "IntegratedGradients",
    "Ledger",
    "Measure",
    "Method",
    "MethodError",
    "Model",
    "ModelError",
    "NodeReport",
    "Occlusion",
    "PrecisionWarning",
    "PredictedClass",
    "Report",
    "Rule",
    "ShapleySampling",
    "SmoothGrad",
    "Target",
    "TargetError",
    "TensorSpec",
    "Threshold",
    "UnsupportedOperator",
    "WSquare",
    "ZBox",
    "ZPlus",
    "calibrate",
    "compile",
    "evaluate",
    "load",
    "mean_baseline",
    "method_from_name",
]

# The modules of all names except those of the methods, which the registry knows.
_MODULES = {
    "calibration": ["Calibration", "calibrate"],
    "compiled.compiler": ["compile"],
    "condition": ["Condition", "PredictedClass", "Threshold"],
    "errors": [
        "Error",
        "InputError",
        "MethodError",
        "ModelError",
        "PrecisionWarning",
        "TargetError",
        "UnsupportedOperator",
    ],
    "grouping": ["ChangePoints", "Groups"],
    "ledger": ["Ledger"],
    "measure": ["Measure"],
    "program.axes": ["Axes"],
    "runner.baselines": ["mean_baseline"],
    "methods.background": ["Background"],
    "methods.composite": ["AlphaBeta", "Composite", "Epsilon", "Flat", "Gamma", "Rule", "WSquare", "ZBox", "ZPlus"],
    "model": ["Explanation", "Model", "NodeReport", "Report", "TensorSpec"],
    "opening": ["load"],
    "target": ["Target"],
    "target_sets": ["Every"],
}


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        return import_module(f"{__name__}.evaluate")
    if name == "__version__":
        return _version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "methods")
    globals()[name] = value = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def _version() -> str:
    """Returns the version of the installed package; "0" for a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lstm-explain")
    except PackageNotFoundError:
        return "0"


def __dir__() -> list[str]:
    return __all__
