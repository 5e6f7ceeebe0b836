# SPDX-License-Identifier: Apache-2.0
"""Describes the machine of a measurement, and the versions of the measured packages."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "performance"
PACKAGES = ("numpy", "numba", "onnxruntime", "onnx", "torch", "captum")


def machine() -> dict[str, str | int | None]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    here = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {**here, "commit": commit.stdout.strip(), **dict(_versions())}


def file_of(machine: Mapping[str, object]) -> Path:
    """The file with the figures of this kind of processor."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"\(\w+\)|processor", "", str(machine["processor"]).lower()))
    return FIGURES / f"{'-'.join(words)}.json"


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
