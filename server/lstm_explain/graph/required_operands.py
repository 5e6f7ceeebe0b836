"""Operands that an operator cannot do without, though a file may leave their name empty.

ONNX's checker counts the empty names among operands of which there may be any number (those of Max, Concat, Sum), and
ONNX Runtime (1.32) reads what they stand for: nothing.
"""

from __future__ import annotations

from functools import lru_cache

import onnx
from onnx import ModelProto

from lstm_explain.errors import ModelError
from lstm_explain.graph.protos import nodes_of


def check_required(model: ModelProto) -> None:
    """Raises ModelError for the first node of ONNX's own, in bodies too, that lacks one."""
    versions = {o.domain: o.version for o in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 1))
    for node in nodes_of(model):
        if node.domain not in ("", "ai.onnx") or all(node.input):
            continue
        required, variadic = _inputs(node.op_type, opset)
        for slot, name in enumerate(node.input):
            if not name and (slot in required or (variadic is not None and slot >= variadic)):
                named = node.name or next(iter(node.output), "")
                raise ModelError(f"node {named!r} ({node.op_type}): its input {slot} is missing, and it needs one")


@lru_cache(maxsize=1024)
def _inputs(op: str, opset: int) -> tuple[frozenset[int], int | None]:
    """The slots that are required, and the first of those of which there may be any number."""
    try:
        formal = onnx.defs.get_schema(op, opset, "").inputs
    except onnx.defs.SchemaError:  # not ONNX's own any more; ONNX Runtime has its say
        return frozenset(), None
    options = [entry.option for entry in formal]
    single, variadic = (onnx.defs.OpSchema.FormalParameterOption.__members__[name] for name in ("Single", "Variadic"))
    required = frozenset(slot for slot, option in enumerate(options) if option == single)
    return required, next((slot for slot, option in enumerate(options) if option == variadic), None)
