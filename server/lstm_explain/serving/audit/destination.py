# SPDX-License-Identifier: Apache-2.0
"""Where the audit log goes; the parent process checks it before it starts workers."""

from __future__ import annotations

import os

from lstm_explain.errors import Error

STDOUT, STDERR = "stdout", "stderr"
MODE = 0o640  # of a new file


def open_file(path: str) -> int:
    """Returns a descriptor that appends to the file, which is created if necessary. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)


def check_writable(where: str | None) -> None:
    """Raises Error if the audit log cannot be written to this file."""
    if where in (None, STDOUT, STDERR):
        return
    try:
        os.close(open_file(where))
    except OSError as error:
        raise Error(f"--audit: cannot write to {where}: {error.strerror}") from error
