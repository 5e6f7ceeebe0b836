"""Checks whether a caller may call a method: a table of the role that each method requires.

Where the server has a file of tokens, a method that is not in the table requires the role `manage`, so that none is
left open by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable

from lstm_explain.serving.errors import Forbidden, Unauthenticated
from lstm_explain.serving.security.tokens import EXPLAIN, MANAGE, Caller, Tokens

OPEN, ANYBODY = "open", "anybody"  # needs no token; needs any token of the file

_OURS, _MODELS = "/lstm_explain.v1.ExplanationService/", "/lstm_explain.v1.ModelService/"
_INFERENCE, _HEALTH = "/inference.GRPCInferenceService/", "/grpc.health.v1.Health/"

REQUIRED_ROLES: dict[str, str] = {
    **dict.fromkeys((_HEALTH + name for name in ("Check", "Watch", "List")), OPEN),
    **dict.fromkeys((_INFERENCE + name for name in ("ServerLive", "ServerReady")), OPEN),
    **dict.fromkeys((_OURS + name for name in ("Explain", "ExplainStream")), EXPLAIN),
    **dict.fromkeys((_INFERENCE + name for name in ("ModelInfer", "ModelStreamInfer")), EXPLAIN),
    **dict.fromkeys((_MODELS + name for name in ("ListModels", "GetModel")), ANYBODY),
    **dict.fromkeys(
        (_INFERENCE + name for name in ("ServerMetadata", "ModelMetadata", "ModelReady", "ModelConfig")), ANYBODY
    ),
    **dict.fromkeys((_INFERENCE + name for name in ("RepositoryIndex", "ModelStatistics")), ANYBODY),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYBODY,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": ANYBODY,
    **dict.fromkeys((_MODELS + name for name in ("ImportModel", "DeleteModel")), MANAGE),
    **dict.fromkeys((_INFERENCE + name for name in ("RepositoryModelLoad", "RepositoryModelUnload")), MANAGE),
}

Metadata = Iterable[tuple[str, str | bytes]]


class Access:
    """tokens: None allows every call to everybody."""

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens

    def check(self, method: str, metadata: Metadata) -> Caller | None:
        """The caller that the token names, if one is needed. Raises Unauthenticated, Forbidden."""
        required = REQUIRED_ROLES.get(method, MANAGE)
        if self._tokens is None or required == OPEN:
            return None
        caller = self._tokens.caller(_bearer(metadata))
        if caller is None:
            raise Unauthenticated("the bearer token is not known to this server")
        if required != ANYBODY and required not in caller.roles:
            raise Forbidden(f"this call requires the role {required!r}", role=required)
        return caller


def _bearer(metadata: Metadata) -> str:
    """The token in the single `authorization` header. Raises Unauthenticated."""
    found = [value for key, value in metadata if key == "authorization"]
    if not found:
        raise Unauthenticated("the metadata `authorization` must carry a bearer token")
    scheme, _, token = str(found[0]).partition(" ")
    if len(found) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the metadata `authorization` must be `Bearer TOKEN`")
    return token.strip()
