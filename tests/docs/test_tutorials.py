# SPDX-License-Identifier: Apache-2.0
"""The tutorials are short, complete and run; `make tutorials` executes all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import tutorials

FOLDER = tutorials.FOLDER
ALL = {tutorial.path.stem: tutorial for tutorial in tutorials.tutorials()}
MOST_COMMANDS = 5  # from nothing to a picture


def test_every_page_is_a_tutorial_and_listed() -> None:
    pages = {path.stem for path in FOLDER.glob("*.md")} - {"README"}
    assert set(ALL) == pages
    assert set(re.findall(r"\]\(([\w-]+)\.md\)", (FOLDER / "README.md").read_text())) == pages


@pytest.mark.parametrize("name", sorted(name for name, tutorial in ALL.items() if tutorial.needs))
def test_few_commands_lead_to_a_picture(name: str) -> None:
    commands = list(ALL[name].commands())
    assert commands[0].startswith("python3 -m venv ")
    assert "--html why.html" in commands[-1]
    assert len(commands) <= MOST_COMMANDS


def test_the_recorded_commands_are_those_of_the_pages() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| (\d+) \| \d+ \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    titles = {tutorial.text.partition("\n# ")[2].partition("\n")[0]: tutorial for tutorial in ALL.values()}
    assert {title for title, _, _ in rows} >= {
        title for title in titles if title.startswith(("Keras", "PyTorch: a", "PyTorch: t"))
    }
    for title, commands, seconds in rows:
        assert int(commands) == len(list(titles[title].commands())), title
        assert int(seconds) <= tutorials.SECONDS, title


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_command_that_prints_shows_its_output(name: str) -> None:
    blocks = ALL[name].blocks
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.kind == "python":
            assert block.title, block.body
            compile(block.body, block.title, "exec")
        elif block.kind == "sh" and not block.body.startswith("python3 -m venv"):
            assert following is not None
            assert following.kind == "text", block.body


def test_output_is_written_below_its_command(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- tutorial: needs nothing -->\n```sh\necho $((1 + 1))\n```\n\n```text\nold\n```\n\nThe end.\n")
    text = page.read_text()
    blocks = [tutorials.Block(m[1], m[2] or "", m[3], m.start(), m.end()) for m in tutorials.BLOCK.finditer(text)]
    tutorial = tutorials.Tutorial(page, text, [], blocks)
    blocks = list(tutorials.run(tutorial, tmp_path, tutorials.environment_of([], tmp_path, None)))
    assert [done.output for done in blocks] == ["2"]
    assert tutorials.written(tutorial, blocks) == text.replace("old", "2")


def test_the_time_to_a_picture_counts_the_environment_once() -> None:
    lines = ("pip install", "python train.py", "lstm-explain explain m --html why.html", "python more.py")
    blocks = [tutorials.Done(tutorials.Block("sh", "", line, 0, 0), "", 10.0**i) for i, line in enumerate(lines)]
    assert tutorials.until_picture(blocks, 5000) == 5110


def test_only_rounding_may_differ_between_machines() -> None:
    assert tutorials._rough("rounding +4.61e−7  ≈ 0 %") == tutorials._rough("rounding −2.0e−8  ≈ 0 %")
    assert tutorials._rough("the inputs −0.132") != tutorials._rough("the inputs −0.133")
