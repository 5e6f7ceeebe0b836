# SPDX-License-Identifier: Apache-2.0
"""What the types of method_types.py have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class Parameters:
    """Base of all types with parameters. `name`: the name of the type among its alternatives; empty if it has none."""

    name: ClassVar[str] = ""

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters().values()))})"

    def parameters(self) -> dict[str, Any]:
        """Returns the parameters that are set."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class Method(Parameters):
    """Base of all methods. `name` is its name in `explain(method=…)`.

    absorbed, residual: the meaning of these two entries of the ledger under the method.
    unit: "steps" where the method gives one value to a whole time step; methods with a parameter `over` say it there.
    """

    absorbed: ClassVar[str] = "absorbed"
    residual: ClassVar[str] = "residual"
    unit: ClassVar[str] = ""

    def __str__(self) -> str:
        shown = (
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in self.parameters().items()
            if key != "baseline"
        )
        return ", ".join([self.name, *shown])


@dataclass(frozen=True)
class Record(Parameters):
    """Base of the parameters that have parameters of their own."""

    def __str__(self) -> str:
        parts = []
        for key, value in self.parameters().items():
            entries = value if isinstance(value, Mapping) else {key: value}
            parts += [f"{name}{'=' if isinstance(part, Parameters) else ' '}{part}" for name, part in entries.items()]
        return "; ".join(parts)
