# SPDX-License-Identifier: Apache-2.0
"""Decides whether the server is ready, which requires enough ready models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lstm_explain.repository.model_folder import NAME

if TYPE_CHECKING:
    from lstm_explain.serving.models.snapshot import Snapshot


@dataclass(frozen=True)
class RequiredModels:
    """count: how many models must be ready. names: models that must be among them."""

    count: int = 1
    names: frozenset[str] = frozenset()

    def missing(self, snapshot: Snapshot) -> str:
        """Returns what is missing, or an empty string if the server is ready. A model is ready if it answers
        requests that name no version.
        """
        ready = {name for name in snapshot.models if snapshot.is_ready(name)}
        if absent := sorted(self.names - ready):
            return f"not ready: {', '.join(absent)}"
        return f"{len(ready)} models are ready, {self.count} required" if len(ready) < self.count else ""


def parse_required_models(text: str) -> RequiredModels:
    """Parses a number of models, or comma-separated names. Raises ValueError."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return RequiredModels(int(text))
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is neither a number of models nor a model's name")
    return RequiredModels(0, frozenset(names))
