"""Explains the predictions of recurrent ONNX models: `load` a model, `explain` its inputs."""

from lstm_explain.errors import Error, InputError, MethodError, ModelError, TargetError, UnsupportedOperator
from lstm_explain.ledger import Ledger
from lstm_explain.methods.axes import Axes
from lstm_explain.methods.baselines import mean_baseline
from lstm_explain.methods.spec import (
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
from lstm_explain.model import Explanation, Model, NodeReport, Report, TensorSpec, load
from lstm_explain.target import Target

__all__ = [
    "LRP",
    "Axes",
    "ContextualDecomposition",
    "Error",
    "Explanation",
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
    "ShapleySampling",
    "SmoothGrad",
    "Target",
    "TargetError",
    "TensorSpec",
    "UnsupportedOperator",
    "load",
    "mean_baseline",
    "method_from_name",
]
