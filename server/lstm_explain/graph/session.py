"""ONNX Runtime sessions over parts of a graph."""

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
from lstm_explain.graph.empty_sequences import without_empty_sequences
from lstm_explain.graph.ir import Graph, Node
from lstm_explain.graph.unsigned_weights import with_unsigned_weights
from lstm_explain.memory_budget import available_memory
from lstm_explain.threads import threads

OUT_OF_MEMORY = ("bfc_arena", "Failed to allocate memory", "bad_alloc", "bad allocation")  # ONNX Runtime's words

ort.set_default_logger_severity(4)  # what goes wrong is raised and told by us


@cache
def most_bytes() -> int:
    """What ONNX Runtime may hold in this process, weights included: by default half of what the machine or container
    has.
    """
    asked = os.environ.get("LSTM_EXPLAIN_MAX_RUNTIME_BYTES")
    return int(asked) if asked else available_memory() // 2


@cache
def _limit_memory() -> None:
    """One arena for all sessions: a file of a few bytes can ask for any amount."""
    kind = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # It grows by what is asked for rather than to the next power of two, and so that `shrink_arena` can give it back.
    config = {"max_mem": most_bytes(), "arena_extend_strategy": 1}
    ort.create_and_register_allocator(kind, ort.OrtArenaCfg(config))


@cache
def _shrinker() -> tuple[ort.InferenceSession, ort.RunOptions]:
    """The smallest session, and options under which a run gives back what the arena holds and nobody uses."""
    one = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "shrink", one[:1], one[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return open_session(model.SerializeToString()), options


def shrink_arena() -> None:
    """Gives the system back what ONNX Runtime's arena holds and no session uses at the moment."""
    session, options = _shrinker()
    session.run(None, {"x": np.zeros(1, np.float32)}, options)


def session_options(*, optimise: bool = True) -> ort.SessionOptions:
    _limit_memory()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Between DequantizeLinear and QuantizeLinear a model computes in floating point. ONNX Runtime would do so in whole
    # numbers, but only where no value in between is asked for: an answer would depend on what else is.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # On processors without VNNI, ONNX Runtime adds two products of bytes in 16 bits, which saturate, by default. With
    # this, sums are what they are on all others, and what our own arithmetic makes of them.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    levels = ort.GraphOptimizationLevel
    # All but the last level, where there is one: it ends the process on a float16 Transpose before a MatMul (1.32).
    most = getattr(levels, "ORT_ENABLE_LAYOUT", levels.ORT_ENABLE_ALL)
    options.graph_optimization_level = most if optimise else levels.ORT_DISABLE_ALL
    return options


def part_of(graph: Graph, nodes: Sequence[Node], inputs: Iterable[str], outputs: Iterable[str]) -> onnx.ModelProto:
    """A model of `nodes` alone, with the constants that they read."""
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
    # Checked as a whole on reading; ONNX Runtime checks again.
    return helper.make_model(proto, opset_imports=graph.opsets, ir_version=max(graph.ir_version, 4))


def session_of(
    graph: Graph, nodes: Sequence[Node], inputs: Iterable[str], outputs: Iterable[str], *, optimise: bool = True
) -> ort.InferenceSession:
    part = part_of(graph, nodes, inputs, outputs)
    without_empty_sequences(part)
    with_unsigned_weights(part)
    return open_session(part.SerializeToString(), optimise=optimise)


def open_session(model: bytes, *, optimise: bool = True) -> ort.InferenceSession:
    """Optimised where ONNX Runtime can: its own optimisations refuse some valid models (Relu and Clip of float64)."""
    may_take_long()
    try:
        return ort.InferenceSession(model, session_options(optimise=optimise), providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's own types are not public
        if not optimise:
            raise
        return open_session(model, optimise=False)


def run_session(session: ort.InferenceSession, outputs: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
    """What `session.run` returns; whoever watches can end it between two nodes. Raises as that does, and Stopped."""
    watch = current_scope()
    if watch is None:
        return session.run(outputs, feeds)
    if watch.options is None:
        watch.options = ort.RunOptions()
    try:
        return session.run(outputs, feeds, watch.options)
    except Exception:
        if watch.stopped is not None:
            raise watch.stopped from None
        raise


def value_info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    kind = graph.type_of(name)
    dtype = np.dtype(np.float32) if kind.dtype is None else kind.dtype
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), kind.shape)


def runtime_message(error: Exception) -> str:
    """ONNX Runtime's message without its source locations."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        watch = current_scope()
        if watch is not None:
            watch.out_of_memory = True
        return f"it takes more memory than there is, or than LSTM_EXPLAIN_MAX_RUNTIME_BYTES={most_bytes()} allows"
    return text.split(" onnxruntime::", 1)[0][:500] if text else type(error).__name__
