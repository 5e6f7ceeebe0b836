"""Kernels compiled when an image is built are found when it runs, on a read-only file system too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_explain as lx
from lstm_explain import kernel_cache


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (kernel_cache.FOLDER, kernel_cache.CPU, kernel_cache.FEATURES, kernel_cache.COMPILED_FOR):
        monkeypatch.setenv(name, "")  # so that what use() sets is undone
        monkeypatch.delenv(name)


def test_without_a_folder_nothing_is_done() -> None:
    before = dict(os.environ)
    kernel_cache.use()
    assert dict(os.environ) == before


def test_a_folder_that_cannot_be_written_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "one.nbi").write_bytes(b"1")
    monkeypatch.setenv(kernel_cache.FOLDER, str(tmp_path / "kernels"))
    kernel_cache.use()
    assert os.environ[kernel_cache.FOLDER] == str(tmp_path / "kernels")
    monkeypatch.setattr(kernel_cache.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(kernel_cache.os, "access", lambda path, mode: False)
    kernel_cache.use()
    copy = Path(os.environ[kernel_cache.FOLDER])
    assert copy.parent == tmp_path
    assert (copy / "one.nbi").read_bytes() == b"1"

    monkeypatch.setenv(kernel_cache.FOLDER, str(tmp_path / "kernels"))
    kernel_cache.use()
    assert os.environ[kernel_cache.FOLDER] == str(copy), "the first copy serves again"
    copy.chmod(0o777)  # now others can have written there
    monkeypatch.setenv(kernel_cache.FOLDER, str(tmp_path / "kernels"))
    kernel_cache.use()
    assert os.environ[kernel_cache.FOLDER] != str(copy)


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernel_cache.FOLDER, str(tmp_path))
    monkeypatch.setattr(kernel_cache.os, "access", lambda path, mode: False)
    monkeypatch.setattr(kernel_cache.tempfile, "tempdir", "/no/such/folder")
    monkeypatch.setattr(kernel_cache, "WRITABLE_WHERE_NOTHING_ELSE_IS", "/no/such/folder/either")
    with pytest.raises(lx.Error, match="/tmp"):
        kernel_cache.use()


@pytest.mark.parametrize(
    ("compiled", "has", "chosen"),
    [
        ("x86-64-v3 x86-64-v4", kernel_cache.NEEDS["x86-64-v3"] | kernel_cache.NEEDS["x86-64-v4"], "x86-64-v4"),
        ("x86-64-v3 x86-64-v4", kernel_cache.NEEDS["x86-64-v3"], "x86-64-v3"),
        ("x86-64-v4", kernel_cache.NEEDS["x86-64-v3"], None),
        ("x86-64-v3 x86-64-v4", {"sse2"}, None),
    ],
)
def test_the_best_that_was_compiled_and_that_the_processor_is(
    compiled: str, has: set[str], chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llvmlite import binding

    monkeypatch.setenv(kernel_cache.COMPILED_FOR, compiled)
    monkeypatch.setattr(kernel_cache.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: dict.fromkeys(has, True))
    kernel_cache.use()
    assert os.environ.get(kernel_cache.CPU) == chosen


@pytest.mark.slow
def test_what_fill_compiles_is_all_that_explanations_need(tmp_path: Path) -> None:
    environment = {**os.environ, kernel_cache.FOLDER: str(tmp_path)}
    subprocess.run([sys.executable, "-m", "lstm_explain.kernel_cache"], env=environment, check=True)
    compiled = {p.name for p in tmp_path.rglob("*.nbc")}
    script = "from lstm_explain import kernel_cache; kernel_cache._explain_small_models()"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert compiled
    assert {p.name for p in tmp_path.rglob("*.nbc")} == compiled
