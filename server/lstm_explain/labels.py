# SPDX-License-Identifier: Apache-2.0
"""The names that the owner of a model gives to it and to the entries of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Labels:
    """model, version: empty for a model that was not loaded from a model's folder.

    classes, features: by output or input, the names of the entries of its last axis. units: by output or input, one for
    all entries, or one for each entry of the last axis. feature_groups: by input, the features of each group, by the
    group's name.
    """

    model: str = ""
    version: str = ""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    features: Mapping[str, Sequence[str]] = field(default_factory=dict)
    units: Mapping[str, Sequence[str]] = field(default_factory=dict)
    feature_groups: Mapping[str, Mapping[str, Sequence[str | int]]] = field(default_factory=dict)
