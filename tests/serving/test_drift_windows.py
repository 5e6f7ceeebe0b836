# SPDX-License-Identifier: Apache-2.0
"""The windows that workers share, and the statistic: its false alarms, its sensitivity, and what it keeps."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.repository.drift_reference import DriftReference, moments
from lstm_explain.repository.relevance_shares import shares
from lstm_explain.serving.drift import summaries, windows
from lstm_explain.serving.drift.statistic import ALPHA, distances
from lstm_explain.serving.drift.summaries import read
from lstm_explain.serving.drift.windows import BLOCK_ROWS, BLOCKS, DriftWindows
from tests.serving.models import FEATURES, lstm

STEPS, BATCH = 12, 500
TAG = b"lstm\x001\x00" + b"0" * 16


@pytest.fixture(scope="module")
def model() -> lx.Model:
    return lx.load(lstm())


def explained(model: lx.Model, rows: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """The shares of real explanations, [rows, shares]: of features with mean 0 and standard deviation 1, the first of
    them shifted, each of which remembers 0.8 of its previous value.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, STEPS, FEATURES))
    for step in range(1, STEPS):
        x[:, step] = 0.8 * x[:, step - 1] + 0.6 * x[:, step]
    x[:, :, 0] += shift
    found = []
    for start in range(0, rows, BATCH):
        relevance = model.explain({"x": x[start : start + BATCH].astype("f4")}).relevance["x"]
        found += [np.concatenate(list(shares({"x": row}, {"x": 0}).values())) for row in relevance]
    return np.array(found)


def reference_of(values: np.ndarray) -> DriftReference:
    groups = {("x", "feature"): FEATURES, ("x", "lag"): values.shape[1] - FEATURES}
    powers = np.stack([(values**q).sum(axis=0) for q in (1, 2, 3, 4)])
    return DriftReference("", {}, {}, len(values), groups, *moments(powers, len(values)))


@pytest.fixture(scope="module")
def reference(model: lx.Model) -> DriftReference:
    return reference_of(explained(model, 5000, 1))


def test_no_drift_in_ten_thousand_requests_and_drift_within_one_thousand(
    model: lx.Model, reference: DriftReference
) -> None:
    own = DriftWindows()
    calm = [own.add(TAG, row, reference) for row in explained(model, 10_000, 2)]
    compared = [one.drift for one in calm if one is not None]
    assert len(compared) == 10_000 / BLOCK_ROWS
    assert max(compared) < 1
    shifted = [own.add(TAG, row, reference) for row in explained(model, 1000, 3, shift=1.0)]
    compared = [one.drift for one in shifted if one is not None]
    assert max(compared) > 1
    assert min(compared[BLOCKS - 1 :]) > 1  # and remains, once the window has nothing else


@pytest.mark.parametrize(("a", "b"), [(1, 9), (0.05, 3), (5, 5)])
def test_chance_exceeds_the_distance_less_often_than_promised(
    a: float, b: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For skewed shares too, at a rate of false alarms that can be counted."""
    monkeypatch.setattr("lstm_explain.serving.drift.statistic.ALPHA", 0.05)
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(400):
        values = rng.beta(a, b, (400, 8))
        recent = rng.beta(a, b, (100, 8))
        alarms += distances(reference_of(values), 100, recent.sum(axis=0), (recent**2).sum(axis=0)).max() > 1
    assert alarms <= 0.05 * 400


def test_the_distance_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(5)
    values, recent = rng.beta(2, 5, (300, 2)), rng.beta(3, 4, (200, 2))
    found = distances(reference_of(values), 200, recent.sum(axis=0), (recent**2).sum(axis=0))
    log = math.log(2 * 2 / ALPHA)
    for j in range(2):
        v = recent[:, j].var() / 200 + values[:, j].var() / 300
        c = math.sqrt(((values[:, j] - values[:, j].mean()) ** 4).mean() / values[:, j].var()) / 3
        t = math.sqrt(2 * v * log) + c * log / 200
        assert found[j] == pytest.approx(abs(recent[:, j].mean() - values[:, j].mean()) / t)


def test_shares_that_never_vary_are_no_drift() -> None:
    """A model with one feature: its share is 1 up to rounding."""
    values = np.ones((200, 1))
    assert distances(reference_of(values), 100, np.full(1, 100 * (1 - 1e-6)), np.full(1, 100.0)).max() < 1
    assert distances(reference_of(values), 100, np.full(1, 90.0), np.full(1, 81.0)).max() > 1


ADDING = """
import sys
from pathlib import Path
import numpy as np
from lstm_explain.repository.drift_reference import DriftReference
from lstm_explain.serving import shared_memory
from lstm_explain.serving.drift.windows import DriftWindows
shared_memory.ATTEMPTS = 100_000  # on a busy machine, the other process may hold the lock for longer
own = DriftWindows(Path(sys.argv[1]))
reference = DriftReference("", {}, {}, 100, {("x", "feature"): 2}, *np.full((3, 2), 0.1))
sys.stdin.readline()
for _ in range(230):
    own.add(b"m\\x003\\x00abc", np.array([0.25, 0.75]), reference)
"""


def test_processes_add_to_the_same_window(tmp_path: Path) -> None:
    path = tmp_path / "a.drift"
    assert read(path) == []
    processes = [subprocess.Popen([sys.executable, "-c", ADDING, str(path)], stdin=-1, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    (found,) = read(path)
    assert (found.model, found.version, found.samples) == ("m", 3, 460)
    assert found.drift is not None
    assert found.drift > 1
    window = DriftWindows(path)._windows[0]
    assert window["rows"].sum() == 460
    assert window["sums"].sum(axis=0)[:, :2] == pytest.approx(np.array([[115, 345], [28.75, 258.75]]))


def test_a_window_forgets_what_is_old(reference: DriftReference) -> None:
    own, there = DriftWindows(), np.full(len(reference.means), 0.5)
    for _ in range(BLOCKS * BLOCK_ROWS):
        own.add(TAG, there, reference)
    last = None
    for _ in range(BLOCKS * BLOCK_ROWS):
        last = own.add(TAG, reference.means, reference) or last
    assert last is not None
    assert last.before > 1 > last.drift


def test_versions_are_bounded_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (summaries, windows):
        monkeypatch.setattr(module, "MAX_VERSIONS", 3)
    path = tmp_path / "a.drift"
    own, reference = DriftWindows(path), reference_of(np.random.default_rng(6).beta(2, 5, (200, 5)))

    def add(name: str, files: str = "f") -> None:
        own.add(f"{name}\x001\x00{files}".encode(), reference.means, reference)

    for name in "abcd":
        add(name)
    assert {one.model: one.samples for one in read(path)} == {"a": 1, "b": 1, "c": 1}
    add("b")
    add("b", "other files")
    assert {one.model: one.samples for one in read(path)} == {"a": 1, "b": 1, "c": 1}
    own.keep({("a", 1), ("d", 1)})
    add("d")
    add("a")
    assert {one.model: one.samples for one in read(path)} == {"a": 2, "d": 1}
    assert all(one.drift is None for one in read(path))
