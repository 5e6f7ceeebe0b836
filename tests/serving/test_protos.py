# SPDX-License-Identifier: Apache-2.0
"""The protos pass buf's lint and break nobody, and the committed stubs and methods are what they generate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.generate_methods import generated
from scripts.generate_stubs import LANGUAGES

ROOT = Path(__file__).resolve().parents[2]
CHECK_BREAKING = ROOT / "scripts" / "check_breaking.sh"


@pytest.mark.parametrize("name", LANGUAGES)
def test_committed_stubs_are_not_stale(name: str, tmp_path: Path) -> None:
    language = LANGUAGES[name]
    if missing := language.missing():
        pytest.skip(f"the stubs for {name}: no {', '.join(missing)} on this machine")
    language.generate(tmp_path)
    committed, fresh = stubs(ROOT / language.folder), stubs(tmp_path)
    assert fresh
    assert sorted(committed) == sorted(fresh)
    assert [str(path) for path, text in fresh.items() if committed[path] != text] == []


def stubs(folder: Path) -> dict[Path, str]:
    """Every generated file by its place in the folder."""
    files = (p for p in folder.rglob("*.*") if p.is_file() and p.suffix != ".pyc")
    return {p.relative_to(folder): p.read_text() for p in files}


def test_committed_methods_are_not_stale() -> None:
    """Those of every client, of the page and of the documentation."""
    stale = [path for path, text in generated().items() if not _holds(ROOT / path, text)]
    assert not stale, "run `make proto`"


def test_generated_methods_are_marked() -> None:
    marked = (ROOT / ".gitattributes").read_text().splitlines()
    code = [path for path in generated() if not path.endswith(".md")]
    assert [path for path in code if f"{path} linguist-generated" not in marked] == []


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def test_buf_lint() -> None:
    done = subprocess.run([_need_buf(), "lint", str(ROOT / "proto")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_protos_are_compatible_with_earlier_commits() -> None:
    _need_buf()
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git history to compare the protos with")
    done = subprocess.run([str(CHECK_BREAKING)], capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    if "nothing breaks since" not in done.stdout:
        pytest.skip(f"no git history to compare the protos with: {done.stderr}")


def test_an_incompatible_change_is_detected(tmp_path: Path) -> None:
    buf = _need_buf()
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    file = tmp_path / "proto" / "lstm_explain" / "v1" / "model.proto"
    file.write_text(file.read_text().replace("bytes sha256 = 3", "bytes sha256 = 33"))
    done = subprocess.run(
        [buf, "breaking", str(tmp_path / "proto"), "--against", str(ROOT / "proto")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "sha256" in done.stdout


def _need_buf() -> str:
    buf = shutil.which("buf", path=_environment()["PATH"])
    if buf is None:
        pytest.skip("buf is not installed")
    return buf


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
