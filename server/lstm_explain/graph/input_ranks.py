# SPDX-License-Identifier: Apache-2.0
"""Finds the rank of inputs that declare no shape, from the operators that read them."""

from __future__ import annotations

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto

from lstm_explain.errors import ModelError
from lstm_explain.graph.protos import without_weights
from lstm_explain.graph.sandbox import survives

MAX_RANK = 6
RECURRENT = {0: 3, 4: 1, 5: 3, 6: 3}  # By slot: X, sequence_lens, initial states.


def give_ranks(model: ModelProto) -> None:
    """Declares the only rank that fits. Raises ModelError where none or several fit."""
    initialised = {t.name for t in model.graph.initializer}
    for value in model.graph.input:
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or kind.HasField("shape") or value.name in initialised:
            continue
        fitting = [rank for rank in range(MAX_RANK + 1) if _fits(model, value, rank)]
        if len(fitting) != 1:
            found = f"ranks {fitting[0]} to {fitting[-1]} fit" if fitting else "no rank fits the nodes that read it"
            raise ModelError(f"input {value.name!r} declares no shape, and {found}")
        _declare(value, fitting[0])


def _declare(value: ValueInfoProto, rank: int) -> None:
    shape = value.type.tensor_type.shape
    shape.SetInParent()
    for _ in range(rank):
        shape.dim.add()


def _fits(model: ModelProto, value: ValueInfoProto, rank: int) -> bool:
    """Returns whether the nodes that read the value, and ONNX's own inference, accept this rank."""
    required = {
        _required_rank(node, slot) for node in model.graph.node for slot, n in enumerate(node.input) if n == value.name
    }
    if required - {None, rank}:
        return False
    _declare(value, rank)
    try:
        bare = without_weights(model)
        if not survives(bare):
            return False
        onnx.shape_inference.infer_shapes(bare, strict_mode=True)
    except Exception:  # ONNX raises several types of exception; all of them concern shapes.
        return False
    finally:
        value.type.tensor_type.ClearField("shape")
    return True


def _required_rank(node: NodeProto, slot: int) -> int | None:
    """Returns the rank that the operator requires in this slot, where ONNX's inference does not check it."""
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return RECURRENT.get(slot)
    orders = [len(a.ints) for a in node.attribute if a.name == "perm"]
    return orders[0] if node.op_type == "Transpose" and orders else None
