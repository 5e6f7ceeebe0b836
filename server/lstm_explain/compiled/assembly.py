# SPDX-License-Identifier: Apache-2.0
"""Assembles the compiled file: only the nodes that an output needs, declared outputs, and its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from lstm_explain.compiled.forward import Forward
from lstm_explain.compiled.loops import pruned
from lstm_explain.compiled.targets import TARGET_INPUT
from lstm_explain.graph.protos import bodies_of, rename_body
from lstm_explain.graph.session import value_info
from lstm_explain.methods import Method
from lstm_explain.model import Model
from lstm_explain.program.program import Program
from lstm_explain.target import Target
from lstm_explain.tracing.arrays import Traced
from lstm_explain.tracing.graph_writer import PREFIX, GraphWriter, captured_by


def assemble(
    model: Model,
    program: Program,
    parts: Sequence[Forward],
    writer: GraphWriter,
    results: Mapping[str, Traced],
    opset: int,
    runtime: bool,
    method: Method,
    target: Target,
) -> onnx.ModelProto:
    graph = program.plan.graph
    last = [helper.make_node("Identity", [array.name], [name], name=name) for name, array in results.items()]
    forward = parts[0]
    nodes = [*_first(forward.nodes, writer.levels[0].nodes), *last]
    initializers = {t.name: t for part in parts[::-1] for t in part.initializers} | writer.initializers
    wanted = [*graph.outputs, *results]
    kept = _needed(nodes, wanted)
    read = {name for node in kept for name in _read(node)} | set(wanted)
    kept = _needed([pruned(node, read) for node in kept], wanted)
    read = {name for node in kept for name in _read(node)} | set(wanted)
    inputs = [value_info(graph, name) for name in graph.inputs]
    batch = _symbols(model)
    if runtime:
        inputs.append(helper.make_tensor_value_info(TARGET_INPUT, onnx.TensorProto.INT64, [batch]))
    outputs = [value_info(graph, name) for name in graph.outputs]
    for name, array in results.items():
        source = name.removeprefix("relevance/")
        shape: Any = [batch if len({v.shape[0] for v in array.values}) > 1 else array.values[0].shape[0]]
        if name.startswith("relevance/"):
            shape = graph.type_of(source).shape
        outputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape))
    graph_proto = helper.make_graph(
        kept, "explained", inputs, outputs, [t for n, t in initializers.items() if n in read]
    )
    _rename_added(graph_proto)
    proto = helper.make_model(
        graph_proto,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=max(8, helper.find_min_ir_version_for([helper.make_opsetid("", opset)])),
        producer_name="lstm-explain",
        producer_version=_version(),
    )
    helper.set_model_props(proto, _metadata(model, method, target, program, runtime))
    return proto


def _rename_added(graph: onnx.GraphProto) -> None:
    """Renames the engine's own values, so that the engine can explain the file itself, which adds values of these
    names.
    """
    fixed = {value.name for value in (*graph.input, *graph.output)}
    made = [o for node in graph.node for o in node.output] + [t.name for t in graph.initializer]
    names = {name: f"{PREFIX}{name.replace('::', '/')}" for name in made if "::" in name and name not in fixed}
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.name = node.name.replace("::", "/")
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for body in bodies_of(node):
            rename_body(body, names, "")


def _first(model: Sequence[onnx.NodeProto], added: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Returns the nodes of the model and those that were added, each once."""
    made = {o for node in model for o in node.output if o}
    return [*model, *(node for node in added if not made.intersection(node.output))]


def _needed(nodes: list[onnx.NodeProto], wanted: list[str]) -> list[onnx.NodeProto]:
    """Returns the nodes without which `wanted` cannot be computed."""
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_read(node))
    return kept[::-1]


def _read(node: onnx.NodeProto) -> list[str]:
    bodies = [a.g for a in node.attribute if a.HasField("g")]
    return [name for name in node.input if name] + [name for body in bodies for name in captured_by(body)]


def _symbols(model: Model) -> str:
    """Returns the name of the batch's extent."""
    from lstm_explain.compiled.examples import batch_symbols

    return next((s for s in sorted(map(str, batch_symbols(model))) if not s.isdigit()), "batch")


def _version() -> str:
    from lstm_explain import __version__

    return __version__


def _metadata(model: Model, method: Method, target: Target, program: Program, runtime: bool) -> dict[str, str]:
    index = target.index.tolist() if isinstance(target.index, np.ndarray) else target.index
    return {
        "lstm_explain.method": method.name,
        "lstm_explain.parameters": json.dumps(method.parameters(), default=str, sort_keys=True),
        "lstm_explain.target": "runtime" if runtime else json.dumps(index),
        "lstm_explain.output": target.output or model.default_output,
        "lstm_explain.explained_quantity": program.quantity,
        "lstm_explain.version": _version(),
        "lstm_explain.onnx_version": onnx.__version__,
        "lstm_explain.source_sha256": hashlib.sha256(model.proto.SerializeToString(deterministic=True)).hexdigest(),
    }
