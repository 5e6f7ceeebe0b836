# SPDX-License-Identifier: Apache-2.0
"""Describes what the bits of an answer depend on besides model and request: the processor and the packages."""

from __future__ import annotations

import functools
import os
import platform
from importlib.metadata import version
from typing import Any

from lstm_explain.kernels.cache import CPU

PACKAGES = ("lstm-explain", "numpy", "numba", "llvmlite", "onnx", "onnxruntime")
WITHOUT = "none: NumPy answered"


@functools.cache
def environment(*, without_kernels: bool = False) -> dict[str, Any]:
    """Returns the description of this process as plain JSON. The caller must not change it.

    processor.kernels: the processor that our kernels are compiled for, if it is not the one that they run on; or
    WITHOUT, where some were not compiled yet (kernels/compilation.py).
    """
    from llvmlite import binding

    features = sorted(name for name, present in binding.get_host_cpu_features().items() if present)
    return {
        "processor": {
            "machine": platform.machine(),
            "name": binding.get_host_cpu_name(),
            "features": ",".join(features),
            "kernels": WITHOUT if without_kernels else os.environ.get(CPU, ""),
        },
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def differences(recorded: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Returns what differs between two environments and can change the last bits of an answer, each as text."""
    found = []
    for name in ("machine", "name", "kernels"):
        before, now = recorded["processor"].get(name), here["processor"].get(name)
        if before != now:
            label = {"machine": "machine", "name": "processor", "kernels": "kernels compiled for"}[name]
            found.append(f"{label} {before or 'the host'!s}, here {now or 'the host'!s}")
    if not found and recorded["processor"].get("features") != here["processor"].get("features"):
        found.append("the processor offers other instructions")
    if recorded.get("system") != here["system"]:
        found.append(f"system {recorded.get('system')}, here {here['system']}")
    for name in sorted({*recorded["packages"], *here["packages"]}):
        before, now = recorded["packages"].get(name, "none"), here["packages"].get(name, "none")
        if before != now:
            found.append(f"{name} {before}, here {now}")
    return found
