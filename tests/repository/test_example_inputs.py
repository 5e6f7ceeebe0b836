# SPDX-License-Identifier: Apache-2.0
"""Examples of inputs are read from model.yaml and the files beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lstm_explain as lx
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.served_model import load_served
from tests.serving.models import lstm, write_version

MODELS = Path(__file__).parents[2] / "models"


def loaded(folder: Path, examples: object, **files: bytes) -> dict[str, tuple[str, ...]]:
    write_version(folder, "lstm", lstm(), config=json.dumps({"examples": examples}))
    for name, data in files.items():
        (folder / "lstm" / f"{name}.csv").write_bytes(data)
    return dict(load_served(find_model(folder / "lstm")).card.examples)


def test_examples_of_the_bundled_models() -> None:
    texts = load_served(find_model(MODELS / "sentiment")).card.examples["tokens"]
    assert "A warm, funny and moving film." in texts
    (table,) = load_served(find_model(MODELS / "discharge")).card.examples["weather"]
    assert table == (MODELS / "discharge" / "example.csv").read_text()


def test_tables_are_files_of_the_version_or_the_model(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"x": ["a.csv", "b.csv"]}, a=b"1,2,3,4\n", b=b"5,6,7,8\n")["x"] == (
        "1,2,3,4\n",
        "5,6,7,8\n",
    )
    (tmp_path / "lstm" / "1" / "a.csv").write_text("the version's own\n")
    assert load_served(find_model(tmp_path / "lstm")).card.examples["x"][0] == "the version's own\n"


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ({"y": ["a.csv"]}, r"examples\.y: the model has no input 'y', only 'x'"),
        ({"x": ["none.csv"]}, "no such file in the model's folder"),
        ({"x": ["../secret.csv"]}, "must be a file in the model's folder"),
        ({"x": ["/etc/passwd"]}, "must be a file in the model's folder"),
        ({"x": ["bytes.csv"]}, "utf-8"),
        ({"x": ["large.csv"]}, "more than 262144 bytes"),
        ({"x": ["half.csv", "half.csv"]}, "the examples have more than 262144 bytes"),
        ({"x": "a.csv"}, "examples.x"),
    ],
)
def test_what_cannot_be_an_example_is_refused(tmp_path: Path, examples: object, words: str) -> None:
    (tmp_path / "secret.csv").write_text("1\n")
    files = {"bytes": b"\xff\xfe\x00", "large": b"1\n" * (1 << 18), "half": b"1\n" * 70_000}
    with pytest.raises(lx.ModelError, match=words):
        loaded(tmp_path, examples, **files)
