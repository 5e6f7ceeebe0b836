# SPDX-License-Identifier: Apache-2.0
"""Makes broken models out of valid ones: case n is the same bytes in every run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from tests.fuzzing.mutate_graph import GRAPH_CHANGES, Rng

ZOO = Path(__file__).parents[1] / "zoo"
SEEDS = (
    "h_lstm_bidir_lens_op14",
    "h_gru_lbr1_op14",
    "h_rnn_affine_op11",
    "h_if_const_op13",
    "h_embedding_softmax_op13",
    "h_external_data_op17",
    "h_lstm_weights_as_constants_op17",
    "h_prelu_pad_conv_op14",
    "k_simplernn_tf2onnx15",
    "k_emb_lstm_export",
    "t_custom_cell_chunk_dynamo18",
    "t_lstm_addattn_legacy17",
    "t_lstmcell_loop_legacy17",
    "t_normalised_regression_dynamo18",
    "t_seq2seq_legacy17",
)

ByteChange = Callable[[bytearray, Rng], None]


def case(number: int) -> bytes:
    """A quarter of the cases are damaged bytes; the others are well-formed protobuf with changed content."""
    rng = np.random.default_rng([20240517, number])
    data = _seed(SEEDS[rng.integers(len(SEEDS))])
    if number % 4 == 3:
        return _with_changed_bytes(data, rng)
    return _with_changed_graph(data, rng)


@cache
def _seed(name: str) -> bytes:
    return onnx.load(ZOO / name / "model.onnx").SerializeToString()  # with its external data in it


def _with_changed_bytes(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.choice((1, 1, 1, 2, 8)))):
        BYTE_CHANGES[rng.integers(len(BYTE_CHANGES))](changed, rng)
    return bytes(changed)


def _with_changed_graph(data: bytes, rng: Rng) -> bytes:
    model = ModelProto.FromString(data)
    for _ in range(int(rng.choice((1, 1, 1, 2, 3)))):
        GRAPH_CHANGES[rng.integers(len(GRAPH_CHANGES))](model, rng)
    return model.SerializeToString()


# --- bytes -----------------------------------------------------------------------------------------------------------


def _place(data: bytearray, rng: Rng) -> int:
    """A random position; in half of the cases near the start, where names and structure are denser than weights."""
    return int(rng.integers(max(1, min(len(data), 2000 if rng.random() < 0.5 else len(data)))))


def _flip(data: bytearray, rng: Rng) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _overwrite(data: bytearray, rng: Rng) -> None:
    if data:
        data[_place(data, rng)] = int(rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.integers(256))))


def _insert(data: bytearray, rng: Rng) -> None:
    at = _place(data, rng)
    data[at:at] = rng.bytes(int(rng.integers(1, 20)))


def _remove(data: bytearray, rng: Rng) -> None:
    at = _place(data, rng)
    del data[at : at + int(rng.integers(1, 50))]


def _cut(data: bytearray, rng: Rng) -> None:
    del data[_place(data, rng) :]


def _repeat(data: bytearray, rng: Rng) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + int(rng.integers(1, 500))]


def _huge_length(data: bytearray, rng: Rng) -> None:
    """Writes a varint of a huge value."""
    at = _place(data, rng)
    data[at : at + 1] = b"\xff" * int(rng.integers(1, 10)) + b"\x7f"


def _splice(data: bytearray, rng: Rng) -> None:
    """Inserts a part of another model."""
    other = _seed(SEEDS[rng.integers(len(SEEDS))])
    start, at = int(rng.integers(len(other))), _place(data, rng)
    data[at : at + int(rng.integers(1, 400))] = other[start : start + int(rng.integers(1, 400))]


BYTE_CHANGES: tuple[ByteChange, ...] = (
    *(_flip, _flip, _flip, _flip, _overwrite, _overwrite, _overwrite),  # these can pass the parser
    *(_insert, _remove, _cut, _repeat, _huge_length, _splice),
)
