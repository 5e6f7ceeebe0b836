"""The protos pass buf's lint and break nobody, and the committed stubs are what they generate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK_BREAKING = ROOT / "scripts" / "check_breaking.sh"


def test_committed_stubs_are_not_stale(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "generate_stubs.py"), "--out", str(tmp_path)], check=True)
    kinds = (".py", ".pyi", ".json")
    fresh = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*.*") if p.suffix in kinds}
    committed = ROOT / "proto" / "python"
    stale = [str(name) for name, text in fresh.items() if (committed / name).read_text() != text]
    assert fresh
    assert stale == []
    left_over = {p.relative_to(committed) for p in committed.rglob("*_pb2*.py*") if p.suffix in (".py", ".pyi")}
    assert left_over <= set(fresh)


def test_buf_lint() -> None:
    done = subprocess.run([_need_buf(), "lint", str(ROOT / "proto")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_callers_of_the_last_commits_are_still_understood() -> None:
    _need_buf()
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git history to compare the protos with")
    done = subprocess.run([str(CHECK_BREAKING)], capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    if "nothing breaks since" not in done.stdout:
        pytest.skip(f"no git history to compare the protos with: {done.stderr}")


def test_a_break_is_noticed(tmp_path: Path) -> None:
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
