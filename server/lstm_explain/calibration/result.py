# SPDX-License-Identifier: Apache-2.0
"""What a calibration found: the choice, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.calibration.agreement import Agreement
from lstm_explain.calibration.candidates import DEFAULT_NAME, PAPERS_NAME, entry
from lstm_explain.calibration.measure import Measured, finite_mean
from lstm_explain.calibration.race import Difference, Race, difference
from lstm_explain.methods.base import Baseline, Players
from lstm_explain.methods.lrp import LRP


@dataclass(frozen=True)
class Row:
    """A line of the report, on held-out samples: mean gains under deletion and insertion in units of the explained
    value, and the share of untrusted answers. shapley, sensitivity: see `Agreement`; None where not measured.
    """

    name: str
    samples: int
    deletion: float
    insertion: float
    untrusted: float
    shapley: float | None
    sensitivity: float | None


@dataclass(frozen=True)
class Calibration:
    """method: the choice. label: its name among the candidates. race, agreement: on the samples that chose it.

    held_out: by name, measured on the other samples: the choice, the default, the papers' setting and references.
    refused: samples and batches that could not be used. over: what was deleted. baseline: what replaced it.
    seconds: how long the calibration took.
    """

    method: LRP
    label: str
    race: Race
    agreement: Agreement
    held_out: dict[str, Measured]
    refused: int
    over: Players
    baseline: Baseline
    seed: int
    seconds: float

    @property
    def samples(self) -> int:
        """How many held-out samples were measured."""
        return len(self.held_out[self.label].trusted)

    def gain_over(self, name: str) -> Difference:
        """Returns the gain of the choice over another one in deletion on held-out samples."""
        chosen, other = self.held_out[self.label], self.held_out[name]
        return difference(chosen.deletion.mean(axis=1), other.deletion.mean(axis=1))

    def rows(self) -> Iterator[Row]:
        for name, found in self.held_out.items():
            shapley, moved = self.agreement.shapley.get(name), self.agreement.sensitivity.get(name)
            yield Row(
                name,
                len(found.trusted),
                finite_mean(found.deletion),
                finite_mean(found.insertion),
                float((~found.trusted).mean()),
                None if shapley is None else float(np.nan_to_num(shapley).mean()),
                None if moved is None else float(np.median(moved)),
            )

    def verdict(self) -> str:
        """Returns one sentence on the choice and the papers' setting."""
        gain = self.gain_over(PAPERS_NAME)
        if gain.is_better:
            return f"the choice deletes better than {PAPERS_NAME} by {gain} (95 % interval, {self.samples} samples)"
        more = "worse than" if gain.is_worse else "no better than"
        return f"the choice deletes {more} {PAPERS_NAME}: {gain} (95 % interval, {self.samples} samples)"

    def entry(self) -> dict[str, Any]:
        """Returns the value of the key `method` in model.yaml."""
        return entry(self.method)

    def lines(self) -> list[str]:
        """Returns what model.yaml says about the choice."""
        rows = {row.name: row for row in self.rows()}
        mine = rows[self.label]
        others = [name for name in rows if name != self.label]
        falls = ", ".join(f"{name} {rows[name].deletion:.4g}" for name in others)
        papers = f"{PAPERS_NAME} {100 * rows[PAPERS_NAME].untrusted:.1f} %"
        return [
            f"{self.race.samples} samples to choose, {self.samples} others to measure, seed {self.seed}",
            f"fall under deletion of {self.over}: {mine.deletion:.4g} ({falls})",
            f"untrusted answers: {100 * mine.untrusted:.1f} % ({papers})",
            self.verdict(),
        ]

    def fates(self) -> dict[str, str]:
        """Returns the outcome of each candidate: the choice first, then those like it, then those that dropped out."""
        behind = f"less faithful than {self.race.best}"
        tied = self.race.tied
        like = {name: "cannot be distinguished in faithfulness" if name in tied else behind for name in self.race.alive}
        return {self.label: "chosen", **{n: fate for n, fate in like.items() if n != self.label}, **self.race.dropped}

    def as_json(self) -> dict[str, Any]:
        return {
            "method": self.entry(),
            "label": self.label,
            "verdict": self.verdict(),
            "samples": {"race": self.race.samples, "held_out": self.samples, "refused": self.refused},
            "held_out": {row.name: {k: v for k, v in vars(row).items() if k != "name"} for row in self.rows()},
            "gain_in_deletion": {
                name: vars(self.gain_over(name)) for name in (PAPERS_NAME, DEFAULT_NAME) if name != self.label
            },
            "candidates": self.fates(),
            "seed": self.seed,
            "seconds": self.seconds,
        }
