# SPDX-License-Identifier: Apache-2.0
"""Takes samples of the explanations that are served, for versions that have a reference."""

from __future__ import annotations

import logging
import random
from collections.abc import Hashable

import numpy as np

from lstm_explain.explanation import Explanation
from lstm_explain.methods import Method
from lstm_explain.repository.drift_reference import DriftReference
from lstm_explain.repository.relevance_shares import Array, shares
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.drift.windows import Comparison, DriftWindows
from lstm_explain.target import Target

log = logging.getLogger(__name__)

MAX_KNOWN = 1000  # combinations of a version, a method and a target
LIMIT = 1.0  # from here on, chance does not explain the distance


class DriftMonitor:
    """share: of the requests that are sampled."""

    def __init__(self, share: float, windows: DriftWindows) -> None:
        self._share = share
        self._windows = windows
        self._random = random.Random()
        self._known: dict[Hashable, bool] = {}  # whether they can be compared

    def explained(self, served: ServedModel, request: ModelRequest, explanation: Explanation) -> None:
        """Adds one sample of the answer, chosen at random: those of one request may resemble each other, and the
        statistic requires independent ones. Requests by another method or for another target than the reference's do
        not count, nor do those with a condition, which selects what is no fair sample, and those whose relevance passes
        through chosen units only.
        """
        reference = served.drift
        if reference is None or request.method is None or request.condition is not None or request.through:
            return
        if self._random.random() >= self._share:
            return
        if not self._is_comparable(served, reference, request.method, request.target):
            return
        at = self._random.randrange(len(explanation.explained))
        relevance, times = dict[str, Array](), dict[str, int | None]()
        for name in reference.inputs:
            if name not in explanation.relevance:
                return
            relevance[name], times[name] = _sample(served, name, explanation.relevance[name], at)
        found = reference.flat(shares(relevance, times))
        if found is not None:
            compared = self._windows.add(served.mark, found, reference)
            if compared is not None:
                _report(served, compared)

    def _is_comparable(self, served: ServedModel, reference: DriftReference, method: Method, target: Target) -> bool:
        arrays = target.weights, target.measure, target.contrast
        if not method.is_scalar or isinstance(target.index, np.ndarray) or any(one is not None for one in arrays):
            return reference.fits(method, target, served.model.default_output)
        key = served.mark, method, target.output, target.index, target.batch_axis, target.pre_activation
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[key] = reference.fits(method, target, served.model.default_output)
        return known


def _sample(served: ServedModel, name: str, relevance: Array, at: int) -> tuple[Array, int | None]:
    """Returns the relevance of one sample, and the axis of its time steps."""
    batch, time = served.model.axes[name].batch, served.model.axes[name].time
    if batch is None:
        return relevance, time
    return relevance.take(at, batch), None if time is None else time - (batch < time)


def _report(served: ServedModel, compared: Comparison) -> None:
    """Logs the beginning and the end of a drift."""
    reference = served.drift
    assert reference is not None
    if compared.before <= LIMIT < compared.drift:
        log.warning(
            "model %s version %d: relevance drifts: %s has %.3g %% of it, in the reference %.3g %%",
            served.name,
            served.version,
            reference.name(compared.position, served.config.features),
            100 * compared.mean,
            100 * reference.means[compared.position],
        )
    elif compared.drift <= LIMIT < compared.before:
        log.info("model %s version %d: relevance is as in the reference again", served.name, served.version)
