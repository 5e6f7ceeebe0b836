# SPDX-License-Identifier: Apache-2.0
"""Pictures of several targets: what their cells hold, and that they can be drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

import lstm_explain as lx
from lstm_explain_client.target_tables import by_target, summed
from tests.builders import recurrent_model

pytest.importorskip("matplotlib").use("Agg")
RNG = np.random.default_rng(8)


@pytest.fixture(scope="module")
def horizons() -> lx.model.Explanations:
    """Two samples, five steps, four features, six targets."""
    built = recurrent_model(RNG, "GRU", classes=6, batch_first=True)
    return lx.load(built.model).explain_many(built.feeds(RNG, T=5, B=2), lx.GradientTimesInput(), "every step")


def test_tables_hold_sums_over_features_and_over_targets(horizons: lx.model.Explanations) -> None:
    relevance = np.stack(
        [one.relevance["x"] for one in horizons], dtype=np.float64
    )  # [targets, batch, steps, features]
    for sample in range(2):
        (targets,) = by_target(horizons, sample, None)
        np.testing.assert_allclose(targets.relevance, relevance[:, sample].sum(axis=2).T)
        assert targets.rows == [f"logits[{k}]" for k in range(6)]
        (sums,) = summed(horizons, sample, list("abcde"))
        np.testing.assert_allclose(sums.relevance, relevance[:, sample].sum(axis=0))
        assert sums.rows == [f"x[{d}]" for d in range(relevance.shape[3])]
        assert list(sums.steps or ()) == list("abcde")


@pytest.mark.parametrize(("kind", "panels"), [("targets", 1), ("sum", 1), ("each", 6)])
def test_figures(horizons: lx.model.Explanations, kind: str, panels: int) -> None:
    drawing = horizons.plot(1, kind)
    images = [image for axes in drawing.axes for image in axes.get_images()]
    assert len(images) == panels
    whole = np.stack([one.relevance["x"][1] for one in horizons], dtype=np.float64)
    drawn = np.asarray(images[-1].get_array())
    expected = {"targets": whole.sum(axis=2), "sum": whole.sum(axis=0).T, "each": whole[-1].T}[kind]
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    drawing.savefig(io.BytesIO())


def test_pages_terminal_and_frames(horizons: lx.model.Explanations) -> None:
    page = horizons.to_html(title="horizons")
    for k in range(6):
        assert f"logits[{k}]" in page
    console = Console(file=io.StringIO(), width=100)
    console.print(horizons)
    assert console.file.getvalue().count("logits[5]") == 2  # once per sample
    frame = horizons.to_frame()
    assert len(frame) == 6 * 2 * 5 * horizons[0].relevance["x"].shape[2]
    chosen = frame[(frame.target == "logits[4]") & (frame["sample"] == 1)]
    assert chosen.relevance.sum() == pytest.approx(float(horizons[4].relevance["x"][1].sum()), rel=1e-5)
    assert horizons._repr_html_()


def test_what_cannot_be_drawn(horizons: lx.model.Explanations) -> None:
    with pytest.raises(ValueError, match="expected one of targets"):
        horizons.plot(kind="lines")  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="sample 2"):
        horizons.plot(2)
    with pytest.raises(ValueError, match="no targets"):
        type(horizons)().to_html()
