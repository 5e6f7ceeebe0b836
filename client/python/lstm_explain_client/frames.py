# SPDX-License-Identifier: Apache-2.0
"""Shows an explanation as a data frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_explain_client.explained_batch import ExplainedBatch
from lstm_explain_client.extras import imported
from lstm_explain_client.views import View, inputs

if TYPE_CHECKING:
    import pandas


def frame(result: ExplainedBatch) -> pandas.DataFrame:
    """Return one row per element; see Shown.to_frame."""
    library = imported("pandas", "to_frame")
    columns: dict[str, list[Any]] = {
        key: [] for key in ("sample", "input", "step", "feature", "token", "value", "relevance")
    }
    for sample in range(len(result)):
        for view in inputs(result, sample):
            for row in _rows(view):
                for key, value in zip(columns, (sample, view.name, *row), strict=True):
                    columns[key].append(value)
    table: pandas.DataFrame = library.DataFrame(columns)
    return table


def concatenated(named: Iterable[tuple[str, pandas.DataFrame]]) -> pandas.DataFrame:
    """Return the frames below each other, with the name of each in a first column `target`."""
    library = imported("pandas", "to_frame")
    tables = [table.assign(target=name) for name, table in named]
    whole: pandas.DataFrame = library.concat(tables, ignore_index=True)
    return whole[["target", *tables[0].columns.drop("target")]]


def _rows(view: View) -> Iterator[tuple[Any, ...]]:
    """Yield step, feature, token, value and relevance of every element; padding is left out."""
    for place in np.ndindex(view.relevance.shape):
        token = view.tokens[place[0]] if view.tokens is not None else None
        if token == "":
            continue
        feature = view.features[place[1]] if len(place) > 1 else None
        value = view.values[place] if view.values is not None else None
        yield place[0], feature, token, value, view.relevance[place]
