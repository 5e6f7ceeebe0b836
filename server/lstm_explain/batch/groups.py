# SPDX-License-Identifier: Apache-2.0
"""The groups of entries of single rows, and their relevance.

Groups are found in a row by itself, so they do not depend on the rows that share a batch with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lstm_explain.batch.cells import Array
from lstm_explain.batch.feed import Feed, Row
from lstm_explain.grouping import Grouping, GroupRelevance, Groups
from lstm_explain.inputs import check_inputs
from lstm_explain.methods import Method
from lstm_explain.model import Model
from lstm_explain.runner.groups import find_groups, words_of


def are_players(method: Method) -> bool:
    """Returns whether the method values groups as wholes, so that it must know them before it runs."""
    return getattr(method, "over", "") == "groups"


def groups_of_row(groups: Groups, model: Model, feed: Feed, row: Row) -> Grouping:
    """Raises InputError, also where the row does not fit the model."""
    inputs = check_inputs(model.inputs, feed.stack([row] * (feed.fixed_batch or 1)))
    for name, axes in feed.axes.items():
        if axes.batch is not None:
            inputs[name] = inputs[name].take([0], axes.batch)
    return _found(groups, model, inputs, [row])


def groups_of_batch(groups: Groups, model: Model, feed: Feed, rows: Sequence[Row]) -> Grouping:
    """Returns the groups of rows that are equally long, whose own groups are known."""
    return _found(groups, model, feed.stack(rows), rows)


def _found(groups: Groups, model: Model, inputs: Mapping[str, Array], rows: Sequence[Row]) -> Grouping:
    words = {name: np.stack([row.words[name] for row in rows]) for name in rows[0].words}
    tokens = {name: np.array([row.tokens[name] for row in rows], object) for name in words}
    return find_groups(groups, inputs, model.axes, model.labels, words_of(words, tokens))


def relevance_of_groups(
    row: Row, feed: Feed, relevance: Mapping[str, Array], standard_error: Mapping[str, Array]
) -> dict[str, GroupRelevance]:
    """Returns the relevance of the groups of one row by input. relevance, standard_error: of its entries."""

    def of_one(name: str, array: Array) -> Array:
        axis = feed.axes[name].batch
        return array if axis is None else np.expand_dims(array, axis)

    found = {}
    for name, entries in relevance.items():
        error = of_one(name, standard_error[name]) if name in standard_error else None
        found[name] = row.groups[name].relevance(of_one(name, entries), error).of(0)
    return found
