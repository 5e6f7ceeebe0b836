# SPDX-License-Identifier: Apache-2.0
"""What a counterfactual says: which units were replaced, and whether the prediction turns without them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_explain_client import naming
from lstm_explain_client.explained_batch import ExplainedBatch
from lstm_explain_client.render.scale import number

NAME = "counterfactual"


def is_one(result: ExplainedBatch) -> bool:
    """Return whether the method was Counterfactual."""
    return result.method is not None and result.method.name == NAME


def turned(result: ExplainedBatch, sample: int) -> bool:
    """Return whether the prediction turns, which the model's margin for the changed input says."""
    before, after = float(result.explained[sample]), float(result.ledger.absorbed[sample])
    return not np.isnan(after) and (before >= 0) != (after >= 0)


def replaced(result: ExplainedBatch, sample: int) -> dict[str, list[Any]]:
    """Return the replaced units of one sample by input; see Shown.replaced."""
    if not is_one(result):
        raise ValueError(f"the method is {naming.method(result) or 'unknown'}, expected {NAME}")
    found: dict[str, list[Any]] = {}
    over = getattr(result.method, "over", None) or "steps"
    for name, array in result.relevance.items():
        one = np.nan_to_num(result.samples_of(name, array)[sample])  # NaN where a condition left the sample out
        if over == "cells":
            found[name] = [tuple(place) for place in np.argwhere(one != 0).tolist()]
            continue
        time = result.detail.time_axes.get(name) if result.detail else None
        batch = result.batch_axes.get(name)
        if time is not None:
            time -= batch is not None and batch < time
        kept = (0 if time is None else time) if over == "steps" else one.ndim - 1
        others = tuple(axis for axis in range(one.ndim) if axis != kept)
        found[name] = np.flatnonzero((one != 0).any(axis=others)).tolist() if one.ndim else []
    return {name: places for name, places in found.items() if places}


def sentence(result: ExplainedBatch, sample: int) -> str:
    """Return in a sentence what was replaced, what it does to the margin, and how often the model ran."""
    used = getattr(result, "steps_used", None)
    ran = f" ({int(used[sample])} runs of the model)" if used is not None and len(used) else ""
    if not turned(result, sample):
        return f"No replacement was found that turns the prediction{ran}."
    places = replaced(result, sample)
    count = sum(map(len, places.values()))
    words = [
        f'"{result.samples_of(name, result.tokens[name])[sample][place]}"'
        for name, found in places.items()
        if name in result.tokens
        for place in found
    ]
    over = getattr(result.method, "over", None) or "steps"
    unit = "words" if words else {"steps": "time steps", "features": "features", "cells": "cells"}[over]
    listed = ", ".join(words) if words else ", ".join(str(place) for found in places.values() for place in found)
    before, after = (number(float(a[sample])) for a in (result.explained, result.ledger.absorbed))
    what = unit[:-1] if count == 1 else unit
    goes = f"The {naming.target_name(result, sample)} goes from {before} to {after}{ran}."
    return f"{count} replaced {what} turn{'s' if count == 1 else ''} the prediction: {listed}. {goes}"
