# SPDX-License-Identifier: Apache-2.0
"""Client of the explanation server, which returns predictions together with their explanations.

with Client("127.0.0.1:50051") as client:
    result = client.explain("sentiment", {"tokens": "not a bad film"})
    result.print()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lstm_explain_client import method_types
from lstm_explain_client.method_base import Method
from lstm_explain_client.method_types import *  # noqa: F403

if TYPE_CHECKING:
    __version__: str
    from lstm_explain_client import render as render
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
        OperationNotFound,
        Overloaded,
        PermissionDenied,
        ServerFault,
        TooLarge,
        Unauthenticated,
        Unavailable,
        Unimplemented,
    )
    from lstm_explain_client.groups import ChangePoints, GroupRelevance, Groups
    from lstm_explain_client.ledger import Ledger
    from lstm_explain_client.models import ModelDetail, ModelRoute, ModelSummary, NodeReport, TensorSpec
    from lstm_explain_client.names import Names
    from lstm_explain_client.neurons import CapturedAxes, Neurons
    from lstm_explain_client.operations import AsyncOperation, BatchSummary, Operation
    from lstm_explain_client.result import Result
    from lstm_explain_client.results import Results
    from lstm_explain_client.target import Measure, Target
    from lstm_explain_client.target_sets import Every
    from lstm_explain_client.wire import Answer, Request

__all__ = [
    "TLS",
    "AlreadyExists",
    "Answer",
    "AsyncClient",
    "AsyncOperation",
    "BatchSummary",
    "Cancelled",
    "CapturedAxes",
    "ChangePoints",
    "Client",
    "DeadlineExceeded",
    "Every",
    "ExplainError",
    "GroupRelevance",
    "Groups",
    "InvalidRequest",
    "Ledger",
    "MalformedResponse",
    "Measure",
    "Method",
    "ModelDetail",
    "ModelNotFound",
    "ModelRoute",
    "ModelSummary",
    "Names",
    "Neurons",
    "NodeReport",
    "NotExplainable",
    "Operation",
    "OperationNotFound",
    "Overloaded",
    "PermissionDenied",
    "Request",
    "Result",
    "Results",
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

# Imported on first use: the engine draws its explanations with this package, and needs no gRPC for that.
_MODULES = {
    "aio": ["AsyncClient"],
    "client": ["Client"],
    "connection": ["TLS", "Retry"],
    "errors": [
        "AlreadyExists",
        "Cancelled",
        "CapturedAxes",
        "DeadlineExceeded",
        "ExplainError",
        "InvalidRequest",
        "MalformedResponse",
        "ModelNotFound",
        "NotExplainable",
        "OperationNotFound",
        "Overloaded",
        "PermissionDenied",
        "ServerFault",
        "TooLarge",
        "Unauthenticated",
        "Unavailable",
        "Unimplemented",
    ],
    "groups": ["ChangePoints", "GroupRelevance", "Groups"],
    "neurons": ["CapturedAxes", "Neurons"],
    "ledger": ["Ledger"],
    "models": ["ModelDetail", "ModelRoute", "ModelSummary", "NodeReport", "TensorSpec"],
    "names": ["Names"],
    "operations": ["AsyncOperation", "BatchSummary", "Operation"],
    "result": ["Result"],
    "results": ["Results"],
    "target": ["Measure", "Target"],
    "target_sets": ["Every"],
    "wire": ["Answer", "Request"],
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name == "render":
        return import_module(f"{__name__}.render")
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
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
    return [*__all__, "__version__"]
