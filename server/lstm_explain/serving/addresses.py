# SPDX-License-Identifier: Apache-2.0
"""Parses `host:port` addresses and binds sockets to them."""

from __future__ import annotations

import ipaddress
import socket

from lstm_explain.errors import Error


def split_address(address: str) -> tuple[str, int]:
    """Returns host and port of `host:port`; IPv6 is written as `[::1]:50051`. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def is_loopback(address: str) -> bool:
    """Returns whether only this machine can reach `host:port`."""
    host = split_address(address)[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def resolve(address: str) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    """Returns the address family of `host:port`, and the address as `socket.bind` takes it. Raises OSError."""
    host, port = split_address(address)
    family, _, _, _, where = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    return family, where


def cannot_listen(address: str, error: OSError) -> Error:
    """Returns the error for an address that cannot be bound."""
    return Error(f"cannot listen on {address}: {error.strerror}")
