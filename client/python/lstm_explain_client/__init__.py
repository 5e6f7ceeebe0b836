"""Client of the explanation server: ask for a prediction and get it with its reasons.

with Client("127.0.0.1:50051") as client:
    result = client.explain("sentiment", {"tokens": "not a bad film"})
    result.print()
"""

from lstm_explain_client import render
from lstm_explain_client.aio import AsyncClient
from lstm_explain_client.client import Client
from lstm_explain_client.composite import AlphaBeta, Composite, Epsilon, Flat, Gamma, ZBox, ZPlus
from lstm_explain_client.connection import TLS, Retry
from lstm_explain_client.errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    ExplainError,
    InvalidRequest,
    MalformedResponse,
    ModelNotFound,
    NotExplainable,
    Overloaded,
    PermissionDenied,
    ServerFault,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from lstm_explain_client.methods import (
    LRP,
    ContextualDecomposition,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Method,
    Occlusion,
    ShapleySampling,
    SmoothGrad,
)
from lstm_explain_client.models import ModelDetail, ModelSummary, NodeReport, TensorSpec
from lstm_explain_client.result import Ledger, Result
from lstm_explain_client.target import Target
from lstm_explain_client.wire import Answer, Request

__all__ = [
    "LRP",
    "TLS",
    "AlphaBeta",
    "AlreadyExists",
    "Answer",
    "AsyncClient",
    "Cancelled",
    "Client",
    "Composite",
    "ContextualDecomposition",
    "DeadlineExceeded",
    "Epsilon",
    "ExplainError",
    "Flat",
    "Gamma",
    "Gradient",
    "GradientTimesInput",
    "IntegratedGradients",
    "InvalidRequest",
    "Ledger",
    "MalformedResponse",
    "Method",
    "ModelDetail",
    "ModelNotFound",
    "ModelSummary",
    "NodeReport",
    "NotExplainable",
    "Occlusion",
    "Overloaded",
    "PermissionDenied",
    "Request",
    "Result",
    "Retry",
    "ServerFault",
    "ShapleySampling",
    "SmoothGrad",
    "Target",
    "TensorSpec",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "ZBox",
    "ZPlus",
    "render",
]
