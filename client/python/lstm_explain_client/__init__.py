"""Client of the explanation server, which returns predictions together with their explanations.

with Client("127.0.0.1:50051") as client:
    result = client.explain("sentiment", {"tokens": "not a bad film"})
    result.print()
"""

from lstm_explain_client import method_types, render
from lstm_explain_client.aio import AsyncClient
from lstm_explain_client.client import Client
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
from lstm_explain_client.method_base import Method
from lstm_explain_client.method_types import *  # noqa: F403
from lstm_explain_client.models import ModelDetail, ModelSummary, NodeReport, TensorSpec
from lstm_explain_client.result import Result
from lstm_explain_client.result_data import Ledger
from lstm_explain_client.target import Target
from lstm_explain_client.wire import Answer, Request

__all__ = [
    "TLS",
    "AlreadyExists",
    "Answer",
    "AsyncClient",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "ExplainError",
    "InvalidRequest",
    "Ledger",
    "MalformedResponse",
    "Method",
    "ModelDetail",
    "ModelNotFound",
    "ModelSummary",
    "NodeReport",
    "NotExplainable",
    "Overloaded",
    "PermissionDenied",
    "Request",
    "Result",
    "Retry",
    "ServerFault",
    "Target",
    "TensorSpec",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "render",
]
__all__ += method_types.__all__
