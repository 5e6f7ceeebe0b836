# SPDX-License-Identifier: Apache-2.0
"""Runs the command line."""

from __future__ import annotations

import subprocess

import pytest

from lstm_explain.cli import main
from tests.serving.running import command


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*map(str, arguments)), capture_output=True, text=True, timeout=120, check=False)


def here(capsys: pytest.CaptureFixture[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, because new processes for all tests would take minutes."""
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    reported = capsys.readouterr()
    return subprocess.CompletedProcess([], int(raised.value.code or 0), reported.out, reported.err)


def failed(done: subprocess.CompletedProcess[str], code: int, part: str) -> None:
    """Checks that stderr has one line that describes the error."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("lstm-explain: ")
    assert part in line
