# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs built by hand from trained weights: few nodes, and names that mean something in an explanation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8  # the IR of opset 17, so that older runtimes read the file
# PyTorch stacks the gates as input, forget, cell, output; ONNX as input, output, forget, cell.
GATES = (0, 3, 1, 2)


def array(tensor: torch.Tensor) -> np.ndarray:
    """A torch tensor as float32 NumPy, detached from its graph."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def reorder_gates(weight: np.ndarray) -> np.ndarray:
    """Rows of one direction's weights or biases, from PyTorch's gate order to ONNX's."""
    blocks = np.split(weight, 4)
    return np.concatenate([blocks[gate] for gate in GATES])


def lstm_weights(lstm: torch.nn.LSTM) -> dict[str, np.ndarray]:
    """W, R and B of a one-layer LSTM as ONNX wants them: a leading axis of directions, biases side by side."""
    suffixes = ["", "_reverse"] if lstm.bidirectional else [""]

    def stack(kind: str) -> np.ndarray:
        return np.stack([reorder_gates(array(getattr(lstm, f"{kind}_l0{suffix}"))) for suffix in suffixes])

    biases = np.concatenate([stack("bias_ih"), stack("bias_hh")], axis=1)
    return {"lstm.W": stack("weight_ih"), "lstm.R": stack("weight_hh"), "lstm.B": biases}


def save(
    path: Path,
    name: str,
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> None:
    """Check the model strictly, types and shapes included, and write it."""
    initializers = [numpy_helper.from_array(value, key) for key, value in weights.items()]
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), initializers)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="lstm-explain")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def save_classifier(path: Path, embedding: torch.nn.Embedding, lstm: torch.nn.LSTM, linear: torch.nn.Linear) -> None:
    """Token ids -> embedding -> bidirectional LSTM -> both final states -> logits; ragged batches padded with 0.

    A row's length is that of its ids without the zeros at its end. Zeros further in are kept: they read the embedding
    0, which is all zero, so that replacing a token by 0 removes this token and nothing else.
    """
    one = np.array([1], dtype=np.int64)
    weights = {
        "embedding.weight": array(embedding.weight),
        **lstm_weights(lstm),
        "classifier.weight": array(linear.weight),
        "classifier.bias": array(linear.bias),
        "time_axis": one,
        "states_shape": np.array([0, 2 * lstm.hidden_size], dtype=np.int64),
    }
    node = helper.make_node
    nodes = [
        # Seen from the end, how many ids that are not padding are at t or later: positive up to the last one.
        node("Sign", ["tokens"], ["is_token"], "is_token"),
        node("CumSum", ["is_token", "time_axis"], ["tokens_left"], "tokens_left", reverse=1),
        node("Sign", ["tokens_left"], ["in_sentence"], "in_sentence"),
        node("ReduceSum", ["in_sentence", "time_axis"], ["length"], "length", keepdims=0),
        node("Cast", ["length"], ["lengths"], "lengths", to=TensorProto.INT32),
        node("Gather", ["embedding.weight", "tokens"], ["embedded"], "embedding", axis=0),
        node("Transpose", ["embedded"], ["embedded_by_time"], "time_first", perm=[1, 0, 2]),
        node(
            "LSTM",
            ["embedded_by_time", "lstm.W", "lstm.R", "lstm.B", "lengths"],
            ["", "final_states"],
            "lstm",
            hidden_size=lstm.hidden_size,
            direction="bidirectional",
        ),
        node("Transpose", ["final_states"], ["final_states_by_batch"], "batch_first", perm=[1, 0, 2]),
        node("Reshape", ["final_states_by_batch", "states_shape"], ["sentence"], "concatenate_directions"),
        node("Gemm", ["sentence", "classifier.weight", "classifier.bias"], ["logits"], "classifier", transB=1),
    ]
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "time"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", linear.out_features])
    save(path, "sentiment", nodes, weights, [tokens], [logits])


def save_regressor(
    path: Path,
    name: str,
    lstm: torch.nn.LSTM,
    linear: torch.nn.Linear,
    input_name: str,
    output_name: str,
    input_scale: np.ndarray | None = None,
    output_scale: float | None = None,
    **attributes: object,
) -> None:
    """A sequence -> LSTM -> final state -> one number.

    input_scale divides each feature and output_scale multiplies the result, so that callers use physical units.
    attributes: further ones of the LSTM operator.
    """
    weights = lstm_weights(lstm) | {"output.weight": array(linear.weight), "direction_axis": np.array([0])}
    output_inputs = ["final_state", "output.weight"]
    if linear.bias is not None:
        weights["output.bias"] = array(linear.bias)
        output_inputs.append("output.bias")
    node, nodes, sequence = helper.make_node, [], input_name
    if input_scale is not None:
        weights["input_scale"] = input_scale.astype(np.float32)
        nodes.append(node("Div", [input_name, "input_scale"], ["scaled_input"], "scale_input"))
        sequence = "scaled_input"
    result = output_name if output_scale is None else "scaled_output"
    nodes += [
        node("Transpose", [sequence], ["input_by_time"], "time_first", perm=[1, 0, 2]),
        node(
            "LSTM",
            ["input_by_time", "lstm.W", "lstm.R", "lstm.B"],
            ["", "final_states"],
            "lstm",
            hidden_size=lstm.hidden_size,
            **attributes,
        ),
        node("Squeeze", ["final_states", "direction_axis"], ["final_state"], "drop_direction"),
        node("Gemm", output_inputs, [result], "output", transB=1),
    ]
    if output_scale is not None:
        weights["output_scale"] = np.array(output_scale, dtype=np.float32)
        nodes.append(node("Mul", [result, "output_scale"], [output_name], "scale_output"))
    shape = ["batch", "time", lstm.input_size]
    value = helper.make_tensor_value_info
    inputs = [value(input_name, TensorProto.FLOAT, shape)]
    outputs = [value(output_name, TensorProto.FLOAT, ["batch", linear.out_features])]
    save(path, name, nodes, weights, inputs, outputs)
