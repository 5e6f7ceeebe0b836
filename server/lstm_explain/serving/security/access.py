# SPDX-License-Identifier: Apache-2.0
"""Checks whether a caller may call a method: a table of the role that each method requires.

Where the server has a file of tokens, a method that is not in the table requires the role `manage`, so that none is
left open by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from lstm_explain.serving.errors import Forbidden, Unauthenticated
from lstm_explain.serving.security import permits
from lstm_explain.serving.security.callers import BATCH, EXPLAIN, MANAGE
from lstm_explain.serving.security.permits import CallerPermit, Permit
from lstm_explain.serving.security.quotas import Quotas
from lstm_explain.serving.security.tokens import Tokens

OPEN, ANYBODY = "open", "anybody"  # needs no token; needs any token of the file

_OURS, _MODELS = "/lstm_explain.v1.ExplanationService/", "/lstm_explain.v1.ModelService/"
_OPERATIONS = "/lstm_explain.v1.OperationService/"
_INFERENCE, _HEALTH = "/inference.GRPCInferenceService/", "/grpc.health.v1.Health/"

REQUIRED_ROLES: dict[str, str] = {
    **dict.fromkeys((_HEALTH + name for name in ("Check", "Watch", "List")), OPEN),
    **dict.fromkeys((_INFERENCE + name for name in ("ServerLive", "ServerReady")), OPEN),
    **dict.fromkeys((_OURS + name for name in ("Explain", "ExplainStream")), EXPLAIN),
    **dict.fromkeys((_INFERENCE + name for name in ("ModelInfer", "ModelStreamInfer")), EXPLAIN),
    _OPERATIONS + "StartExplain": EXPLAIN,
    _OPERATIONS + "StartBatch": BATCH,  # no quota knows what it will cost
    # Each of them shows a caller its own operations only.
    **dict.fromkeys(
        (_OPERATIONS + name + "Operation" for name in ("Get", "Wait", "Cancel", "Delete")),
        ANYBODY,
    ),
    _OPERATIONS + "ListOperations": ANYBODY,
    **dict.fromkeys((_MODELS + name for name in ("ListModels", "GetModel")), ANYBODY),
    **dict.fromkeys(
        (_INFERENCE + name for name in ("ServerMetadata", "ModelMetadata", "ModelReady", "ModelConfig")), ANYBODY
    ),
    **dict.fromkeys((_INFERENCE + name for name in ("RepositoryIndex", "ModelStatistics")), ANYBODY),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYBODY,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": ANYBODY,
    **dict.fromkeys((_MODELS + name for name in ("ImportModel", "DeleteModel", "RouteModel", "RollBackModel")), MANAGE),
    **dict.fromkeys((_INFERENCE + name for name in ("RepositoryModelLoad", "RepositoryModelUnload")), MANAGE),
}

Metadata = Iterable[tuple[str, str | bytes]]


class Access:
    """tokens: None allows every call to everybody."""

    def __init__(self, tokens: Tokens | None, quotas: Quotas | None = None) -> None:
        self._tokens = tokens
        self._quotas = quotas or Quotas()
        self._permits: dict[bytes, CallerPermit] = {}  # by digest of the token

    def check(self, method: str, metadata: Metadata) -> Permit:
        """Returns the permit of the caller. Raises Unauthenticated, Forbidden."""
        required = REQUIRED_ROLES.get(method, MANAGE)
        tokens = self._tokens
        if tokens is None or required == OPEN:
            return permits.ANYBODY
        entry = tokens.entry(_bearer(metadata))
        if entry is None:
            raise Unauthenticated("the bearer token is not known to this server")
        caller = entry.caller
        permits.check_expiry(caller)
        if required != ANYBODY and required not in caller.roles:
            message = f"this call requires the role {required!r}, which the token {caller.name!r} lacks"
            raise Forbidden(message, required, caller.name)
        permit = self._permits.get(entry.digest)
        if permit is None or permit.name != caller.name:
            current = partial(tokens.caller, entry.digest)
            permit = self._permits[entry.digest] = CallerPermit(caller, current, self._quotas)
        return permit


def _bearer(metadata: Metadata) -> str:
    """Returns the token in the single `authorization` header. Raises Unauthenticated."""
    found = [value for key, value in metadata if key == "authorization"]
    if not found:
        raise Unauthenticated("the metadata `authorization` must carry a bearer token")
    scheme, _, token = str(found[0]).partition(" ")
    if len(found) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the metadata `authorization` must be `Bearer TOKEN`")
    return token.strip()
