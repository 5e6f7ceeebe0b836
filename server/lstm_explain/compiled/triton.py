# SPDX-License-Identifier: Apache-2.0
"""Writes a model as a repository of the Triton Inference Server: its file, and config.pbtxt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import TensorProto

TYPES = {
    TensorProto.BOOL: "BOOL", TensorProto.UINT8: "UINT8", TensorProto.UINT16: "UINT16", TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64", TensorProto.INT8: "INT8", TensorProto.INT16: "INT16", TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64", TensorProto.FLOAT16: "FP16", TensorProto.FLOAT: "FP32", TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "STRING", TensorProto.BFLOAT16: "BF16",
}  # fmt: skip


def write_repository(proto: onnx.ModelProto, folder: Path, name: str) -> Path:
    """Writes `folder/name/1/model.onnx` and `folder/name/config.pbtxt`. Returns the model's folder."""
    model = folder / name
    (model / "1").mkdir(parents=True, exist_ok=True)
    (model / "1" / "model.onnx").write_bytes(proto.SerializeToString())
    (model / "config.pbtxt").write_text(config(proto, name), encoding="utf-8")
    return model


def config(proto: onnx.ModelProto, name: str) -> str:
    """Returns the configuration as protobuf text. Shapes contain the batch axis, so `max_batch_size` is 0."""
    lines = [f"name: {_quoted(name)}", 'backend: "onnxruntime"', "max_batch_size: 0"]
    for kind, values in (("input", proto.graph.input), ("output", proto.graph.output)):
        lines += [line for value in values for line in _tensor(kind, value)]
    return "\n".join(lines) + "\n"


def _tensor(kind: str, value: onnx.ValueInfoProto) -> Iterable[str]:
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
    yield f"{kind} {{"
    yield f"  name: {_quoted(value.name)}"
    yield f"  data_type: TYPE_{TYPES[tensor.elem_type]}"
    yield f"  dims: [ {', '.join(map(str, dims or [1]))} ]"
    if not dims:
        yield "  reshape { shape: [ ] }"
    yield "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
