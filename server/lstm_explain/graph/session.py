# SPDX-License-Identifier: Apache-2.0
"""Opens and runs ONNX Runtime sessions over a whole model or parts of a graph, with a limit on memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from lstm_explain.cancellation import current_scope, may_take_long
from lstm_explain.graph.empty_sequences import guard_empty_sequences
from lstm_explain.graph.ir import Graph, Node
from lstm_explain.graph.unsigned_weights import make_weights_unsigned
from lstm_explain.kernels.flush_to_zero import restore, state_of_thread
from lstm_explain.memory_budget import available_memory
from lstm_explain.threads import threads

# Phrases of ONNX Runtime's messages.
OUT_OF_MEMORY = ("bfc_arena", "Failed to allocate memory", "bad_alloc", "bad allocation")

ort.set_default_logger_severity(4)  # Errors are raised, and we report them.


@cache
def max_runtime_bytes() -> int:
    """Returns how many bytes ONNX Runtime may hold in this process, weights included; by default half of the available
    memory.
    """
    setting = os.environ.get("LSTM_EXPLAIN_MAX_RUNTIME_BYTES")
    return int(setting) if setting else available_memory() // 2


@cache
def _limit_memory() -> None:
    """Registers one arena with a limit for all sessions: a file of a few bytes can request any amount."""
    kind = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # The arena grows by the amount requested rather than to the next power of two, and `shrink_arena` can release it.
    config = {"max_mem": max_runtime_bytes(), "arena_extend_strategy": 1}
    ort.create_and_register_allocator(kind, ort.OrtArenaCfg(config))


@cache
def _shrinker() -> tuple[ort.InferenceSession, ort.RunOptions]:
    """Returns the smallest possible session, and options under which a run releases the unused memory of the arena."""
    one = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "shrink", one[:1], one[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return open_session(model.SerializeToString()), options


def shrink_arena() -> None:
    """Returns to the system the memory of ONNX Runtime's arena that no session currently uses."""
    session, options = _shrinker()
    session.run(None, {"x": np.zeros(1, np.float32)}, options)


def session_options(*, optimise: bool = True, flush: bool = False) -> ort.SessionOptions:
    """flush: whether the threads of the session's own pool run in flush-to-zero mode. The calling thread runs in the
    mode that it is in; see kernels/flush_to_zero.py.
    """
    _limit_memory()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Between DequantizeLinear and QuantizeLinear a model computes in floating point. ONNX Runtime would use integers
    # there, but only where no value in between is requested: the answer would depend on what else is requested.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # On processors without VNNI, ONNX Runtime by default adds products of bytes in 16 bits, which saturate. With this
    # option, sums are the same as on other processors and as in our own arithmetic.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry("session.set_denormal_as_zero", str(int(flush)))
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    levels = ort.GraphOptimizationLevel
    # All levels but the last, where the version has them: the last one ends the process on a float16 Transpose before a
    # MatMul (1.32).
    highest = getattr(levels, "ORT_ENABLE_LAYOUT", levels.ORT_ENABLE_ALL)
    options.graph_optimization_level = highest if optimise else levels.ORT_DISABLE_ALL
    return options


def part_of(graph: Graph, nodes: Sequence[Node], inputs: Iterable[str], outputs: Iterable[str]) -> onnx.ModelProto:
    """Returns a model that consists of `nodes` and the constants that they read."""
    read = dict.fromkeys(name for node in nodes for name in (*node.inputs, *node.captured) if name)
    inputs, outputs = list(inputs), list(outputs)
    made = {o for n in nodes for o in n.outputs}
    constants = [n for n in (*read, *(o for o in outputs if o not in made)) if n in graph.constants and n not in inputs]
    proto = helper.make_graph(
        [node.proto for node in nodes],
        "part",
        [value_info(graph, name) for name in inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(graph.constants[name], name) for name in dict.fromkeys(constants)],
    )
    # The whole model was checked when it was read; ONNX Runtime checks again.
    return helper.make_model(proto, opset_imports=graph.opsets, ir_version=max(graph.ir_version, 4))


def session_of(
    graph: Graph,
    nodes: Sequence[Node],
    inputs: Iterable[str],
    outputs: Iterable[str],
    *,
    optimise: bool = True,
    flush: bool = True,
) -> ort.InferenceSession:
    """Returns a session over `nodes`, for explanations."""
    part = part_of(graph, nodes, inputs, outputs)
    guard_empty_sequences(part)
    make_weights_unsigned(part)
    return open_session(part.SerializeToString(), optimise=optimise, flush=flush)


def open_session(model: bytes, *, optimise: bool = True, flush: bool = False) -> ort.InferenceSession:
    """Returns a session with ONNX Runtime's optimisations, or without where they reject a valid model (Relu and Clip of
    float64).
    """
    may_take_long()
    options, state = session_options(optimise=optimise, flush=flush), state_of_thread()
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's exception types are not public
        if not optimise:
            raise
        return open_session(model, optimise=False, flush=flush)
    finally:
        restore(state)  # The first session of a process changes it.


def run_session(session: ort.InferenceSession, outputs: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
    """Returns what `session.run` returns. A CancelScope can end it between two nodes. Raises what `session.run` raises,
    and Cancelled.
    """
    scope = current_scope()
    if scope is None:
        return session.run(outputs, feeds)
    if scope.run_options is None:
        scope.run_options = ort.RunOptions()
    try:
        return session.run(outputs, feeds, scope.run_options)
    except Exception:
        if scope.cancelled is not None:
            raise scope.cancelled from None
        raise


def value_info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    kind = graph.type_of(name)
    dtype = np.dtype(np.float32) if kind.dtype is None else kind.dtype
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), kind.shape)


def runtime_message(error: Exception) -> str:
    """Returns ONNX Runtime's message without its source locations."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        scope = current_scope()
        if scope is not None:
            scope.out_of_memory = True
        return (
            f"it needs more memory than available, or than LSTM_EXPLAIN_MAX_RUNTIME_BYTES={max_runtime_bytes()} allows"
        )
    return text.split(" onnxruntime::", 1)[0][:500] if text else type(error).__name__
