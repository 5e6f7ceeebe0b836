# SPDX-License-Identifier: Apache-2.0
"""What a rule is judged by: size, faithfulness to what the network itself does, and planted truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scripts.stabilisers.networks import Network, Run
from scripts.stabilisers.rules import Array, Rule

MOST_DELETED = 5
TOO_LARGE = 10.0


@dataclass
class Figures:
    """Per input: size, the largest |relevance| over |explained|; absorbed, the share of the explained value that no
    input gets; fall, of the score over one to five deletions; agreement, rank correlation with Occlusion; shapley, the
    same with Shapley values; hits, the share of the steps that matter among as many largest ones. Empty: not measured.
    """

    size: list[float] = field(default_factory=list)
    absorbed: list[float] = field(default_factory=list)
    fall: list[float] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    shapley: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)

    def too_large(self) -> float:
        """Per cent of inputs with an entry above ten times the explained value."""
        return 100 * float(np.mean(np.array(self.size) > TOO_LARGE))


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


class Inputs:
    """Inputs of one network and length, whose players (words, windows of steps) can be replaced.

    raw [N, …]: as the file takes them, one length. players [P]: a slice of time steps each. substitute: what stands for
    a step that is taken out. index [N]: the output explained. matters [N, T]: steps known to matter, or None.
    """

    def __init__(
        self,
        network: Network,
        raw: npt.NDArray[np.generic],
        width: int,
        substitute: npt.ArrayLike,
        matters: npt.NDArray[np.bool_] | None = None,
        orders: int = 0,
    ) -> None:
        self.network, self.raw, self.matters = network, raw, matters
        self.substitute = np.asarray(substitute, raw.dtype)
        steps = raw.shape[1]
        self.players = [slice(t, t + width) for t in range(0, steps - width + 1, width)]
        self.run: Run = network.run(raw)
        self.index = self.run.y.argmax(1)
        self.score = network.predict(raw)[np.arange(len(raw)), self.index]
        self.occlusion = [self._occluded(i) for i in range(len(raw))]
        self.own_fall = [self._fall(i, scores) for i, scores in enumerate(self.occlusion)]
        self.shapley = [self._shapley(i, orders) for i in range(len(raw))] if orders else []

    def judge(self, rule: Rule, into: Figures) -> None:
        """Adds every input's figures."""
        relevance, explained = self.network.relevance(self.run, self.index, rule)
        relevance = np.nan_to_num(relevance, posinf=1e300, neginf=-1e300)
        steps = relevance.sum(2)
        cells = np.abs(steps if self.raw.ndim == 2 else relevance).reshape(len(steps), -1)
        into.size += (cells.max(1) / np.abs(explained)).tolist()
        into.absorbed += (np.abs(explained - steps.sum(1)) / np.abs(explained)).tolist()
        for i, row in enumerate(steps):
            scores = self.of_players(row)
            into.fall.append(self._fall(i, scores))
            into.agreement.append(rank_correlation(scores, self.occlusion[i]))
            if self.shapley:
                into.shapley.append(rank_correlation(scores, self.shapley[i]))
            if self.matters is not None and self.matters[i].any():
                largest = np.argsort(-np.abs(row))[: int(self.matters[i].sum())]
                into.hits.append(float(self.matters[i][largest].mean()))

    def of_players(self, steps: Array) -> Array:
        return np.array([steps[player].sum() for player in self.players])

    def without(self, i: int, taken: Sequence[int]) -> npt.NDArray[np.generic]:
        """Input i with some players replaced."""
        x = self.raw[i].copy()
        for player in taken:
            x[self.players[player]] = self.substitute
        return x

    def _scores(self, i: int, variants: list[npt.NDArray[np.generic]]) -> Array:
        return self.network.predict(np.array(variants))[:, self.index[i]]

    def _occluded(self, i: int) -> Array:
        return self.score[i] - self._scores(i, [self.without(i, [p]) for p in range(len(self.players))])

    def _fall(self, i: int, scores: Array) -> float:
        order = np.argsort(-scores)[:MOST_DELETED].tolist()
        variants = [self.without(i, order[: n + 1]) for n in range(len(order))]
        return float(np.mean(self.score[i] - self._scores(i, variants)))

    def _shapley(self, i: int, orders: int) -> Array:
        """Sampled, in pairs of an order and its reverse."""
        rng, found = np.random.default_rng(i), np.zeros(len(self.players))
        for _ in range(orders // 2):
            order = rng.permutation(len(self.players))
            for joined in (order, order[::-1]):
                variants = [self.without(i, joined[n:].tolist()) for n in range(len(joined) + 1)]
                found[joined] += np.diff(self._scores(i, variants))
        return found / (orders // 2 * 2)
