# SPDX-License-Identifier: Apache-2.0
"""Shares of relevance, against sums written out; the reference in drift.json, and every way to spoil it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.errors import Error, ModelError
from lstm_explain.repository.drift_reference import (
    DriftReference,
    files_digest,
    moments,
    read_reference,
    reference_of,
    reference_text,
)
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.relevance_shares import LAG_GROUPS, lags_of, shares
from lstm_explain.repository.served_model import load_served
from tests.serving.models import lstm, write_version

FILES = {"model.onnx": "a" * 64, "model.yaml": "b" * 64}


def relevance(rows: int = 200, steps: int = 9, features: int = 3, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((rows, steps, features))


def test_shares_are_those_of_the_total_over_all_inputs() -> None:
    a, b = relevance(1)[0], np.array([3.0, -1.0])
    found = shares({"a": a, "b": b}, {"a": 0, "b": None})
    total = sum(abs(v) for v in a.ravel()) + 4.0
    by_lag = [sum(abs(v) for v in a[len(a) - 1 - lag]) for lag in range(len(a))]
    groups = [by_lag[0], sum(by_lag[1:3]), sum(by_lag[3:7]), sum(by_lag[7:])]
    assert found["a", "feature"] == pytest.approx([sum(abs(v) for v in a[:, f]) / total for f in range(3)])
    assert found["a", "lag"] == pytest.approx([g / total for g in groups] + [0.0] * (LAG_GROUPS - 4))
    assert found["b", "feature"] == pytest.approx([3 / total, 1 / total])
    assert set(found) == {("a", "feature"), ("a", "lag"), ("b", "feature")}
    assert [lags_of(i) for i in (0, 1, 2, LAG_GROUPS - 1)] == [
        "lag 0",
        "lags 1 to 2",
        "lags 3 to 6",
        "lags from 524287",
    ]


def test_the_place_of_the_time_axis_and_padding_change_nothing() -> None:
    a = relevance(1)[0]
    wanted = shares({"a": a}, {"a": 0})
    padded = np.concatenate([a, np.zeros((5, 3))])
    for other, time in ((a.T, 1), (padded, 0)):
        found = shares({"a": other}, {"a": time})
        assert all(np.allclose(found[group], wanted[group], rtol=1e-12) for group in wanted)
    tokens = shares({"a": a[:, 0]}, {"a": 0})
    assert set(tokens) == {("a", "lag")}


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_relevance_without_a_total_has_no_shares(value: float) -> None:
    assert shares({"a": np.full((3, 2), value)}, {"a": 0}) == {}


def test_many_features_are_compared_by_lag_alone() -> None:
    assert set(shares({"a": np.ones((3, 513))}, {"a": 0})) == {("a", "lag")}


def test_moments_are_those_of_the_samples() -> None:
    x = np.random.default_rng(3).beta(1, 9, (500, 2))
    mean, variance, scale = moments(np.stack([(x**q).sum(axis=0) for q in (1, 2, 3, 4)]), len(x))
    assert mean == pytest.approx(x.mean(axis=0))
    assert variance == pytest.approx(x.var(axis=0))
    central = np.abs(x - x.mean(axis=0))
    for q, factorial in ((3, 6), (4, 24)):  # the condition of Bernstein's inequality
        assert ((central**q).mean(axis=0) <= factorial / 2 * variance * scale ** (q - 2)).all()
    _, none, flat = moments(np.array([[5.0], [5.0], [5.0], [5.0]]), 5)
    assert (none, flat) == (0.0, 0.0)


def example() -> DriftReference:
    samples = [shares({"x": row}, {"x": 0}) for row in relevance()]
    return reference_of(samples, files_digest(FILES), lx.LRP(), lx.Target(), "logits")


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    source = find_model(write_version(tmp_path, "m", lstm()))
    assert read_reference(source, FILES) is None
    written = example()
    (source.model_file.parent / "drift.json").write_text(reference_text(written))
    found = read_reference(source, {**FILES, "model.yaml": "c" * 64})
    assert found is not None
    assert (found.files, found.rows, found.groups) == (written.files, 200, written.groups)
    for name in ("means", "variances", "scales"):
        assert np.allclose(getattr(found, name), getattr(written, name), rtol=1e-12)
    assert found.fits(lx.LRP(), lx.Target(), "logits")
    assert found.fits(lx.LRP(), lx.Target(output="logits"), "logits")
    assert not found.fits(lx.LRP(epsilon=0.5), lx.Target(), "logits")
    assert not found.fits(lx.LRP(), lx.Target(index=1), "logits")
    assert not found.fits(lx.LRP(), lx.Target(output="other"), "logits")
    assert read_reference(source, {**FILES, "model.onnx": "c" * 64}) is None
    assert found.name(1, {"x": ["rain", "snow"]}) == "feature snow of 'x'"
    assert found.name(2, {"x": ["rain", "snow"]}) == "feature 2 of 'x'"
    assert found.name(4, {}) == "lags 1 to 2 of 'x'"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rows": 99}, "rows: Input should be greater than or equal to 100"),
        ({"format": 2}, "format: Input should be 1"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"shares": []}, "shares: List should have at least 1 item"),
        ({"shares": [{"input": "x", "kind": "lag", "mean": [1], "std": [0], "scale": [0]}]}, "expected 20"),
        ({"shares": [{"input": "x", "kind": "feature", "mean": [1, 0], "std": [0], "scale": [0]}]}, "[2, 1, 1]"),
        ({"shares": [{"input": "x", "kind": "feature", "mean": [2], "std": [0], "scale": [0]}]}, "shares.0.mean.0"),
        ({"shares": [{"input": "x", "kind": "colour", "mean": [1], "std": [0], "scale": [0]}]}, "shares.0.kind"),
        ({"shares": [{"input": "x", "kind": "feature", "mean": [1], "std": [0], "scale": [0]}] * 2}, "once"),
        (
            {"shares": [{"input": f"x{i}", "kind": "feature", **dict.fromkeys(("mean", "std", "scale"), [0.0] * 512)}
                        for i in range(3)]},
            "at most 1024 shares",
        ),
    ],
)  # fmt: skip
def test_a_damaged_reference_is_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    source = find_model(write_version(tmp_path, "m", lstm()))
    content = {**json.loads(reference_text(example())), **change}
    (source.model_file.parent / "drift.json").write_text(json.dumps(content))
    with pytest.raises(ModelError) as raised:
        read_reference(source, FILES)
    assert str(raised.value).startswith("drift.json: ")
    assert problem in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"rows": NaN}', "\0" * 10, "x" * (1 << 20) + "y"])
def test_a_file_that_is_no_reference_is_refused(tmp_path: Path, text: str) -> None:
    source = find_model(write_version(tmp_path, "m", lstm()))
    (source.model_file.parent / "drift.json").write_text(text)
    with pytest.raises(ModelError, match=r"^drift\.json: "):
        read_reference(source, FILES)


def test_too_few_rows_or_too_many_shares_make_no_reference() -> None:
    few = [shares({"x": row}, {"x": 0}) for row in [*relevance(99), *np.zeros((5, 9, 3))]]
    with pytest.raises(Error, match="needs 100 rows with relevance, there are 99"):
        reference_of(few, "", lx.LRP(), lx.Target(), "logits")
    wide = {name: np.ones((2, 512)) for name in ("x", "y")}
    many = [shares(wide, {"x": 0, "y": 0})] * 100
    with pytest.raises(Error, match="at most 1024 features and lags, there are 1064"):
        reference_of(many, "", lx.LRP(), lx.Target(), "logits")
    mixed = [shares({"x": np.ones((2, width))}, {"x": 0}) for width in [3] * 99 + [4]]
    with pytest.raises(Error, match="'x' has rows of 3 and of 4 features"):
        reference_of(mixed, "", lx.LRP(), lx.Target(), "logits")


def test_the_reference_does_not_change_the_digest(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "m", lstm())
    before = load_served(find_model(folder)).card
    reference = reference_text(example())
    (folder / "1" / "drift.json").write_text(reference)
    after = load_served(find_model(folder)).card
    assert (after.digest, dict(after.file_digests)) == (before.digest, dict(before.file_digests))
    assert after.files != before.files  # a new reference is noticed, and the version is loaded again
