# SPDX-License-Identifier: Apache-2.0
"""The outputs that READMEs show are what the bundled models answer."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

import lstm_explain as lx

ROOT = Path(__file__).parents[2]
NUMBER = r"\[(-?\d+\.\d+),? ?…"


@pytest.fixture(scope="module")
def sentiment() -> lx.Model:
    return lx.load(ROOT / "models" / "sentiment")


def lines_of(text: str) -> list[str]:
    """Without rules and margins, which depend on the terminal."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip(" ─")]


def test_the_demo_prints_what_the_readme_shows(sentiment: lx.Model) -> None:
    block = re.search(
        r"```\nA warm, funny and moving film\.  \([^\n]*\)\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    assert block is not None
    console = Console(width=200, file=io.StringIO())
    console.print(sentiment.explain({"tokens": "A warm, funny and moving film."}))
    printed = [line for line in lines_of(console.file.getvalue()) if "full colour" not in line]
    shown = [line.removeprefix("Sample 0: ") for line in lines_of(block[1])]
    assert printed[0].startswith(f"{shown[0]} sentiment version 1")
    rounding = shown.index(next(line for line in shown if line.startswith("rounding")))
    assert [line for at, line in enumerate(printed[1:], 1) if at != rounding] == [
        line for at, line in enumerate(shown[1:], 1) if at != rounding
    ]


@pytest.mark.parametrize("client", ["go", "java", "typescript"])
def test_the_first_number_of_a_clients_readme(sentiment: lx.Model, client: str) -> None:
    """The request of the README: "neither funny nor suspenseful", LRP with epsilon 0.001, the first class."""
    text = (ROOT / "client" / client / "README.md").read_text()
    example = text[: text.index("| to do this")]
    assert "neither funny nor suspenseful" in example
    assert "0.001" in example
    (shown,) = re.findall(NUMBER, example)
    answer = sentiment.explain({"tokens": "neither funny nor suspenseful"}, lx.LRP(epsilon=0.001), 0)
    decimals = len(shown.partition(".")[2])
    assert f"{answer.relevance['tokens'][0, 0]:.{decimals}f}" == shown
