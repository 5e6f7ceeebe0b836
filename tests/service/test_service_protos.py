"""The protos pass buf's lint, and the committed stubs are what they generate."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_committed_stubs_are_not_stale(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "generate_stubs.py"), "--out", str(tmp_path)], check=True)
    fresh = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*.py*") if p.suffix in (".py", ".pyi")}
    committed = ROOT / "proto" / "python"
    stale = [str(name) for name, text in fresh.items() if (committed / name).read_text() != text]
    assert fresh
    assert stale == []
    left_over = {p.relative_to(committed) for p in committed.rglob("*_pb2*.py*") if p.suffix in (".py", ".pyi")}
    assert left_over <= set(fresh)


def test_buf_lint() -> None:
    buf = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")
    if buf is None:
        pytest.skip("buf is not installed")
    done = subprocess.run([buf, "lint", str(ROOT / "proto")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
