# SPDX-License-Identifier: Apache-2.0
"""Reads what Linux reports about a process in /proc. A process that has ended, or a missing /proc, reads as zero."""

from __future__ import annotations

import os
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Returns the bytes of memory that are resident."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def bytes_without_files(pid: int) -> int:
    """Returns the bytes of resident memory without the pages of files, which the system can drop and read again."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines)
    kib = {name: int(fields.get(name, "0 kB").split()[0]) for name in ("VmRSS", "RssFile")}  # a zombie has neither
    return (kib["VmRSS"] - kib["RssFile"]) * 1024


def open_files(pid: int) -> int:
    """Returns the number of open file descriptors."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def processor_seconds(pid: int) -> float:
    """Returns the seconds of processor time used so far, in user and kernel mode."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND if fields else 0.0


def is_stopped(pid: int) -> bool:
    """Returns whether the process is stopped by SIGSTOP or a debugger."""
    fields = _stat(pid)
    return bool(fields) and fields[0] in "tT"


def _stat(pid: int) -> list[str]:
    """Returns the fields of /proc/<pid>/stat from the state on. They are split from the end, because the name before
    them may contain spaces.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
