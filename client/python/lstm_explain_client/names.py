# SPDX-License-Identifier: Apache-2.0
"""What the owner of a model calls its inputs and outputs, which pictures and data frames show."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Names:
    """The names, units and axes of the inputs and outputs of a model.

    class_names, feature_names: output or input name to the names of the entries of its last axis.
    units: input or output name to its unit: one for all entries, or one for each entry of the last axis.
    batch_axes, time_axes: input name to the axis along which samples, or time steps, lie; inputs without such an axis
    have no entry.
    """

    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    feature_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    units: dict[str, tuple[str, ...]] = field(default_factory=dict)
    batch_axes: dict[str, int] = field(default_factory=dict)
    time_axes: dict[str, int] = field(default_factory=dict)

    def unit(self, name: str, entry: int = 0) -> str:
        """Return the unit of an entry on the last axis of an input or output; empty if it is unknown."""
        units = self.units.get(name, ())
        return units[0] if len(units) == 1 else units[entry] if -len(units) <= entry < len(units) else ""
