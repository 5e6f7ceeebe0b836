# SPDX-License-Identifier: Apache-2.0
"""Opens channels with security, limits and retries, for both clients."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import grpc

Certificate = bytes | str | os.PathLike[str]
Token = str | Callable[[], str]

# The published service config, for clients in every language: the calls that may be retried because they change
# nothing.
PUBLISHED: dict[str, Any] = json.loads(
    resources.files("lstm_explain_proto").joinpath("lstm_explain/v1/service_config.json").read_text()
)
_POLICY: dict[str, Any] = PUBLISHED["methodConfig"][0]["retryPolicy"]
_LOOPBACK = re.compile(r"(127(\.\d{1,3}){3}|localhost|\[::1\]):\d+|unix:.*")


@dataclass(frozen=True)
class TLS:
    """Settings of an encrypted connection. Certificates and keys are PEM, as bytes or as the path of a file.

    root_certificates: the authorities that may sign the server's certificate; default: those that gRPC ships.
    certificate, key: certificate and key of the client, for mutual TLS.
    server_name: the name expected in the server's certificate, if it is not the host of the address.
    """

    root_certificates: Certificate | None = None
    certificate: Certificate | None = None
    key: Certificate | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("mutual TLS takes both a certificate and its key")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return gRPC credentials; raise OSError if a file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.root_certificates),
            private_key=_pem(self.key),
            certificate_chain=_pem(self.certificate),
        )


def _pem(certificate: Certificate | None) -> bytes | None:
    return certificate if certificate is None or isinstance(certificate, bytes) else Path(certificate).read_bytes()


@dataclass(frozen=True)
class Retry:
    """When to retry read-only calls; by default as the published service config specifies.

    attempts: the total number of attempts, from 1 (no retries) to 5. initial_backoff, max_backoff: seconds. If the
    server says when to retry, the client does that. A server that stops reports CANCELLED for calls that it had not
    begun (grpc/grpc issue 41785). Calls that the caller cancels are never retried.
    """

    attempts: int = int(_POLICY["maxAttempts"])
    initial_backoff: float = float(_POLICY["initialBackoff"].rstrip("s"))
    max_backoff: float = float(_POLICY["maxBackoff"].rstrip("s"))
    multiplier: float = float(_POLICY["backoffMultiplier"])
    codes: tuple[str, ...] = tuple(_POLICY["retryableStatusCodes"])

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 5:
            raise ValueError(f"attempts is {self.attempts}; expected 1 to 5")

    def service_config(self) -> str:
        """Return the service config as JSON for gRPC."""
        policy = {
            "maxAttempts": self.attempts,
            "initialBackoff": f"{self.initial_backoff:g}s",
            "maxBackoff": f"{self.max_backoff:g}s",
            "backoffMultiplier": self.multiplier,
            "retryableStatusCodes": list(self.codes),
        }
        methods = {**PUBLISHED["methodConfig"][0], "retryPolicy": policy}
        return json.dumps({**PUBLISHED, "methodConfig": [methods]})


DEFAULT_RETRY = Retry()


@dataclass(frozen=True)
class Connection:
    """The options that both clients need to open a channel and to make a call; Client describes them."""

    address: str
    tls: TLS | bool = False
    token: Token | None = None
    timeout: float | None = 60.0
    max_message_bytes: int = 64 << 20
    retry: Retry | None = DEFAULT_RETRY
    channel_options: Sequence[tuple[str, Any]] = ()
    plaintext_token: bool = False

    def __post_init__(self) -> None:
        exposed = self.token is not None and not self.tls and not _LOOPBACK.fullmatch(self.address)
        if exposed and not self.plaintext_token:
            raise ValueError(
                "a token over an unencrypted connection can be read by others: set tls, or plaintext_token"
            )

    @property
    def security(self) -> TLS | None:
        return TLS() if self.tls is True else self.tls or None

    def options(self) -> list[tuple[str, Any]]:
        """Return gRPC's channel arguments; those of the caller come last and take precedence."""
        retrying = self.retry is not None and self.retry.attempts > 1
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.enable_retries", int(retrying)),
        ]
        if self.retry is not None and retrying:
            options.append(("grpc.service_config", self.retry.service_config()))
            # The buffer for retries: gRPC does not retry a larger request, because it keeps no copy. gRPC's default is
            # 256 KiB.
            options.append(("grpc.per_rpc_retry_buffer_size", self.max_message_bytes))
            options.append(("grpc.initial_reconnect_backoff_ms", max(100, int(self.retry.initial_backoff * 1000))))
        if self.security and self.security.server_name:
            options.append(("grpc.ssl_target_name_override", self.security.server_name))
        return [*options, *self.channel_options]

    def open(self, kind: Any) -> Any:
        """Open a channel of `kind`, which is the module `grpc` or `grpc.aio`."""
        if self.security:
            return kind.secure_channel(self.address, self.security.credentials(), options=self.options())
        return kind.insecure_channel(self.address, options=self.options())

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call."""
        if self.token is None:
            return ()
        token = self.token() if callable(self.token) else self.token
        return (("authorization", f"Bearer {token}"),)
