# SPDX-License-Identifier: Apache-2.0
"""Imports packages that only an extra installs."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def imported(module: str, caller: str) -> Any:
    """Returns the module. Raises ImportError, which tells how to install it, if the package is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        advice = "pip install 'lstm-explain[notebook]'"
        raise ImportError(f"{caller} needs {package}, which is not installed: {advice}", name=package) from error
