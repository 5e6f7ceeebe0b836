# SPDX-License-Identifier: Apache-2.0
"""Nobody waits for a compiler: what is not compiled yet is answered in NumPy, and compiled by other processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.kernels import cache_folder, compilation, lstm
from lstm_explain.kernels.compilation import NotCompiled
from lstm_explain.methods import METHODS
from lstm_explain.operators.gru_cell import GRUDirection
from lstm_explain.operators.lstm_cell import LSTMDirection
from lstm_explain.operators.rnn_cell import RNNDirection
from lstm_explain.program.lstm_walk import VIEWS
from lstm_explain_client import Client
from tests.builders import recurrent_model
from tests.compiled.test_compiled_cells import CELLS, GRID, rules_of
from tests.engine_checks import check_textbook, label, method
from tests.reference.textbook import Relative, Rules, one_hot
from tests.serving.running import Running, serving


def _total(values: Any, power: int) -> Any:
    return (values**power).sum()


PACKAGE = Path(cache_folder.__file__).parent.parent
CLOSE = 1e-4  # of the largest entry


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """No time loop is compiled. The list: the cells whose loops were called."""
    called: list[str] = []

    for cell in (LSTMDirection, GRUDirection, RNNDirection):

        def missing(*_: Any, name: str = cell.__name__) -> None:
            called.append(name)
            raise NotCompiled

        monkeypatch.setattr(cell, "kernel", lambda *_, missing=missing: missing)
        monkeypatch.setattr(cell, "predict", missing)
    yield called
    assert called


@pytest.mark.parametrize("row", GRID, ids=label)
def test_cells_without_kernels_equal_the_textbook(row: dict[str, Any], uncompiled: list[str]) -> None:
    given = dict(row)
    cell = CELLS[given["op"]][given.pop("cell")]
    rules = rules_of(given.pop("rule"), given.pop("stabiliser"), given.pop("bias_factor"))
    rng = np.random.default_rng(1)
    built = recurrent_model(rng, D=4, H=3, **given, **cell)
    feeds, chosen = built.feeds(rng, T=9), list(rng.integers(3, size=3))
    found = lx.load(built.model).explain(feeds, method(rules), lx.Target(index=chosen))
    check_textbook(built, feeds, found, one_hot(chosen, 3, 3), rules)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "contextual_decomposition"])  # one layer only
@pytest.mark.parametrize("op", CELLS)
def test_methods_without_kernels_find_the_same(op: Any, name: str, request: pytest.FixtureRequest) -> None:
    """Also for several targets at once."""
    rng = np.random.default_rng(2)
    built = recurrent_model(rng, op, D=4, H=3, layers=2, direction="bidirectional", sequence_lens=True)
    feeds, targets = built.feeds(rng, T=9), [lx.Target(index=i) for i in range(3)]
    how = METHODS[name]()
    due = [e.relevance["x"] for e in lx.load(built.model).explain_many(feeds, how, targets)]
    request.getfixturevalue("uncompiled")
    found = [e.relevance["x"] for e in lx.load(built.model).explain_many(feeds, how, targets)]
    for a, b in zip(found, due, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE * np.abs(b).max())


def test_a_backward_pass_may_follow_the_kernels_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, rules = np.random.default_rng(3), Rules("half", relative=Relative())
    built = recurrent_model(rng, "LSTM", D=4, H=3, initial_states="input", peepholes=True)
    feeds, original = built.feeds(rng, T=9), LSTMDirection.kernel

    def missing(*_: Any) -> None:
        raise NotCompiled

    def only_forward(direction: Any, function: Any, *arguments: Any) -> Any:
        return original(direction, function, *arguments) if function is lstm.forward else missing

    monkeypatch.setattr(LSTMDirection, "kernel", only_forward)
    found = lx.load(built.model).explain(feeds, method(rules), lx.Target(index=2))
    check_textbook(built, feeds, found, one_hot(2, 3, 3), rules)


@pytest.mark.parametrize("rule", ["all", "half"])
def test_relevance_inside_a_node_without_kernels(rule: Any, request: pytest.FixtureRequest) -> None:
    rng = np.random.default_rng(5)
    built = recurrent_model(rng, "LSTM", D=4, H=3, direction="bidirectional", sequence_lens=True, peepholes=True)
    feeds, how = built.feeds(rng, T=9), lx.LRP(rule)
    capture = [f"layer0.{view}" for view in VIEWS]
    due = lx.load(built.model).explain(feeds, how, lx.Target(index=2), capture=capture).captured
    request.getfixturevalue("uncompiled")
    found = lx.load(built.model).explain(feeds, how, lx.Target(index=2), capture=capture).captured
    for name in capture:
        np.testing.assert_allclose(found[name], due[name], rtol=0, atol=CLOSE * np.abs(due[name]).max(), err_msg=name)


def test_a_fresh_server_answers_every_method_without_compiling(running: Running, models_folder: Path, tmp_path: Path):
    """A kernel that is compiled leaves a file in the cache."""
    fresh = {"NUMBA_CACHE_DIR": str(tmp_path), "LSTM_EXPLAIN_KERNELS": "never"}
    rng = np.random.default_rng(4)
    with serving(models_folder, **fresh) as server, Client(server.address) as new, Client(running.address) as old:
        for steps in (3, 200):
            x = rng.standard_normal((1, steps, 4)).astype(np.float32)
            asked = [(name, {}) for name in METHODS] + [("lrp", {"product_rule": r}) for r in ("half", "prop", "abs")]
            for name, parameters in asked:
                found, due = (
                    c.explain("lstm", {"x": x}, method=name, parameters=parameters, target=1).relevance["x"]
                    for c in (new, old)
                )
                np.testing.assert_allclose(found, due, rtol=0, atol=CLOSE * np.abs(due).max(), err_msg=name)
    compiled = {file.parent.name.partition("-")[0] for file in tmp_path.glob("*/*.nbc")}
    assert compiled <= {"flush_to_zero"}


SMALL = """
import numba as nb
from lstm_explain.kernels.compilation import declared, nobody_waits

@nobody_waits
@nb.njit(cache=True)
def twice(x):
    return x + x

@declared([nb.float64(nb.float32), nb.float64(nb.float64)], lambda x: -1.0, cache=True)
def half(x):
    return x / 2
"""
CALL = """
import time
from contextlib import ExitStack
from pathlib import Path
from numba.core import event
from lstm_explain.kernels import background, cache_folder
from lstm_explain.kernels.compilation import NotCompiled
from lstm_explain.kernels.small import half, twice

folder = cache_folder.folder_of(Path(background.__file__).resolve())
with ExitStack() as others:  # compile already, on every processor
    for place in range(background.MOST_PROCESSES):
        others.enter_context(cache_folder.locked(folder, f"place-{place}"))
    assert half(3.0) == -1.0
    while background._compilers._processes:
        time.sleep(0.05)

with event.install_recorder("numba:compile") as compilations:
    assert half(3.0) == -1.0
    for x in (3.0, 3):
        try:
            twice(x)
            raise SystemExit("compiled")
        except NotCompiled:
            pass
    missing, end = {3.0, 3}, time.monotonic() + 300
    while (missing or half(3.0) == -1.0) and time.monotonic() < end:
        for x in list(missing):
            try:
                assert twice(x) == 6 and type(twice(x)) is type(x)
                missing.remove(x)
            except NotCompiled:
                pass
        time.sleep(0.05)
    assert half(3.0) == 1.5 and not missing
assert not compilations.buffer, compilations.buffer
"""


def test_a_call_without_compiled_code_rarely_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """To find out the types of arguments takes longer than many an answer in NumPy. One of the declared types may never
    be asked for.
    """
    monkeypatch.setenv("LSTM_EXPLAIN_KERNELS", "never")
    kernel, asked = nb.njit(_total), list[Any]()
    signatures = [nb.float64(kind[:], nb.int64) for kind in (nb.float32, nb.float64)]
    waiting = compilation._WithoutWaiting(kernel, signatures, _total)
    type_of = kernel.typeof_pyval
    monkeypatch.setattr(kernel, "typeof_pyval", lambda value: asked.append(value) or type_of(value))
    waiting.look()
    time.sleep(2 * compilation.SECONDS_BETWEEN_LOOKS)
    for _ in range(50):
        assert waiting(np.ones(3, np.float32), 2) is _total
    assert 0 < len(asked) <= 4


def test_the_mode_counts_when_a_kernel_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when it is imported: the process that tries models never compiles, even as a fork of one that does."""
    monkeypatch.setattr(compilation, "_folder", lambda _: tmp_path)
    monkeypatch.setenv("LSTM_EXPLAIN_KERNELS", "wait")
    kernel = compilation.nobody_waits(nb.njit(_total))
    monkeypatch.setenv("LSTM_EXPLAIN_KERNELS", "never")
    with pytest.raises(NotCompiled):
        kernel(np.ones(3), 2)
    assert not kernel.overloads
    monkeypatch.setenv("LSTM_EXPLAIN_KERNELS", "wait")
    assert kernel(np.ones(3), power=2) == 3
    assert len(kernel.overloads) == 1


def test_other_processes_compile_what_is_called(tmp_path: Path) -> None:
    """Two of them at the same function: neither loses what the other has compiled. Where other processes were busy
    with as many, it is tried again.
    """
    package = tmp_path / "clone" / "lstm_explain"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copytree(PACKAGE / "kernels", package / "kernels", ignore=lambda *_: ["__pycache__"])
    (package / "kernels" / "small.py").write_text(SMALL)
    shutil.copy(PACKAGE / "errors.py", package)
    background = package / "kernels" / "background.py"
    for slow, quick in (("NICENESS = 19", "NICENESS = 0"), ("BETWEEN_ORDERS = 5.0", "BETWEEN_ORDERS = 0.5")):
        assert slow in background.read_text()  # would wait for the tests beside this one
        background.write_text(background.read_text().replace(slow, quick))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "LSTM_EXPLAIN_"))}
    environment = kept | {"PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    subprocess.run([sys.executable, "-c", CALL], env=environment, check=True, cwd=tmp_path)
