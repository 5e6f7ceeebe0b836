"""A model as it is read becomes the graph that is explained, and ONNX Runtime's session over the whole."""

from __future__ import annotations

import onnx
import onnxruntime as ort

from lstm_explain.errors import ModelError
from lstm_explain.graph.bounded_windows import with_bounded_windows
from lstm_explain.graph.canonical import canonical, expanded
from lstm_explain.graph.constant_folding import fold_constants
from lstm_explain.graph.control_operands import with_single_elements
from lstm_explain.graph.empty_sequences import may_hold_nothing, without_empty_sequences
from lstm_explain.graph.integer_division import without_traps
from lstm_explain.graph.ir import Graph
from lstm_explain.graph.protos import nodes_of
from lstm_explain.graph.read import build, check_outputs, infer, infer_changed
from lstm_explain.graph.recurrent_operands import check_operands
from lstm_explain.graph.session import open_session, runtime_message
from lstm_explain.graph.tensor_lists import without_lists
from lstm_explain.graph.type_inference import try_inference
from lstm_explain.graph.unsigned_weights import reads_signed_weights, with_unsigned_weights


def prepared(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Graph]:
    """The model, with what ends a process taken out of it, and its graph: spelled out, folded, checked."""
    typed = infer(proto)
    changes = [without_traps(typed), with_single_elements(typed), with_bounded_windows(typed)]
    safe = infer_changed(typed) if any(changes) else typed
    spelled = without_lists(expanded(safe))
    typed = safe if spelled is safe else infer_changed(spelled)
    check_outputs(typed)
    graph = build(typed)
    check_operands(graph)
    graph = canonical(fold_constants(graph))
    check_operands(graph, folded=True)  # folding and spelling have made more of them known
    try_inference(graph)
    return safe, graph


def whole_session(proto: onnx.ModelProto) -> ort.InferenceSession:
    if may_hold_nothing(proto) or reads_signed_weights(proto):
        guarded = onnx.ModelProto()
        guarded.CopyFrom(proto)
        without_empty_sequences(guarded, {value.name for value in proto.graph.input})
        with_unsigned_weights(guarded)
        proto = guarded
    try:
        return open_session(proto.SerializeToString())
    except Exception as error:  # ONNX Runtime's own types are not public
        raise ModelError(f"ONNX Runtime cannot run the model: {with_node(proto, error)}") from error


def with_node(proto: onnx.ModelProto, error: Exception) -> str:
    """ONNX Runtime's message, which tells of an operator that it lacks, but not which node that is."""
    message = runtime_message(error)
    for node in nodes_of(proto):
        if f"{node.domain or 'ai.onnx'}:{node.op_type}(" in message:
            name = node.name or next(iter(node.output), "")
            return f"node {name!r} ({node.domain}{'::' if node.domain else ''}{node.op_type}): {message}"
    return message
