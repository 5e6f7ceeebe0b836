# SPDX-License-Identifier: Apache-2.0
"""Binds the gRPC server's port, and sets its encryption and gRPC's channel options."""

from __future__ import annotations

import grpc

from lstm_explain.errors import Error
from lstm_explain.serving import connections
from lstm_explain.serving.security.tls import Certificates, TLSFiles
from lstm_explain.serving.settings import Settings

# Calls that one connection may have open in addition to those that compute: health, lists of models, waiting calls and
# refused calls. A call that is opened and reset at once counts until gRPC's core has released it. So this bounds the
# memory that a flood of such calls takes, and keeps one connection from filling the core's queue, which cancels the
# calls of others from 1,000 entries on. Beyond it a further call is refused as UNAVAILABLE.
OTHER_CALLS = 420


def options(settings: Settings) -> list[tuple[str, int]]:
    """Returns the channel options for these settings."""
    chosen = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", settings.max_concurrent + settings.max_streams + OTHER_CALLS),
        # By default, gRPC lets a second server bind the same port without an error.
        ("grpc.so_reuseport", int(settings.reuse_port)),
        (
            "grpc.max_allowed_incoming_connections",
            connections.max_connections(settings),
        ),  # to each port, and to the page's socket
        ("grpc.max_connection_idle_ms", _milliseconds(settings.max_connection_idle)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.keepalive_timeout)),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_time)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.keepalive_timeout)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(settings.min_ping_interval)),
    ]
    if settings.max_connection_age is not None:
        chosen.append(("grpc.max_connection_age_ms", _milliseconds(settings.max_connection_age)))
        chosen.append(("grpc.max_connection_age_grace_ms", _milliseconds(settings.grace_period)))
    return chosen


def bind(server: grpc.aio.Server, settings: Settings) -> int:
    """Binds the address, and returns the port. Raises Error."""
    credentials = _credentials(settings)
    try:
        if credentials is None:
            port = server.add_insecure_port(settings.listen)
        else:
            port = server.add_secure_port(settings.listen, credentials)
    except RuntimeError:
        port = 0
    if not port:
        raise Error(
            f"cannot listen on {settings.listen}: the port is in use, or the address is not one of this machine"
        )
    return port


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Returns None for a port without encryption. Raises Error."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(TLSFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)).credentials()


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
