# SPDX-License-Identifier: Apache-2.0
"""Groups of entries of the inputs, such as days of hourly steps or words of several tokens, and their relevance.

The engine uses the same classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client.extras import imported

if TYPE_CHECKING:
    import pandas

Array = npt.NDArray[Any]
PADDING = "(padding)"  # the name of the group of the tokens behind a text
FeatureGroups = Mapping[str, Sequence[str | int]]


@dataclass(frozen=True)
class ChangePoints:
    """Cuts a time series where the mean of a feature changes.

    segments: number of segments at most. penalty: what a cut must lower the sum of squared deviations from the
    segments' means by, in units of the variance of the noise; None: (features + 1) times the logarithm of the number of
    steps.
    """

    segments: int = 10
    penalty: float | None = None


@dataclass(frozen=True)
class Groups:
    """Divides the inputs into groups of entries that belong together. Every entry belongs to one group of its input.

    window: this many consecutive steps. words: the tokens of a word, in inputs given as text. change_points: the steps
        of a segment, in inputs of floating-point numbers. At most one of the three; without any, all steps.
    features: the names or positions of the features of each group, by the group's name; for a model with several
        inputs, such a dict by input. Features in no group form a group by themselves. True: the groups of the model
        (`feature_groups` in model.yaml). Without any, all features.
    """

    window: int | None = None
    words: bool = False
    change_points: ChangePoints | None = None
    features: FeatureGroups | Mapping[str, FeatureGroups] | bool = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GroupRelevance:
    """The groups of one input, and their relevance.

    relevance: [batch, groups], the sum over the entries of each group. names: [batch, groups], such as
    "steps 0-23, weather", or the word; empty where a sample has fewer groups. steps: [batch, groups, 2], the first step
    of each group and the step after its last one. standard_error: [batch, groups], or None; exact where the groups are
    players, otherwise at least as large as the standard error of the sum. batch is 1 for an input without a batch axis.
    """

    relevance: Array
    names: Array
    steps: Array
    standard_error: Array | None = None

    def of(self, sample: int) -> GroupRelevance:
        """Return the groups of one sample, whose arrays have no batch axis, without those that it does not have."""
        row = min(sample, len(self.names) - 1)
        has = self.names[row] != ""
        error = None if self.standard_error is None else self.standard_error[row][has]
        return GroupRelevance(self.relevance[row][has], self.names[row][has], self.steps[row][has], error)


def grid(own: GroupRelevance) -> tuple[Array, list[str], list[str]]:
    """Return the groups of one sample by steps and features: the relevance [step groups, feature groups], the names of
    the step groups and those of the feature groups. A name is empty where there is only one group of its kind.
    """
    names: list[str] = own.names.tolist()
    features = int((own.steps == own.steps[0]).all(axis=1).sum())
    parts = len(names) // features
    if features == 1:
        return own.relevance.reshape(parts, 1), names if parts > 1 else [""], [""] if parts > 1 else names
    labels = names[:features] if parts == 1 else [name.partition(", ")[2] for name in names[:features]]
    steps = [name.partition(", ")[0] for name in names[::features]] if parts > 1 else [""]
    return own.relevance.reshape(parts, features), steps, labels


def frame(groups: Mapping[str, GroupRelevance]) -> pandas.DataFrame:
    """Return a row per sample, input and group: sample, input, group, start, end, relevance and standard_error, which
    is missing if the method has none. Raises ImportError without pandas.
    """
    pd = imported("pandas", "group_frame")
    rows: list[dict[str, Any]] = []
    for name, of_input in groups.items():
        for sample in range(len(of_input.names)):
            own = of_input.of(sample)
            errors: Any = np.full(own.relevance.shape, np.nan) if own.standard_error is None else own.standard_error
            for group, (start, end), relevance, error in zip(own.names, own.steps, own.relevance, errors, strict=True):
                row = {"sample": sample, "input": name, "group": group, "start": int(start), "end": int(end)}
                rows.append({**row, "relevance": float(relevance), "standard_error": float(error)})
    columns = ["sample", "input", "group", "start", "end", "relevance", "standard_error"]
    found: pandas.DataFrame = pd.DataFrame(rows, columns=columns)
    return found
