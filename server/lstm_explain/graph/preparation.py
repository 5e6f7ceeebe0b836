# SPDX-License-Identifier: Apache-2.0
"""Prepares a model: computes the graph that is explained, and opens ONNX Runtime's session over the whole model."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnxruntime as ort

from lstm_explain.errors import ModelError
from lstm_explain.graph.bounded_windows import bound_windows
from lstm_explain.graph.canonical import canonicalise, expand_functions
from lstm_explain.graph.constant_folding import fold_constants
from lstm_explain.graph.control_operands import require_single_elements
from lstm_explain.graph.counted_loops import count_loops
from lstm_explain.graph.empty_sequences import guard_empty_sequences, may_be_empty
from lstm_explain.graph.integer_division import guard_divisions
from lstm_explain.graph.ir import Graph
from lstm_explain.graph.protos import copy_of, label_of, nodes_of
from lstm_explain.graph.read import build, check_outputs, infer, infer_changed
from lstm_explain.graph.recurrent_operands import check_operands
from lstm_explain.graph.session import open_session, runtime_message
from lstm_explain.graph.tensor_lists import remove_lists
from lstm_explain.graph.type_inference import try_inference
from lstm_explain.graph.unsigned_weights import make_weights_unsigned, reads_signed_weights


def prepare(proto: onnx.ModelProto, fold: Callable[[Graph], Graph] | None = None) -> tuple[onnx.ModelProto, Graph]:
    """Returns the model without what could end the process, and its graph: rewritten, folded and checked.

    fold: replaces the repeats of cells, after constants are folded and before layers are rewritten.
    """
    typed = infer(proto)
    changes = [guard_divisions(typed), require_single_elements(typed), bound_windows(typed)]
    safe = infer_changed(typed) if any(changes) else typed
    rewritten = remove_lists(expand_functions(safe))
    typed = safe if rewritten is safe else infer_changed(rewritten)
    check_outputs(typed)
    graph = build(typed)
    check_operands(graph)
    graph = fold_constants(graph)
    if count_loops(graph):
        fold_constants(graph)
    graph = canonicalise(graph if fold is None else fold(graph))
    check_operands(graph, folded=True)  # Folding and rewriting have made more operands constant.
    try_inference(graph)
    return safe, graph


def whole_session(proto: onnx.ModelProto, *, optimise: bool = True) -> ort.InferenceSession:
    """Returns a session for the model as written. Raises ModelError."""
    if may_be_empty(proto) or reads_signed_weights(proto):
        inputs = {value.name for value in proto.graph.input}
        proto = copy_of(proto)
        guard_empty_sequences(proto, inputs)
        make_weights_unsigned(proto)
    try:
        return open_session(proto.SerializeToString(), optimise=optimise)
    except Exception as error:  # ONNX Runtime's exception types are not public.
        raise ModelError(f"ONNX Runtime cannot run the model: {message_with_node(proto, error)}") from error


def message_with_node(proto: onnx.ModelProto, error: Exception) -> str:
    """Returns ONNX Runtime's message; where it reports an operator that it lacks, the name of the node is added."""
    message = runtime_message(error)
    for node in nodes_of(proto):
        if f"{node.domain or 'ai.onnx'}:{node.op_type}(" in message:
            return f"node {label_of(node)!r} ({node.domain}{'::' if node.domain else ''}{node.op_type}): {message}"
    return message
