# SPDX-License-Identifier: Apache-2.0
"""Kernels compiled when an image is built are found when it runs, on a read-only file system too."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.kernels import cache
from tests import zoo

METHODS = [
    lx.LRP(),
    lx.LRP("prop"),
    lx.LRP(bias_factor=1.0),
    lx.LRP(epsilon=1e-3),
    lx.LRP("half", epsilon=1e-3),
    lx.Gradient(),
    lx.Occlusion(),
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (cache.FOLDER, cache.CPU, cache.FEATURES, cache.COMPILED_FOR):
        monkeypatch.setenv(name, "")  # so that what use() sets is undone
        monkeypatch.delenv(name)


def test_without_a_folder_nothing_changes() -> None:
    before = dict(os.environ)
    cache.use()
    assert dict(os.environ) == before


def test_a_read_only_folder_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "one.nbi").write_bytes(b"1")
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "kernels"))
    cache.use()
    assert os.environ[cache.FOLDER] == str(tmp_path / "kernels")
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache.os, "access", lambda path, mode: False)
    cache.use()
    copy = Path(os.environ[cache.FOLDER])
    assert copy.parent == tmp_path
    assert (copy / "one.nbi").read_bytes() == b"1"

    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "kernels"))
    cache.use()
    assert os.environ[cache.FOLDER] == str(copy), "the first copy serves again"
    copy.chmod(0o777)  # now others can have written there
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "kernels"))
    cache.use()
    assert os.environ[cache.FOLDER] != str(copy)


def test_a_missing_writable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path))
    monkeypatch.setattr(cache.os, "access", lambda path, mode: False)
    monkeypatch.setattr(cache.tempfile, "tempdir", "/no/such/folder")
    monkeypatch.setattr(cache, "WRITABLE_WHERE_NOTHING_ELSE_IS", "/no/such/folder/either")
    with pytest.raises(lx.Error, match="/tmp"):
        cache.use()


@pytest.mark.parametrize(
    ("compiled", "has", "chosen"),
    [
        ("x86-64-v3 x86-64-v4", cache.NEEDS["x86-64-v3"] | cache.NEEDS["x86-64-v4"], "x86-64-v4"),
        ("x86-64-v3 x86-64-v4", cache.NEEDS["x86-64-v3"], "x86-64-v3"),
        ("x86-64-v4", cache.NEEDS["x86-64-v3"], None),
        ("x86-64-v3 x86-64-v4", {"sse2"}, None),
    ],
)
def test_the_best_compiled_processor_is_selected(
    compiled: str, has: set[str], chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llvmlite import binding

    monkeypatch.setenv(cache.COMPILED_FOR, compiled)
    monkeypatch.setattr(cache.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: dict.fromkeys(has, True))
    cache.use()
    assert os.environ.get(cache.CPU) == chosen


def test_kernels_are_compiled_without_being_run() -> None:
    """Kernels for another processor are only compiled; those for this one come from the cache."""
    cache._explain_small_models()
    with cache._processes({}) as processes:
        assert list(processes.map(cache._compile, cache._calls())) == [None] * len(cache._calls())


@pytest.mark.parametrize("name", zoo.names())
def test_small_models_compile_all_kernels(name: str) -> None:
    """The first caller would wait for kernels that they leave uncompiled. Inputs are read-only, as those of a message
    are.
    """
    cache._explain_small_models()
    before = {kernel: list(kernel.signatures) for kernel in cache._kernels()}
    case = zoo.load(name)
    model, inputs = (
        lx.load(case.path),
        {k: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for k, a in case.inputs.items()},
    )
    for method in METHODS:
        with suppress(lx.Error):
            model.explain(inputs, method)
    assert {kernel: list(kernel.signatures) for kernel in cache._kernels()} == before


@pytest.mark.slow
def test_fill_compiles_all_kernels_that_explanations_need(tmp_path: Path) -> None:
    """Compiled as for an image, and found again on the processor that was named."""
    environment = {**os.environ, cache.FOLDER: str(tmp_path)}
    subprocess.run([sys.executable, "-m", "lstm_explain.kernels.cache", "x86-64-v3"], env=environment, check=True)
    compiled = {p.name for p in tmp_path.rglob("*.nbc")}
    script = "from lstm_explain.kernels import cache; cache._explain_small_models()"
    of_image = {**environment, cache.COMPILED_FOR: "x86-64-v3"}
    subprocess.run([sys.executable, "-c", script], env=of_image, check=True)
    assert compiled
    assert {p.name for p in tmp_path.rglob("*.nbc")} == compiled
