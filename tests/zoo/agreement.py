# SPDX-License-Identifier: Apache-2.0
"""How the default relevance of the cells of the second zoo compares with Occlusion."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

import lstm_explain as lx
from tests import zoo

GATES_ONLY = {"x_s"}  # inputs that reach nothing but gates: they get no relevance under `all`, and a warning
Array = npt.NDArray[Any]


def kinds() -> dict[str, list[str]]:
    """Return the cases by the cell that they hold."""
    found = defaultdict(list)
    for name in zoo.second_names():
        found[name.removeprefix(zoo.SECOND).rpartition("_")[0]].append(name)
    return dict(sorted(found.items()))


@functools.cache
def explained(name: str, method: lx.LRP | lx.Occlusion) -> lx.Explanation:
    """Return the explanation of the case's further inputs."""
    case = zoo.load(name)
    return lx.load(case.path).explain(case.more, method, lx.Target(case.target_output, case.target_index))


def per_step(case: zoo.Case, relevance: Mapping[str, Array]) -> Array:
    """Return the relevance of the sequence, summed over its features: [samples, steps]."""
    (name,) = relevance.keys() - GATES_ONLY
    moved = np.moveaxis(relevance[name], case.meta["time_axis"][name], 1)
    return moved.reshape(*moved.shape[:2], -1).sum(axis=2)


def agreement(name: str) -> float:
    """Return the share of the steps that matter at which relevance has the sign of Occlusion.

    These are the fifth of each sample's steps with the largest effect under Occlusion.
    """
    case = zoo.load(name)
    own, effect = (per_step(case, explained(name, how).relevance) for how in (lx.LRP(), lx.Occlusion()))
    top = np.argsort(-np.abs(effect), axis=1)[:, : effect.shape[1] // 5]
    return float((np.sign(np.take_along_axis(own, top, 1)) == np.sign(np.take_along_axis(effect, top, 1))).mean())


def divergence(name: str) -> tuple[Array, Array]:
    """Return, by sample, whether an entry exceeds 10 times the explained value, and whether a warning names it."""
    e = explained(name, lx.LRP())
    peaks = np.max([np.abs(R).reshape(len(R), -1).max(axis=1) for R in e.relevance.values()], axis=0)
    warned = np.isin(np.arange(len(peaks)), [n for finding in e.findings for n in finding.samples])
    return peaks > 10 * np.abs(e.explained), warned
