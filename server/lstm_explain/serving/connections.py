"""How many connections there may be, and how many there are."""

from __future__ import annotations

import logging
import os
import resource
from contextlib import suppress
from pathlib import Path

from lstm_explain.serving.settings import Settings, split_address

log = logging.getLogger(__name__)

OTHER_FILES = 100  # of a process: models, metrics, logs, what an import opens
MOST_OF_PAGE = 512  # connections to the page: half-sent requests cost nothing, so there are enough for those of others
ESTABLISHED = "01"  # as the kernel writes it
NEARLY = 0.9  # of a limit: below, it may be told of again


def raise_limit_of_files() -> None:
    """Lets this process and those that it starts have as many files as the system lets them ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_of_page() -> int:
    """Connections to the page that one process may have."""
    return max(1, min(MOST_OF_PAGE, _for_connections() // 2))


def most(settings: Settings) -> int:
    """Connections for gRPC that one process may have: as many as are allowed, or as there are descriptors for."""
    page = 0 if settings.web is None else most_of_page()
    return max(1, min(settings.max_connections, _for_connections() - page))


def _for_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (1 << 30 if soft == resource.RLIM_INFINITY else soft) - OTHER_FILES


def accepted(address: str) -> set[str]:
    """The sockets of connections to our port, by inode. Those that wait to be accepted have none yet."""
    port, found = f"{split_address(address)[1]:04X}", set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):  # no such protocol here
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(f":{port}") and fields[3] == ESTABLISHED and fields[9] != "0":
                    found.add(fields[9])
    return found


class ConnectionGauge:
    """Says in the log when this process has as many connections as it may have. Call `look` every so often."""

    def __init__(self, settings: Settings) -> None:
        self._address, self._most = settings.listen, most(settings)
        self._told = False

    def look(self) -> None:
        files = os.listdir("/proc/self/fd")
        if len(files) < NEARLY * self._most:  # the usual case, which costs next to nothing
            self._told = False
            return
        count = len(accepted(self._address) & set(map(_inode, files)))
        if count >= self._most and not self._told:
            log.warning("%d connections are open, as many as there may be: new ones are closed at once", count)
            self._told = True
        elif count < NEARLY * self._most:
            self._told = False


def _inode(file: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{file}").removeprefix("socket:[").removesuffix("]")
    except OSError:
        return ""
