"""Whether the server is able to do what it is there for: as many models as are required are ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lstm_explain.repository.model_folder import NAME

if TYPE_CHECKING:
    from lstm_explain.serving.models.snapshot import Snapshot


@dataclass(frozen=True)
class RequiredModels:
    """count: models that have to be ready, whichever they are. names: those that have to be among them."""

    count: int = 1
    names: frozenset[str] = frozenset()

    def missing(self, snapshot: Snapshot) -> str:
        """What is missing, or nothing if the server is ready. A model is ready if one of its versions is."""
        from lstm_explain.serving.models.snapshot import (
            Ready,  # the engine, which whoever only checks settings does without
        )

        ready = {entry.name for entry in snapshot if isinstance(entry, Ready)}
        if absent := sorted(self.names - ready):
            return f"not ready: {', '.join(absent)}"
        return f"{len(ready)} models are ready, {self.count} required" if len(ready) < self.count else ""


def required_of(text: str) -> RequiredModels:
    """From a number of models, or names with commas between. Raises ValueError."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return RequiredModels(int(text))
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is neither a number of models nor a model's name")
    return RequiredModels(0, frozenset(names))
