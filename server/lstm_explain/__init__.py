"""Explains the predictions of recurrent ONNX models: `load` a model, `explain` its inputs."""

from lstm_explain.errors import Error, InputError, MethodError, ModelError, TargetError, UnsupportedOperator
from lstm_explain.ledger import Ledger
from lstm_explain.methods.spec import LRP, Gradient, GradientTimesInput, Method, method_from_name
from lstm_explain.model import Explanation, Model, NodeReport, Report, TensorSpec, load
from lstm_explain.target import Target

__all__ = [
    "LRP",
    "Error",
    "Explanation",
    "Gradient",
    "GradientTimesInput",
    "InputError",
    "Ledger",
    "Method",
    "MethodError",
    "Model",
    "ModelError",
    "NodeReport",
    "Report",
    "Target",
    "TargetError",
    "TensorSpec",
    "UnsupportedOperator",
    "load",
    "method_from_name",
]
