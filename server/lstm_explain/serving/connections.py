# SPDX-License-Identifier: Apache-2.0
"""Computes how many connections a process may have, and counts those that are open."""

from __future__ import annotations

import logging
import os
import resource
from contextlib import suppress
from pathlib import Path

from lstm_explain.serving.addresses import split_address
from lstm_explain.serving.settings import Settings

log = logging.getLogger(__name__)

OTHER_FILES = 100  # files that a process has open: models, metrics, logs, imports
MAX_PAGE_CONNECTIONS = 512  # enough to leave room for others when somebody opens many and sends half a request on each
ESTABLISHED = "01"  # the state in /proc/net/tcp
REARM_SHARE = 0.9  # share of the limit; the log mentions the limit again once the count has been below this share


def raise_file_limit() -> None:
    """Raises the limit of open files, of this process and its children, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_page_connections() -> int:
    """Returns how many connections to the page one process may have."""
    return max(1, min(MAX_PAGE_CONNECTIONS, _available_files() // 2))


def max_connections(settings: Settings) -> int:
    """Returns how many gRPC connections one process may have, as far as settings and file descriptors allow."""
    page = 0 if settings.web is None else max_page_connections()
    return max(1, min(settings.max_connections, _available_files() - page))


def _available_files() -> int:
    """Returns how many file descriptors are left for connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (1 << 30 if soft == resource.RLIM_INFINITY else soft) - OTHER_FILES


def accepted(address: str) -> set[str]:
    """Returns the inodes of the sockets that are connected to our port. Connections that have not been accepted have
    none.
    """
    port, found = f"{split_address(address)[1]:04X}", set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):  # the system lacks the protocol
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(f":{port}") and fields[3] == ESTABLISHED and fields[9] != "0":
                    found.add(fields[9])
    return found


class ConnectionGauge:
    """Logs a warning when this process has as many connections as it may have. Call `check` periodically."""

    def __init__(self, settings: Settings) -> None:
        self._address, self._limit = settings.listen, max_connections(settings)
        self._warned = False

    def check(self) -> None:
        files = os.listdir("/proc/self/fd")
        if len(files) < REARM_SHARE * self._limit:  # the usual case, which is cheap
            self._warned = False
            return
        count = len(accepted(self._address) & set(map(_inode, files)))
        if count >= self._limit and not self._warned:
            log.warning("%d connections are open, which is the limit: new ones are closed at once", count)
            self._warned = True
        elif count < REARM_SHARE * self._limit:
            self._warned = False


def _inode(file: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{file}").removeprefix("socket:[").removesuffix("]")
    except OSError:
        return ""
