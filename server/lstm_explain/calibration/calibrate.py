# SPDX-License-Identifier: Apache-2.0
"""Chooses LRP's setting for a model by measuring, and measures the choice on samples that had no part in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lstm_explain.calibration.agreement import Agreement, measure_agreement
from lstm_explain.calibration.candidates import CONFIGURED_NAME, DEFAULT_NAME, PAPERS_NAME, candidates, papers
from lstm_explain.calibration.data import singles
from lstm_explain.calibration.held_out import measure_held_out
from lstm_explain.calibration.measure import Measured
from lstm_explain.calibration.race import MARGIN, Race, difference, race
from lstm_explain.calibration.result import Calibration
from lstm_explain.calibration.setup import Clock, Progress, Setup
from lstm_explain.errors import InputError
from lstm_explain.evaluate.data import Array, Batch, Data, batches
from lstm_explain.methods import LRP
from lstm_explain.methods.base import Baseline, Players
from lstm_explain.model import Model
from lstm_explain.target import Target

BUDGET = 240.0  # seconds
MIN_SAMPLES = 4
UNSTABLE = 2.0  # times the current setting's sensitivity to noise


def calibrate(
    model: Model,
    data: Data,
    *,
    method: LRP = LRP(),  # noqa: B008 - frozen
    target: Target = Target(),  # noqa: B008 - frozen
    baseline: Baseline = None,
    over: Players = "steps",
    budget: float = BUDGET,
    seed: int = 0,
    progress: Progress = lambda share, what: None,
) -> Calibration:
    """Chooses LRP's stabiliser, and rules for dense layers where they pay, by measuring on a model's own inputs.

    Candidates race on one half of the samples: those whose deletion and insertion curves are worse than the best by
    more than three standard errors and 2 % drop out, and so do those with more untrusted answers than 2 %, by more than
    three standard errors. Candidates that cannot be distinguished from the best, or are within 2 % of it, remain unless
    they are worse than the current setting in one of the curves or much more sensitive to noise. The current setting is
    kept if it is among them or none is, otherwise the best is chosen; but one that is as faithful on average and agrees
    better with Shapley values by more than a paired 95 % interval and 0.02 takes precedence. The other half of the
    samples measures the choice.

    data: one batch, or an iterable of batches of any shapes; no labels. method: its parameters other than the
    stabiliser stay. Its own stabiliser, if it has one, is the current setting, otherwise the default is. baseline: what
    replaces deleted players; None: the mean of each feature over the data for floating-point inputs, 0 for tokens.
    over: what is deleted and inserted. budget: in seconds; the first batch of each phase runs whatever it takes.
    seed: of the split and all random draws. progress: called with the share of the budget that is used and a
    description.
    Raises InputError where there are fewer than four samples, MethodError, TargetError, UnsupportedOperator.
    """
    clock = Clock(budget, progress)
    given = [single for batch in batches(data) for single in singles(model, batch)]
    samples = [sample for sample in given if is_finite(sample)]
    if len(samples) < MIN_SAMPLES:
        what = "samples of finite numbers" if len(samples) < len(given) else "samples"
        raise InputError(
            f"there are {len(samples)} {what}, expected at least {MIN_SAMPLES}, better 100 or more", field="data"
        )
    if baseline is None:
        baseline = feature_means(model, samples)
    samples = [samples[i] for i in np.random.default_rng(seed).permutation(len(samples))]
    to_choose, held_out = samples[len(samples) // 2 :], samples[: len(samples) // 2]
    setup = Setup(model, target, baseline, over, refused=len(given) - len(samples))
    found = candidates(model, method)
    current = CONFIGURED_NAME if CONFIGURED_NAME in found else DEFAULT_NAME
    raced = race(found, setup.benches(to_choose), clock, current)
    compared = {name: found[name] for name in (*raced.tied, current)}
    agreement = measure_agreement(setup, compared, to_choose, clock, seed)
    chosen = choose(raced, agreement, current)
    reported = {name: found[name] for name in (chosen, current, DEFAULT_NAME)} | {PAPERS_NAME: papers(method)}
    return Calibration(
        method=found[chosen],
        label=chosen,
        race=raced,
        agreement=agreement,
        held_out=measure_held_out(setup, reported, held_out, clock, seed),
        refused=setup.refused,
        over=over,
        baseline=baseline,
        seed=seed,
        seconds=clock.seconds,
    )


def choose(raced: Race, agreement: Agreement, current: str) -> str:
    """Returns the label of the candidate to use. current: that of the setting which needs a reason to be replaced."""
    tied = raced.tied
    if (calm := agreement.sensitivity.get(current)) is not None:
        limit = UNSTABLE * np.median(calm)
        tied = [name for name in tied if np.median(agreement.sensitivity[name]) <= limit] or tied
    if current in raced.alive:
        tied = [name for name in tied if not _is_worse_in_one(raced.measured[name], raced.measured[current])]
    reference = current if current in tied or not tied else raced.best_of(tied)
    as_faithful = [name for name in tied if raced.faithfulness(name) >= raced.faithfulness(reference)]
    gains = {
        n: difference(agreement.shapley[n], agreement.shapley[reference]) for n in as_faithful if agreement.shapley
    }
    better = [name for name, gain in gains.items() if gain.mean > max(gain.half, MARGIN)]
    return max(better, key=lambda name: gains[name].mean, default=reference)


def _is_worse_in_one(a: Measured, b: Measured) -> bool:
    """Returns whether a candidate pays for one of the two curves with the other."""
    curves = ((a.deletion, b.deletion), (a.insertion, b.insertion))
    return any(difference(x.mean(axis=1), y.mean(axis=1)).is_worse for x, y in curves)


def is_finite(batch: Batch) -> bool:
    return all(np.isfinite(array).all() for array in batch.values() if np.asarray(array).dtype.kind == "f")


def feature_means(model: Model, samples: Sequence[Batch]) -> dict[str, Array]:
    """Returns the mean of each entry of the last axis over all samples and steps, by floating-point input; of all
    entries where that axis holds samples or steps.
    """
    means = {}
    for name, spec in model.inputs.items():
        if spec.dtype.kind != "f":
            continue
        axes, last = model.axes[name], len(spec.shape) - 1
        by_feature = last not in (axes.batch, axes.time) and len({sample[name].shape[-1:] for sample in samples}) == 1
        over = tuple(range(last)) if by_feature else None
        means[name] = np.mean([sample[name].mean(axis=over, dtype=np.float64) for sample in samples], axis=0)
    return {name: mean.astype(model.inputs[name].dtype) for name, mean in means.items()}
