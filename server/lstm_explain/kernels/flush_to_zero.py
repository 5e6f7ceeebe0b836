# SPDX-License-Identifier: Apache-2.0
"""Treats subnormal numbers as zero in the calling thread.

Relevance that fades over a long sequence falls below the smallest normal number (1.2e-38 in float32). Arithmetic on
subnormal numbers takes ten times as long or longer on some processors. In flush-to-zero mode, results that would be
subnormal are zero, and operands that are subnormal count as zero.

The mode belongs to the thread: on x86 it is two bits of the register MXCSR, on ARM one bit of FPCR. Whatever the thread
runs obeys it: our kernels, ONNX Runtime and NumPy. Each function below is a call of its own, because inside one
function LLVM may move arithmetic past an instruction that changes the mode.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

FLUSH_X86 = 1 << 15 | 1 << 6  # MXCSR: flush results to zero, denormal operands are zero
FLUSH_ARM = 1 << 24  # FPCR.FZ: both
INT, WORD, BYTES, VOID = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer(), ir.VoidType()
OPTIONS = {"cache": True, "_nrt": False}  # with the GIL: releasing it takes longer than the call


def flush_bits(triple: str) -> int:
    """Returns the bits of the register that select the mode; 0 for a processor of which this module knows nothing."""
    machine = triple.split("-")[0]
    if machine in ("x86_64", "i386", "i686"):
        return FLUSH_X86
    return FLUSH_ARM if machine in ("aarch64", "arm64") else 0


def emit_read(builder: ir.IRBuilder) -> Any:
    """Emits the instructions that read the register; the result is an i64. builder.module names the processor."""
    bits = flush_bits(builder.module.triple)
    if not bits:
        return ir.Constant(INT, 0)
    if bits == FLUSH_ARM:
        return builder.call(_intrinsic(builder, "llvm.aarch64.get.fpcr", INT, []), [])
    slot = builder.alloca(WORD)
    builder.call(_intrinsic(builder, "llvm.x86.sse.stmxcsr", VOID, [BYTES]), [builder.bitcast(slot, BYTES)])
    return builder.zext(builder.load(slot), INT)


def emit_write(builder: ir.IRBuilder, state: Any) -> None:
    """Emits the instructions that write the register. state: an i64 from `emit_read`."""
    bits = flush_bits(builder.module.triple)
    if bits == FLUSH_ARM:
        builder.call(_intrinsic(builder, "llvm.aarch64.set.fpcr", VOID, [INT]), [state])
    elif bits:
        slot = builder.alloca(WORD)
        builder.store(builder.trunc(state, WORD), slot)
        builder.call(_intrinsic(builder, "llvm.x86.sse.ldmxcsr", VOID, [BYTES]), [builder.bitcast(slot, BYTES)])


def emit_flush(builder: ir.IRBuilder) -> Any:
    """Emits the instructions that select the mode. Returns the state before."""
    before = emit_read(builder)
    emit_write(builder, builder.or_(before, ir.Constant(INT, flush_bits(builder.module.triple))))
    return before


def _intrinsic(builder: ir.IRBuilder, name: str, returns: Any, takes: list[Any]) -> Any:
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(returns, takes), name)


@intrinsic  # type: ignore[untyped-decorator]
def _read(typing: Any) -> Any:
    return nb.int64(), lambda context, builder, signature, arguments: emit_read(builder)


@intrinsic  # type: ignore[untyped-decorator]
def _write(typing: Any, state: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit_write(builder, arguments[0])
        return context.get_dummy_value()

    return nb.void(nb.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _flush(typing: Any) -> Any:
    return nb.int64(), lambda context, builder, signature, arguments: emit_flush(builder)


@nb.njit([nb.int64()], **OPTIONS)
def state_of_thread():
    """The floating-point state of the calling thread, for `restore`."""
    return _read()


@nb.njit([nb.void(nb.int64)], **OPTIONS)
def restore(state):
    """Gives the calling thread a state that `state_of_thread` or `begin` has returned."""
    _write(state)


@nb.njit([nb.int64()], **OPTIONS)
def begin():
    """Selects flush-to-zero mode in the calling thread. Returns the state before."""
    return _flush()


# NumPy measures these limits when it is first asked for them, with warnings in flush-to-zero mode.
for _dtype in (np.float16, np.float32, np.float64):
    np.finfo(_dtype)
