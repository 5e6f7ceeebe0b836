# SPDX-License-Identifier: Apache-2.0
"""Runs the conformance runner of a client, and reads its report."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from tests.conformance.generate import HERE
from tests.conformance.runners import ROOT, Runner

SECONDS = 600


@dataclass(frozen=True)
class Report:
    """The output of a runner, with one line per case, and the error of the runner itself."""

    lines: dict[str, dict] = field(default_factory=dict)
    problem: str = ""

    @property
    def failed(self) -> list[str]:
        return [f"{name}: {line['detail']}" for name, line in self.lines.items() if not line["ok"]]


@dataclass(frozen=True)
class Door:
    """How to reach the server: flags of a runner."""

    flags: tuple[str, ...]


def ran(runner: Runner, door: Door, folder: Path = HERE) -> Report:
    """folder: contains the cases and golden messages."""
    given = {"cases": folder / "cases", "golden": folder / "golden", "models": HERE / "models"}
    folders = [part for name, path in given.items() for part in (f"--{name}", str(path))]
    command = [*runner.run, "conformance", *folders, *door.flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    lines: dict[str, dict] = {}
    for text in done.stdout.splitlines():
        try:
            line = json.loads(text)
            lines[line["case"]] = line
        except (ValueError, TypeError, KeyError):
            return Report(lines, f"no line of a report: {text!r}")
    if done.returncode not in (0, 1):
        return Report(lines, f"exit code {done.returncode}: {done.stderr[-2000:]}")
    if (done.returncode == 0) != all(line["ok"] for line in lines.values()):
        return Report(lines, f"exit code {done.returncode} contradicts the lines")
    return Report(lines)


def ran_alone(runner: Runner, free: SimpleQueue[Door]) -> Report:
    """Runs it once a door is free, through which no other runner goes meanwhile."""
    door = free.get()
    try:
        return ran(runner, door)
    finally:
        free.put(door)
