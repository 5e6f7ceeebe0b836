# SPDX-License-Identifier: Apache-2.0
"""Loads a model, and verifies our kernels against ONNX Runtime before it explains anything."""

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
    """Loads a model from a path, the bytes of a file, or a ModelProto. Raises ModelError.

    gates: by node name, the slot of the operand that is the gate (0 or 1; None: neither), for products whose gate
    cannot be determined from the graph. External data is read only from the model's own folder.
    """
    try:
        proto = read(source)
    except Error:
        raise
    except Exception as error:  # ONNX's tools raise several types, all about the file.
        raise ModelError(f"the model cannot be read: {runtime_message(error)}") from error
    try:
        model = Model(proto, gates)
        try:
            verify(model)
        except ModelError:
            if model.engine.graph.repeats is None:
                raise
            model = Model(proto, gates, fold=False)  # the loop in place of a repeated cell does not do the same
            verify(model)
    except ModelError:
        raise
    except Exception as error:  # A runtime may fail to prepare even a valid file.
        raise ModelError(f"the model cannot be prepared: {message_with_node(proto, error)}") from error
    return model


def verify(model: Model) -> None:
    """Compares our kernels with ONNX Runtime on the whole graph. Raises ModelError where they differ.

    Skipped where ONNX Runtime cannot run the whole model (float64 cells), where no inputs can be made up, or where a
    node has no rule, so that our kernels are not used.
    """
    try:
        plan = compile_plan(model.engine.graph, list(model.outputs), Purpose())
    except UnsupportedOperator:
        model.session()
        return
    probe = probe_inputs(model.inputs)
    try:
        expected = model.predict(probe)
        actual = Program(plan, model.engine.cells, LRP()).forward(probe).values
    except Error:
        return
    relative, absolute = _rounding(model.engine.graph)
    for name, value in expected.items():
        if value.dtype.kind != "f":
            continue
        own, finite = actual[name], np.isfinite(value)
        atol = absolute + relative * np.abs(value[finite]).max(initial=0)
        if not finite.all() and not np.isfinite(own).all():
            # Made-up inputs let an unstable recurrence overflow; the element at which it does depends on rounding.
            both = finite & np.isfinite(own)
            value, own = value[both], own[both]
        if not np.allclose(value, own, rtol=0, atol=atol, equal_nan=True):
            raise ModelError(f"output {name!r}: our recurrent kernels and ONNX Runtime disagree on this model")


def _rounding(graph: Graph) -> tuple[float, float]:
    """Returns how far two correct answers may differ: relative to the largest value, and absolute.

    In a quantised model, the last bit of one value may change the next value by a whole level.
    """
    if any("Quantize" in node.op for node in graph.all_nodes()):
        return 0.1, 1e-2
    half = any(kind.dtype == np.float16 for kind in graph.types.values())
    return (3e-2, 1e-2) if half else (1e-3, 1e-4)
