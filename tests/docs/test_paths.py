# SPDX-License-Identifier: Apache-2.0
"""Every source file and every folder that the documentation and the comments of the server name exists."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHERS = {"node_modules", "target", "build", "__pycache__", "shared"}  # folders that tools and visitors make
NAME = r"(?<![>\w/-])(?:[\w-]+/)*[\w-]+\.(?:%s)\b(?![-\w(/])"
SOURCE = re.compile(NAME % "py|proto|md|go|java|ts|rs|cpp|hpp|cmake|sh|js|toml")
FOLDER = re.compile(r"`((?:[\w-]+/)+)`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
ADDRESS = re.compile(r"\w+://\S+")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`]*`")
WRITTEN = re.compile(r'^```python title="([^"]+)"', re.MULTILINE)  # files that the reader of a tutorial writes
MAP_LINE = re.compile(r"( *)([\w-]+(?:[./][\w-]*)*(?:, [\w-]+(?:[./][\w-]*)*)*)(?=  | *$)")
# What the reader makes, what a job writes, and what the data sets are called.
ELSEWHERE = {"why.cpp", "src/main/java/Why.java", "main.go", "statistics", "camels", "sst", "docs/try"}


def tree() -> tuple[set[str], list[Path]]:
    """The paths of all files and folders relative to ROOT with a leading slash, and the Markdown files among them."""
    paths: set[str] = set()
    documents = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in OTHERS)
        prefix = "/" + os.path.relpath(folder, ROOT).removeprefix(".")
        paths.update(f"{prefix.rstrip('/')}/{name}" for name in [*folders, *files])
        documents += [Path(folder, name) for name in files if name.endswith(".md")]
    return paths, documents


PATHS, DOCUMENTS = tree()
ENDINGS = {path[i + 1 :] for path in PATHS for i, letter in enumerate(path) if letter == "/"}


def missing(text: str) -> list[str]:
    """The source files and folders that `text` names and no path of the repository ends with."""
    text = ADDRESS.sub("", text)
    names = SOURCE.findall(text) + [name.rstrip("/") for name in FOLDER.findall(text)]
    return sorted(set(names) - ENDINGS - ELSEWHERE - set(WRITTEN.findall(text)))


def not_on_the_map(lines: list[str]) -> list[str]:
    """The files and folders of a map, one folder per indentation, that do not lie where the map puts them."""
    above: list[tuple[int, str]] = [(-1, "")]
    wrong = []
    for line in lines:
        if (match := MAP_LINE.match(line)) is None:
            continue
        indentation = len(match[1])
        while above[-1][0] >= indentation:
            above.pop()
        names = [f"{above[-1][1]}/{name.rstrip('/')}" for name in match[2].split(", ")]
        wrong += [name for name in names if name not in PATHS]
        if match[2].endswith("/"):
            above.append((indentation, names[0]))
    return wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_documentation_names_files_that_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not missing(text)
    assert not [
        link for link in LINK.findall(CODE.sub("", FENCED.sub("", text))) if not (document.parent / link).exists()
    ]


def test_comments_name_modules_that_exist() -> None:
    module = re.compile(NAME % "py|md")
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("server", "bench", "scripts", "training")
        for path in (ROOT / folder).rglob("*.py")
        for name in module.findall(ADDRESS.sub("", path.read_text(encoding="utf-8")))
        if name not in ENDINGS
    }
    assert not wrong


def test_the_map_of_the_repository_is_right() -> None:
    fenced = FENCED.search((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    assert fenced is not None
    lines = fenced[0].splitlines()[1:-1]
    assert len(lines) > 50
    assert not not_on_the_map(lines)


def test_missing_files_are_found() -> None:
    assert missing("see `rules/op.py` and `plan/`, not `operators/operator.py`") == ["plan", "rules/op.py"]
    lines = ["server/lstm_explain/   the server", "  graph/  reads", "    read.py, walk.py   reads", "  graph.py"]
    assert not_on_the_map(lines) == ["/server/lstm_explain/graph/walk.py", "/server/lstm_explain/graph.py"]
