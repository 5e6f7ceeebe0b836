# SPDX-License-Identifier: Apache-2.0
"""Explanations run in flush-to-zero mode, and leave the caller's floating-point state as it was."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from llvmlite import binding, ir
from onnx import TensorProto, helper

import lstm_explain as lx
from bench.models import Shape, inputs_of, model_of
from lstm_explain.arithmetic import quiet_arithmetic
from lstm_explain.cancellation import Cancelled, CancelScope, cancel_scope
from lstm_explain.kernels import flush_to_zero as module
from lstm_explain.kernels.flush_to_zero import begin, restore, state_of_thread
from lstm_explain.program.engine import Question
from lstm_explain.threads import in_threads, threads

TINY = float(np.finfo(np.float32).tiny)
SUBNORMAL, ONE = np.full(1, 1e-40, np.float32), np.ones(1, np.float32)
METHODS = [
    lx.LRP(),
    lx.LRP("half", epsilon=1e-3),
    lx.GradientTimesInput(),
    lx.IntegratedGradients(steps=4, max_steps=4),
    lx.Occlusion(),
    lx.ContextualDecomposition(),
]


def control_word() -> int:
    """The rounding and flushing bits of this thread's register, as the C library reads them."""
    registers = (ctypes.c_uint32 * 16)()
    if platform.libc_ver()[0] != "glibc" or ctypes.CDLL(None).fegetenv(registers):
        pytest.skip("the layout of fenv_t is known for glibc only")
    if platform.machine() == "aarch64":
        return registers[0]
    if platform.machine() != "x86_64":
        pytest.skip(f"the layout of fenv_t is not known for {platform.machine()}")
    return registers[7] & ~0x3F  # MXCSR without the flags of past exceptions


def flushes() -> bool:
    """Whether NumPy's arithmetic flushes results and operands, in both precisions. They must agree."""
    products = [
        SUBNORMAL * ONE,  # an operand
        np.full(1, 1e-30, np.float32) * np.full(1, 1e-10, np.float32),  # a result
        np.full(1, 1e-310) * np.ones(1),
        np.full(1, 1e-300) * np.full(1, 1e-10),
    ]
    zero = {bool(product[0] == 0) for product in products}
    assert len(zero) == 1, products
    return zero.pop()


@pytest.fixture(autouse=True)
def _the_state_is_the_callers() -> Iterator[None]:
    """Holds for every test of this file."""
    before = control_word()
    assert not flushes()
    yield
    assert control_word() == before
    assert not flushes()


@pytest.fixture(scope="module")
def model() -> lx.Model:
    return lx.load(model_of(Shape(3, 4)))


def test_the_mode_holds_within_the_context_only() -> None:
    before = control_word()
    with quiet_arithmetic():
        assert flushes()
        assert control_word() != before
        with quiet_arithmetic():
            assert flushes()
        assert flushes()
    assert not flushes()
    with pytest.raises(ZeroDivisionError), quiet_arithmetic():
        1 // 0  # noqa: B018
    assert control_word() == before


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_an_explanation_leaves_the_callers_state(model: lx.Model, method: lx.Method) -> None:
    before, x = control_word(), inputs_of(Shape(3, 4), 6, 2)
    for _ in range(3):  # also from a specialised program
        model.explain({"x": x}, method, lx.Target(index=1))
        assert control_word() == before
        assert not flushes()
    model.explain_many({"x": x}, method, [lx.Target(index=i) for i in range(2)])
    assert control_word() == before


def test_a_caller_who_flushes_still_flushes_afterwards(model: lx.Model) -> None:
    own = begin()
    try:
        model.explain({"x": inputs_of(Shape(3, 4), 6, 1)})
        assert flushes()
    finally:
        restore(own)


class _Stop:
    """Cancels at the call number `at`."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> None:
        assert flushes()
        self.left -= 1
        if self.left < 0:
            raise Cancelled(RuntimeError("enough"))


@pytest.mark.parametrize("at", range(4))
def test_an_explanation_that_fails_leaves_the_callers_state(model: lx.Model, at: int) -> None:
    before, x = control_word(), inputs_of(Shape(3, 4), 6, 2)
    with cancel_scope(CancelScope(_Stop(at))), pytest.raises(Cancelled):
        model.explain({"x": x})
    assert control_word() == before
    with pytest.raises(lx.Error):
        model.explain({"x": x * np.float32(1e38)}, lx.LRP("half", epsilon=1e-30), lx.Target(index=99))
    assert control_word() == before


def test_every_thread_of_an_explanation_is_in_the_callers_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_EXPLAIN_THREADS", "3")
    threads.cache_clear()
    try:
        with quiet_arithmetic():
            assert in_threads(flushes, [()] * 3) == [True] * 3
        assert in_threads(flushes, [()] * 3) == [False] * 3
    finally:
        threads.cache_clear()


def _elementwise() -> onnx.ModelProto:
    """y = x * 1.0000001, for so many elements that ONNX Runtime divides them among its threads."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "n"]) for name in "xy")
    factor = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0000001])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "c"], ["y"])], "mul", [x], [y], [factor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("count", ["1", "2"])
def test_onnx_runtime_flushes_in_explanations_but_not_in_predictions(
    monkeypatch: pytest.MonkeyPatch, count: str
) -> None:
    monkeypatch.setenv("LSTM_EXPLAIN_THREADS", count)
    threads.cache_clear()
    try:
        model, x = lx.load(_elementwise()), np.full((1, 1 << 21), 1e-40, np.float32)
        for _ in range(3):
            assert (model.explain({"x": x}, lx.GradientTimesInput(), lx.Target(index=0)).outputs["y"] == 0).all()
            np.testing.assert_array_equal(model.predict({"x": x})["y"], x)
    finally:
        threads.cache_clear()


def test_the_first_session_of_a_process_leaves_the_callers_state() -> None:
    """ONNX Runtime sets the mode of the thread that opens the first session, and only then."""
    code = """
import onnxruntime as ort
from bench.models import Shape, model_of
from lstm_explain.graph.session import open_session
from lstm_explain.kernels.flush_to_zero import begin, state_of_thread
if {own}:
    begin()
before = state_of_thread()
open_session(model_of(Shape(3, 4)).SerializeToString(), flush={asked})
assert state_of_thread() == before, (before, state_of_thread())
"""
    for own, asked in ((True, False), (False, True)):
        source = code.format(own=own, asked=asked)
        subprocess.run([sys.executable, "-c", source], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


def _unflushed(model: lx.Model, x: np.ndarray, method: lx.Method) -> np.ndarray:
    """The relevance of x, computed in the caller's mode."""
    output = model.default_output
    question = Question(method, output, model.head_of(output), (lx.Target(index=2),), ())
    return np.asarray(model.engine.explain({"x": x}, question)[0].relevance["x"])


@pytest.mark.parametrize("method", [lx.LRP(), lx.LRP(epsilon=1e-3), lx.GradientTimesInput()], ids=str)
@pytest.mark.parametrize(("op", "steps"), [("LSTM", 500), ("LSTM", 2000), ("GRU", 500), ("GRU", 2000), ("RNN", 2000)])
def test_relevance_that_fades_keeps_its_bits(op: str, steps: int, method: lx.Method) -> None:
    shape = Shape(5, 12, op=op, fading=True)
    model, x = lx.load(model_of(shape)), inputs_of(shape, steps, 2)
    flushed = model.explain({"x": x}, method, lx.Target(index=2)).relevance["x"]
    exact = _unflushed(model, x, method)
    sizes = np.abs(exact)
    assert ((sizes > 0) & (sizes < TINY)).any()  # they fade
    assert not ((flushed != 0) & (np.abs(flushed) < TINY)).any()
    large = sizes > 1e-30
    np.testing.assert_array_equal(flushed[large], exact[large])
    assert np.abs(flushed - exact)[~large].max() < 1e-33


TRIPLES = {
    "x86_64-unknown-linux-gnu": ["stmxcsr", "orl $32832", "ldmxcsr"],
    "aarch64-unknown-linux-gnu": ["mrs x0, FPCR", "#0x1000000", "msr FPCR"],
    "arm64-apple-darwin23": ["mrs x0, FPCR", "#0x1000000", "msr FPCR"],
    "riscv64-unknown-linux-gnu": [],
}


@pytest.mark.parametrize("triple", TRIPLES)
def test_the_instructions_of_each_processor(triple: str) -> None:
    """Compiles for processors other than this one, too."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    unit = ir.Module("unit")
    unit.triple = triple
    builder = ir.IRBuilder(ir.Function(unit, ir.FunctionType(module.INT, []), "begin").append_basic_block())
    builder.ret(module.emit_flush(builder))
    machine = binding.Target.from_triple(triple).create_target_machine()
    lines = [" ".join(line.split()) for line in machine.emit_assembly(binding.parse_assembly(str(unit))).splitlines()]
    at = 0
    for expected in TRIPLES[triple]:
        at = next((n for n in range(at, len(lines)) if expected in lines[n]), -1)
        assert at >= 0, (expected, lines)
    assert bool(module.flush_bits(triple)) == bool(TRIPLES[triple])


def test_the_state_is_read_as_the_c_library_reads_it() -> None:
    before, bits = control_word(), module.flush_bits(binding.get_default_triple())
    assert state_of_thread() & ~0x3F == before
    with quiet_arithmetic():
        assert state_of_thread() & ~0x3F == control_word() == before | bits
