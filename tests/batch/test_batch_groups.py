# SPDX-License-Identifier: Apache-2.0
"""`lstm-explain batch` with groups of entries, and with units that relevance passes through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from tests.batch.data import DISCHARGE, SENTIMENT, check_same, in_this_process, pa, pq, results, weather, write
from tests.builders import recurrent_model

LRP = lx.LRP(epsilon=1e-2)
METHOD = ("--method", "lrp", "--param", "epsilon=0.01")


def explained(folder: Path, model: Path, *flags: object) -> list[dict[str, Any]]:
    arguments = ("--model", model, "--input", folder / "in.parquet", "--output", folder / "out")
    assert in_this_process(*arguments, *flags) == 0
    return list(results(folder / "out").to_pylist())


def padded(folder: Path) -> bool:
    return bool(json.loads((folder / "out" / "manifest.json").read_text())["padding"]["allowed"])


@pytest.mark.parametrize("batch_first", [False, True])
def test_windows_are_those_of_each_row_also_where_rows_are_padded(tmp_path: Path, batch_first: bool) -> None:
    """The sums are those of the relevance that the engine finds for the row alone, without groups."""
    built = recurrent_model(np.random.default_rng(0), sequence_lens=True, head="Y_h", batch_first=batch_first, H=9)
    onnx.save(built.model, str(tmp_path / "m.onnx"))
    rng = np.random.default_rng(2)
    rows = [rng.standard_normal((rng.integers(1, 30), 4)).astype("f4") for _ in range(40)]
    pq.write_table(pa.table({"x": [row.tolist() for row in rows]}), tmp_path / "in.parquet")
    found = explained(tmp_path, tmp_path / "m.onnx", *METHOD, "--groups", "window=7; features.outer=0,3")
    assert padded(tmp_path)
    model, axis = lx.load(built.model), 0 if batch_first else 1
    for row, x in zip(found, rows, strict=True):
        alone = model.explain({"x": np.expand_dims(x, axis), "lens": np.array([len(x)], np.int32)}, LRP)
        relevance = alone.relevance["x"].take(0, axis).astype(np.float64)
        starts = range(0, len(x), 7)
        ends = [min(start + 7, len(x)) for start in starts]
        sums = [relevance[a:b, part].sum() for a, b in zip(starts, ends, strict=True) for part in ([0, 3], [1, 2])]
        np.testing.assert_allclose(row["groups/x/relevance"], sums, atol=2e-5 * np.abs(relevance).max())
        assert row["groups/x/steps"] == [[a, b] for a, b in zip(starts, ends, strict=True) for _ in range(2)]
        named = [f"step {a}" if b == a + 1 else f"steps {a}-{b - 1}" for a, b in zip(starts, ends, strict=True)]
        assert row["groups/x/names"] == [f"{part}, {name}" for part in named for name in ("outer", "other features")]
        check_same(np.array(row["relevance/x"]), relevance)
    assert not any(column.startswith("groups/lens") for column in found[0])


def test_segments_of_one_row_do_not_depend_on_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    cuts = [3, 5, 8, 11]
    rows = [rng.normal(0, 0.1, (cut + 6, 5)).astype("f4") for cut in cuts]
    for row, cut in zip(rows, cuts, strict=True):
        row[cut:] += 4
    write(tmp_path / "in.parquet", rows)
    found = explained(tmp_path, DISCHARGE, "--groups", "change_points=2")
    assert [row["groups/weather/steps"] for row in found] == [[[0, cut], [cut, cut + 6]] for cut in cuts]
    for row in found:
        relevance = np.array(row["relevance/weather"])
        sums = [relevance[a:b].sum() for a, b in row["groups/weather/steps"]]
        np.testing.assert_allclose(row["groups/weather/relevance"], sums, rtol=1e-5)


def test_the_words_of_texts(tmp_path: Path) -> None:
    texts = ["a truly great film", "no", "the acting is fine but the plot is awful"]
    pq.write_table(pa.table({"tokens": texts}), tmp_path / "in.parquet")
    found = explained(tmp_path, SENTIMENT, "--targets", "every class", "--groups", "words")
    model = lx.load(SENTIMENT)
    assert len(found) == 5 * len(texts)
    for row in found:
        text = texts[row["row"]]
        assert row["groups/tokens/names"] == text.split()
        alone = model.explain({"tokens": text}, found_method(SENTIMENT), row["target_number"])
        np.testing.assert_allclose(row["groups/tokens/relevance"], alone.relevance["tokens"][0], rtol=1e-4, atol=1e-6)


def found_method(folder: Path) -> lx.Method:
    from lstm_explain.repository.model_yaml import read_config

    return read_config(folder / "model.yaml").config.default_method()


def test_groups_as_players_have_the_values_of_the_row_alone(tmp_path: Path) -> None:
    """Rows of equal lengths, and of different ones, which have other numbers of players."""
    rows = [*weather(6, longest=9), *(w[:9] for w in weather(8, seed=1) if len(w) >= 9)]
    write(tmp_path / "in.parquet", rows)
    flags = ("--method", "shapley_sampling", "--param", "permutations=3")
    found = explained(tmp_path, DISCHARGE, *flags, "--groups", "window=4; features.water=prcp,vp")
    model, groups = lx.load(DISCHARGE), lx.Groups(window=4, features={"water": ["prcp", "vp"]})
    assert not padded(tmp_path)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["method"]["over"] == "groups"
    for row, x in zip(found, rows, strict=True):
        alone = model.explain({"weather": x[None]}, lx.ShapleySampling(permutations=3), groups=groups)
        own = alone.groups["weather"].of(0)
        assert row["groups/weather/names"] == own.names.tolist()
        np.testing.assert_allclose(row["groups/weather/relevance"], own.relevance, atol=1e-5)
        np.testing.assert_allclose(row["groups/weather/standard_error"], own.standard_error, atol=1e-5)
        assert sum(row["groups/weather/relevance"]) == pytest.approx(row["ledger/inputs"], abs=1e-5)


def test_parts_of_the_units_add_up(tmp_path: Path) -> None:
    """LRP is linear in the relevance that is handed down, so a partition of the units makes up the whole."""
    rows = weather(20, longest=12)
    write(tmp_path / "in.parquet", rows)
    arguments = ("--model", DISCHARGE, "--input", tmp_path / "in.parquet", *METHOD)
    parts = []
    for name, units in {"low": range(32), "high": range(32, 64)}.items():
        listed = ",".join(map(str, units))
        assert in_this_process(*arguments, "--output", tmp_path / name, "--through", f"final_states={listed}") == 0
        parts.append(results(tmp_path / name).to_pylist())
    model = lx.load(DISCHARGE)
    for low, high, x in zip(*parts, rows, strict=True):
        whole = model.explain({"weather": x[None]}, LRP).relevance["weather"][0]
        low_part, high_part = (np.array(one["relevance/weather"], np.float64) for one in (low, high))
        np.testing.assert_allclose(low_part + high_part, whole, atol=2e-5 * np.abs(whole).max())
        assert min(np.abs(low_part).max(), np.abs(high_part).max()) > 1e-3 * np.abs(whole).max()
    assert "final_states=0,1," in (tmp_path / "low" / "report.html").read_text()


def test_units_inside_a_node_are_those_of_the_row_alone(tmp_path: Path) -> None:
    rows = weather(12, longest=8)
    write(tmp_path / "in.parquet", rows)
    units = ("--through", "lstm.cell=1,2", "--through", "lstm.hidden=2,40,1")
    found = explained(tmp_path, DISCHARGE, *METHOD, *units, "--groups", "window=3")
    model = lx.load(DISCHARGE)
    for row, x in zip(found, rows, strict=True):
        alone = model.explain({"weather": x[None]}, LRP, through={"lstm.cell": [1, 2], "lstm.hidden": [1, 2, 40]})
        check_same(np.array(row["relevance/weather"]), alone.relevance["weather"][0])
        sums = np.add.reduceat(alone.relevance["weather"][0].sum(axis=1), range(0, len(x), 3))
        np.testing.assert_allclose(row["groups/weather/relevance"], sums, atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--groups", "days"), "'days' is none of window=24"),
        (("--groups", "window=0"), "window is 0, expected a whole number of at least 1"),
        (("--groups", "window=x"), "window is 'x', expected a whole number"),
        (("--groups", "words"), "words are those of text, but no input came as text: weather"),
        (("--groups", "features"), "the model has no feature groups"),
        (("--groups", "features.wet=rain"), "has no feature 'rain', expected prcp, srad, tmax, tmin, vp"),
        (("--groups", "window=2", "--condition", "explained > 0"), "groups and a condition exclude each other"),
        (("--through", "lstm.cell"), "'lstm.cell' is not NAME=UNIT,UNIT"),
        (("--through", "lstm.cell=1.5"), "'lstm.cell=1.5' is not NAME=UNIT,UNIT"),
        (("--through", "lstm.cell=1", "--through", "lstm.cell=2"), "'lstm.cell' occurs twice"),
        (("--through", "lstm.cell=64"), "'lstm.cell' has the units 0 to 63, not 64"),
        (("--through", "nowhere=1"), "no value 'nowhere'"),
        (("--through", "weather=1"), "'weather' is an input"),
        (("--through", "lstm.cell=1", "--method", "occlusion"), "occlusion does not pass relevance through units"),
        (("--through", "lstm.cell=1", "--condition", "explained > 0"), "through and a condition exclude each other"),
    ],
)
def test_mistakes_exit_with_2_before_the_job_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], problem: str
) -> None:
    rows = weather(5)
    rows[0][0, 0] = np.nan  # a row that cannot be explained, whatever is asked for
    write(tmp_path / "in.parquet", rows)
    arguments = ("--model", DISCHARGE, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, *flags) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_row_without_groups_does_not_stop_others(tmp_path: Path) -> None:
    rows = weather(5)
    rows[2] = np.ones((4, 3), "f4")
    rows[3][0, 2] = np.inf
    write(tmp_path / "in.parquet", rows)
    arguments = ("--model", DISCHARGE, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--groups", "change_points") == 3
    failed = results(tmp_path / "out", "errors").to_pylist()
    assert [row["row"] for row in failed] == [2, 3]
    assert "expected (batch, time, 5)" in failed[0]["reason"]
    assert "is inf at (0, 0, 2)" in failed[1]["reason"]


def test_other_groups_or_units_are_another_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in.parquet", weather(5))
    arguments = ("--model", DISCHARGE, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out", *METHOD)
    asked = ("--groups", "window=3; features.water=prcp,vp", "--through", "lstm.cell=1,2")
    assert in_this_process(*arguments, *asked) == 0
    assert in_this_process(*arguments, *asked) == 0  # resumes
    assert in_this_process(*arguments, *asked[:3], "lstm.cell=1") == 2
    assert "another job (through was lstm.cell=1,2, is lstm.cell=1)" in capsys.readouterr().err
    assert in_this_process(*arguments, *asked[2:]) == 2
    assert "another job (groups was window=3; features.water=prcp,vp, is none)" in capsys.readouterr().err


def test_a_job_that_asks_for_less_is_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in.parquet", weather(5))
    arguments = ("--model", DISCHARGE, "--input", tmp_path / "in.parquet")
    for number, asked in enumerate((("--condition", "explained > 0"), ("--targets", "discharge:0"))):
        output = ("--output", tmp_path / str(number))
        assert in_this_process(*arguments, *output, *asked) == 0
        assert in_this_process(*arguments, *output) == 2
        assert f"another job ({asked[0][2:]} was " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--through", "lstm.cell=1"), "not of that through some units"),
        (("--method", "occlusion", "--groups", "window=3"), "not of groups as players"),
    ],
)
def test_parts_of_relevance_are_no_reference_for_drift(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], problem: str
) -> None:
    write(tmp_path / "in.parquet", weather(5))
    arguments = ("--model", DISCHARGE, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, *flags, "--as-reference") == 2
    assert problem in capsys.readouterr().err
