# SPDX-License-Identifier: Apache-2.0
"""The method in a model.yaml is replaced in its text; all else stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstm_explain.calibration.card import with_method, write
from lstm_explain.errors import ModelError
from lstm_explain.methods import LRP
from lstm_explain.repository.model_yaml import parse_config

METHOD = {"name": "lrp", "stabiliser": 0.05, "ceiling": 3.0}
HEAD, TAIL = "# by hand\ndescription: a model  # ours\n", "# about time\ntime_axis: {x: 1}  # second\n"


@pytest.mark.parametrize("written", ["method: {name: lrp, epsilon: 0.1}\n", "method:\n  name: lrp\n  epsilon: 0.1\n"])
def test_only_the_method_changes(written: str) -> None:
    edited = with_method(HEAD + written + TAIL, METHOD, ["deletion 1.5"])
    new = "# calibrated: deletion 1.5\nmethod: {name: lrp, stabiliser: 0.05, ceiling: 3.0}\n"
    assert edited == HEAD + new + TAIL
    assert parse_config(edited).config.default_method() == LRP(stabiliser=0.05, ceiling=3.0)
    assert with_method(edited, METHOD, ["deletion 1.6"]) == edited.replace("1.5", "1.6")


@pytest.mark.parametrize("text", ["", HEAD, HEAD.rstrip("\n")])
def test_a_missing_method_is_appended(text: str) -> None:
    edited = with_method(text, METHOD, [])
    assert edited.startswith(text)
    assert parse_config(edited).config.default_method() == LRP(stabiliser=0.05, ceiling=3.0)


@pytest.mark.parametrize("text", ["{description: a}\n", "description: a\n...\n", "colour: red\n"])
def test_what_cannot_be_edited_is_an_error(text: str) -> None:
    with pytest.raises(ModelError, match=r"model\.yaml"):
        with_method(text, METHOD, [])


def test_writing_keeps_permissions_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("description: a\n")
    path.chmod(0o640)
    write(path, "description: é\n")
    assert path.read_text(encoding="utf-8") == "description: é\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
