"""Loads a model, and holds our kernels against ONNX Runtime before anything is explained with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from lstm_explain.errors import Error, ModelError, UnsupportedOperator
from lstm_explain.graph.ir import Graph
from lstm_explain.graph.preparation import message_with_node
from lstm_explain.graph.read import read
from lstm_explain.graph.session import runtime_message
from lstm_explain.inputs import probe_inputs
from lstm_explain.methods import LRP
from lstm_explain.model import Model
from lstm_explain.program.compile import Purpose, compile_plan
from lstm_explain.program.program import Program


def load(source: str | Path | bytes | onnx.ModelProto, *, gates: Mapping[str, int | None] | None = None) -> Model:
    """Loads a model from a path, the bytes of a file, or a ModelProto; raises ModelError.

    gates: for products whose gate is not to be seen from the graph, the slot of the operand that is the gate (0 or 1;
    None: neither is) by node name. External data is read from inside the model's own folder only.
    """
    try:
        proto = read(source)
    except Error:
        raise
    except Exception as error:  # ONNX's tools raise several types, all about the file
        raise ModelError(f"the model cannot be read: {runtime_message(error)}") from error
    try:
        model = Model(proto, gates)
        verify(model)
    except ModelError:
        raise
    except Exception as error:  # a valid file may still be one that no runtime can prepare
        raise ModelError(f"the model cannot be prepared: {message_with_node(proto, error)}") from error
    return model


def verify(model: Model) -> None:
    """Holds our kernels against ONNX Runtime's run of the whole graph; raises ModelError where they differ.

    Skipped where ONNX Runtime cannot run the whole (float64 cells), no inputs can be made up that fit, or a node
    has no rule, in which case nothing is run by our kernels.
    """
    try:
        plan = compile_plan(model.engine.graph, list(model.outputs), Purpose())
    except UnsupportedOperator:
        model.session()
        return
    probe = probe_inputs(model.inputs)
    try:
        wanted = model.predict(probe)
        came = Program(plan, model.engine.cells, LRP()).forward(probe).values
    except Error:
        return
    relative, absolute = _rounding(model.engine.graph)
    for name, value in wanted.items():
        if value.dtype.kind != "f":
            continue
        atol = absolute + relative * np.abs(value[np.isfinite(value)]).max(initial=0)
        if not np.allclose(value, came[name], rtol=0, atol=atol, equal_nan=True):
            raise ModelError(f"output {name!r}: our recurrent kernels and ONNX Runtime disagree on this model")


def _rounding(graph: Graph) -> tuple[float, float]:
    """How far apart two right answers may be: relative to the largest, and absolute. The last bit of a value may become
    a level of the next, where values are rounded on their way.
    """
    if any("Quantize" in node.op for node in graph.all_nodes()):
        return 0.1, 1e-2
    half = any(kind.dtype == np.float16 for kind in graph.types.values())
    return (3e-2, 1e-2) if half else (1e-3, 1e-4)
