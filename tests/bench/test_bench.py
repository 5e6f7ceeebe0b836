# SPDX-License-Identifier: Apache-2.0
"""The benchmark reports failures and continues; the comparison of two commits takes noise into account."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import lstm_explain as lx
from bench import __main__ as main
from bench import engine, models, pair, pieces
from bench.revisions import ROOT, Case
from bench.timing import compare

SMALL = models.Shape(3, 4)


def test_two_calls_take_turns() -> None:
    turns: list[str] = []
    ratio = compare(lambda: turns.append("ours"), lambda: turns.append("theirs"), seconds=0, least=3)
    assert turns == ["theirs", "ours"] * 4  # the first pair warms up
    assert ratio.pairs == 3
    assert ratio.low <= ratio.median <= ratio.high


def test_slow_calls_are_not_repeated_for_ever() -> None:
    assert compare(lambda: None, lambda: None, seconds=9, least=10**9, longest=0.01, warm=True).pairs < 10**9


def test_methods_of_one_row_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LENGTHS", (3, 4))
    (row, _) = engine.run_lengths(Console(quiet=True), [SMALL], quick=True, seconds=0)
    ratios = row["ratios"].values()
    assert len({ratio["pairs"] for ratio in ratios}) == 1, "the same rounds"
    assert len({ratio["theirs_ms"] for ratio in ratios}) == 1
    assert row["added"]["low"] <= row["added"]["median"] <= row["added"]["high"]


def test_batches_are_measured_as_lengths_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BATCH_STEPS", 3)
    rows = engine.run_batches(Console(quiet=True), [SMALL], quick=False, seconds=0)
    assert [(row["T"], row["batch"]) for row in rows] == [(3, 1), (3, 8), (3, 32)]
    assert all(ratio["median"] > 0 for row in rows for ratio in row["ratios"].values())


def test_the_row_of_a_failed_method_says_so_and_the_others_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = lx.IntegratedGradients(baseline=np.zeros((7, 7), np.float32))
    monkeypatch.setattr(engine, "LENGTH_METHODS", {**engine.LENGTH_METHODS, "lrp all": wrong})
    rows = engine.run_lengths(Console(quiet=True), [SMALL], quick=True, seconds=0)
    assert ["baseline" in row["ratios"]["lrp all"]["error"] for row in rows] == [True, True]


def test_a_failed_cell_is_reported_and_the_others_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = lx.IntegratedGradients(baseline=np.zeros((7, 7), np.float32))
    monkeypatch.setattr(engine, "METHODS", {"lrp all": lx.LRP(), "wrong": wrong})
    monkeypatch.setattr(engine, "MANY", {})
    monkeypatch.setattr(engine, "QUICK_STEPS", (3,))
    rows = engine.run(Console(quiet=True), [SMALL], quick=True, seconds=0)
    assert [row["batch"] for row in rows] == [1, 8]
    for row in rows:
        assert row["ratios"]["lrp all"]["median"] > 0
        assert "baseline" in row["ratios"]["wrong"]["error"]
    failed = list(main.failures(rows, "engine"))
    assert [line.split(":")[0] for line in failed] == ["engine / 0 / ratios / wrong", "engine / 1 / ratios / wrong"]
    assert np.isnan(engine.geometric_mean(rows, 1, "wrong"))


def test_a_failed_part_is_reported_and_earlier_figures_remain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    file.write_text(json.dumps({"scaling": "earlier", "commits": {"scaling": "abc"}}))

    def fails(*_: Any) -> Any:
        raise RuntimeError("no disk")

    monkeypatch.setitem(main.PARTS, "scaling", fails)
    monkeypatch.setitem(main.PARTS, "pieces", lambda *_: {"profile": []})
    arguments = argparse.Namespace(json=file, part=["scaling", "pieces"])
    assert main.measure(Console(quiet=True), arguments) == ["scaling: RuntimeError: no disk"]
    figures = json.loads(file.read_text())
    assert figures["scaling"] == "earlier"
    assert figures["pieces"] == {"profile": []}
    assert figures["commits"]["scaling"] == "abc"
    assert figures["commits"]["pieces"] == figures["machine"]["commit"]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("method", engine.METHODS)
def test_timed_explanations_are_valid(method: str, batch: int) -> None:
    """Over 2,000 steps with random weights, relevance neither overflows nor hides the explained value."""
    shape = models.GRID[0]
    x = models.inputs_of(shape, 2000, batch)
    e = lx.load(models.model_of(shape)).explain({"x": x}, engine.METHODS[method], pair.TARGET)
    assert np.abs(e.relevance["x"]).max() < 1e4 * np.abs(e.explained).max()
    if isinstance(engine.METHODS[method], lx.LRP):
        np.testing.assert_allclose(e.ledger.residual, 0, atol=1e-4 * np.abs(e.explained).max())


@pytest.mark.parametrize("place", [place for _, *place, _ in pieces.PIECES])
def test_every_piece_of_the_profile_is_measured(place: tuple[str, str]) -> None:
    pieces.place_of(*place)


def test_the_worker_of_another_commit_makes_no_table_of_methods() -> None:
    """Its engine may lack methods or parameters that `bench.engine` names."""
    program = "import bench.pair, bench.revisions, sys; sys.exit('bench.engine' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_equal_code_is_not_slower() -> None:
    """With processes that differ by 4 %, as real ones do, at most one case in a hundred is a false alarm."""
    rng = np.random.default_rng(0)
    noisy = 1.5 * (1 + 0.04 * rng.standard_normal((2000, 2, 4)))
    assert sum(Case("equal", list(before), list(after)).slower for before, after in noisy) <= 20


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_fifth_more_is_slower(noise: float) -> None:
    rng = np.random.default_rng(1)
    before = 1.5 * (1 + noise * rng.standard_normal(4))
    after = 1.2 * 1.5 * (1 + noise * rng.standard_normal(4))
    assert Case("slower", list(before), list(after)).slower
    assert not Case("faster", list(after), list(before)).slower


def test_a_process_that_stops_answering_counts_as_slower() -> None:
    assert Case("broken", errors={"after": "InputError: …"}).slower
    assert not Case("new", errors={"before": "AttributeError: …"}).slower
    assert not Case("never", errors={"before": "…", "after": "…"}).slower


def test_overlapping_processes_are_not_distinguished() -> None:
    assert not Case("one was as slow before", [1.0, 1.0, 1.0, 1.5], [1.3, 1.4, 1.5, 1.6]).slower
    assert not Case("by a little", [1.00, 1.01, 1.02, 1.03], [1.05, 1.06, 1.07, 1.08]).slower


def test_a_worker_measures_its_own_tree() -> None:
    from bench import revisions

    with revisions._worker(revisions.ROOT) as ask:
        ratio = ask((0, 5, 1, "lrp all", 0.01))
        assert isinstance(ratio, float)
        assert ratio > 0
        assert "KeyError" in str(ask((0, 5, 1, "no such method", 0.01)))
    assert Path(sys.modules["lstm_explain"].__file__ or "").is_relative_to(revisions.ROOT)
