# SPDX-License-Identifier: Apache-2.0
"""Which files of the server a batch job may read and write: those below one folder, reached without symbolic links.

The checks happen before the job opens the files. Whoever can write to the folder by other means can change it in
between, so it must be mounted in a way that ignores links (`nosymfollow`) where those are not trusted.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from lstm_explain.errors import InputError
from lstm_explain.serving.errors import NotOffered

MAX_LENGTH = 1024
MAX_FILES = 100_000  # in the input of one job


@dataclass(frozen=True)
class BatchPaths:
    """The files of one job."""

    input: Path
    output: Path


def folder_of(root: Path, caller: str) -> Path:
    """Returns the caller's own folder; the whole one where callers have no tokens. Raises NotOffered."""
    if not caller:
        return root
    if "/" in caller or "\0" in caller or caller.startswith("."):
        raise NotOffered(f"the token {caller!r} has a name that no folder can have, so it may not start batch jobs")
    if not _is_folder(root / caller):
        raise NotOffered(f"the token {caller!r} may not start batch jobs here: it has no folder in --batch-folder")
    return root / caller


def paths_of(folder: Path, given_input: str, given_output: str) -> BatchPaths:
    """Returns the paths of a job, which is checked. Raises InputError."""
    found = BatchPaths(_below(folder, given_input, "input"), _below(folder, given_output, "output"))
    if not os.path.lexists(found.input):
        raise InputError(f"input {given_input!r}: there is no such file or folder", field="input")
    _check_plain(found.input, given_input)
    if os.path.lexists(found.output) and not _is_folder(found.output):
        raise InputError(f"output {given_output!r}: this is not a folder", field="output")
    if found.output.is_relative_to(found.input):
        raise InputError(f"output {given_output!r} lies in the input", field="output")
    return found


def _below(folder: Path, given: str, field: str) -> Path:
    """Returns the path; everything on the way to it that exists must be a folder."""
    parts = given.split("/")
    if not given or len(given) > MAX_LENGTH or not given.isprintable():
        raise InputError(f"{field}: expected a path of 1 to {MAX_LENGTH} printable characters", field=field)
    if any(part in ("", "..") or part.startswith(".") for part in parts):
        problem = (
            f"{field} {given!r}: expected a relative path, without `..`, empty names and names that begin with `.`"
        )
        raise InputError(problem, field=field)
    path = folder
    for part in parts[:-1]:
        path /= part
        if os.path.lexists(path) and not _is_folder(path):
            raise InputError(f"{field} {given!r}: {part!r} is not a folder", field=field)
    return path / parts[-1]


def _check_plain(path: Path, given: str) -> None:
    """Checks that a file, or every file below a folder, is a plain one."""
    if not _is_folder(path):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise InputError(f"input {given!r}: this is neither a plain file nor a folder", field="input")
        return
    count = 0
    for where, folders, files in os.walk(path):
        for name in (*folders, *files):
            mode, count = (Path(where) / name).lstat().st_mode, count + 1
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise InputError(f"input {given!r}: {name!r} is neither a plain file nor a folder", field="input")
        if count > MAX_FILES:
            raise InputError(f"input {given!r}: more than {MAX_FILES} files", field="input")


def _is_folder(path: Path) -> bool:
    """Returns whether it is a folder, and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
