# SPDX-License-Identifier: Apache-2.0
"""Train a Mamba on the same sentences as the bundled LSTM, export it and measure what was exported."""

import math
from pathlib import Path

import numpy as np
import torch
from common import data_parser
from export import array, save
from onnx import TensorProto, helper
from sentiment import CLASSES, PAD, add_options, train_and_export
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL = 4  # steps that the convolution sees
RANK = 4  # of the map to the step sizes


class Classifier(nn.Module):
    """Word embedding, one Mamba block (Gu and Dao 2023, arXiv 2312.00752) with a residual connection but no norm, the
    mean over the words, and a linear layer.
    """

    def __init__(self, words: int, size: int, inner: int, keys: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, size, padding_idx=PAD)
        self.enter = nn.Linear(size, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, KERNEL, groups=inner, padding=KERNEL - 1)
        self.select = nn.Linear(inner, RANK + 2 * keys, bias=False)
        self.step = nn.Linear(RANK, inner)
        self.log_rates = nn.Parameter(torch.log(torch.arange(1, keys + 1).float().repeat(inner, 1)))
        self.skip = nn.Parameter(torch.ones(inner))
        self.leave = nn.Linear(inner, size, bias=False)
        self.linear = nn.Linear(size, CLASSES)
        self.dropout, self.keys = nn.Dropout(dropout), keys
        # Softplus of the bias is a step size between 0.001 and 0.1, as Mamba starts.
        start = torch.exp(torch.rand(inner) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        self.step.bias.data = start + torch.log(-torch.expm1(-start))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, 5] of padded token ids [batch, time]."""
        inside = (tokens != PAD).flip(1).cumsum(1).flip(1).sign()
        x = self.dropout(self.embedding(tokens))
        y = x + self.mix(x)
        length = inside.sum(dim=1, keepdim=True).clamp(min=1)  # no words at all: the mean is 0
        mean = (y * inside.unsqueeze(-1)).sum(dim=1) / length
        return self.linear(self.dropout(mean))

    def mix(self, x: Tensor) -> Tensor:
        u, z = self.enter(x).chunk(2, dim=-1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        rank, write, read = self.select(u).split([RANK, self.keys, self.keys], dim=-1)
        step = F.softplus(self.step(rank)).unsqueeze(-1)
        decay = torch.exp(step * -torch.exp(self.log_rates))
        fresh = step * write.unsqueeze(2) * u.unsqueeze(-1)
        h, states = torch.zeros_like(fresh[:, 0]), []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + fresh[:, t]
            states.append(h)
        y = (torch.stack(states, dim=1) @ read.unsqueeze(-1)).squeeze(-1)
        return self.leave((y + u * self.skip) * F.silu(z))


def save_mamba(path: Path, model: Classifier) -> None:
    """Write the network with the recurrence as one Scan over time; rows are padded with 0 at the end."""
    inner, keys = len(model.skip), model.keys
    numbers = {"axis_1": [1], "axis_2": [2], "axis_3": [3], "keys": [keys], "inner": [inner]}
    numbers |= {"two_inner": [inner, inner], "three": [RANK, keys, keys]}
    weights = {
        "embedding.weight": array(model.embedding.weight),
        "enter.weight": array(model.enter.weight.T),
        "conv.weight": array(model.conv.weight),
        "conv.bias": array(model.conv.bias),
        "select.weight": array(model.select.weight.T),
        "step.weight": array(model.step.weight.T),
        "step.bias": array(model.step.bias),
        "rates": array(-torch.exp(model.log_rates)),
        "skip.weight": array(model.skip),
        "leave.weight": array(model.leave.weight.T),
        "classifier.weight": array(model.linear.weight),
        "classifier.bias": array(model.linear.bias),
        "one": np.ones((1, 1), dtype=np.float32),
        **{name: np.array(values, dtype=np.int64) for name, values in numbers.items()},
    }

    def node(op: str, inputs: str, outputs: str, name: str = "", **attributes: object) -> object:
        return helper.make_node(op, inputs.split(), outputs.split(), name or outputs.split()[0], **attributes)

    value = helper.make_tensor_value_info
    state, row = ["batch", inner, keys], ["batch", keys]
    body = helper.make_graph(
        [
            node("Mul", "decay_t h_before", "h_kept"),
            node("Add", "h_kept fresh_t", "h"),
            node("Unsqueeze", "read_t axis_2", "read_column"),
            node("MatMul", "h read_column", "y_column"),
            node("Squeeze", "y_column axis_2", "y_t"),
        ],
        "step",
        [value(name, TensorProto.FLOAT, state) for name in ("h_before", "decay_t", "fresh_t")]
        + [value("read_t", TensorProto.FLOAT, row)],
        [value("h", TensorProto.FLOAT, state), value("y_t", TensorProto.FLOAT, ["batch", inner])],
    )
    nodes = [
        # Seen from the end, how many ids that are not padding are at t or later: positive up to the last one.
        node("Sign", "tokens", "is_token"),
        node("CumSum", "is_token axis_1", "tokens_left", reverse=1),
        node("Sign", "tokens_left", "in_sentence"),
        node("Cast", "in_sentence", "mask", to=TensorProto.FLOAT),
        node("Gather", "embedding.weight tokens", "embedded", "embedding", axis=0),
        node("MatMul", "embedded enter.weight", "entered"),
        node("Split", "entered two_inner", "u_before z", "split_branches", axis=2),
        node("Transpose", "u_before", "u_by_channel", perm=[0, 2, 1]),
        node("Conv", "u_by_channel conv.weight conv.bias", "convolved", group=inner, pads=[KERNEL - 1, 0]),
        node("Transpose", "convolved", "convolved_by_time", perm=[0, 2, 1]),
        node("Sigmoid", "convolved_by_time", "u_gate"),
        node("Mul", "convolved_by_time u_gate", "u"),
        node("MatMul", "u select.weight", "selected"),
        node("Split", "selected three", "rank write read", "split_selected", axis=2),
        node("MatMul", "rank step.weight", "step_product"),
        node("Add", "step_product step.bias", "step_sum"),
        node("Softplus", "step_sum", "step"),
        node("Unsqueeze", "step axis_3", "step_column"),
        node("Mul", "step_column rates", "log_decay"),
        node("Exp", "log_decay", "decay"),
        node("Unsqueeze", "write axis_2", "write_row"),
        node("Mul", "step_column write_row", "input_weights"),
        node("Unsqueeze", "u axis_3", "u_column"),
        node("Mul", "input_weights u_column", "fresh"),
        node("Shape", "tokens", "batch_size", start=0, end=1),
        node("Concat", "batch_size inner keys", "state_shape", axis=0),
        node("ConstantOfShape", "state_shape", "h_start"),
        helper.make_node(
            "Scan", ["h_start", "decay", "fresh", "read"], ["h_end", "states_read"], "mamba",
            body=body, num_scan_inputs=3, scan_input_axes=[1, 1, 1], scan_output_axes=[1],
        ),
        node("Mul", "u skip.weight", "skipped"),
        node("Add", "states_read skipped", "y"),
        node("Sigmoid", "z", "z_gate"),
        node("Mul", "z z_gate", "gate"),
        node("Mul", "y gate", "gated"),
        node("MatMul", "gated leave.weight", "mixed"),
        node("Add", "embedded mixed", "residual"),
        node("Unsqueeze", "mask axis_2", "mask_column"),
        node("Mul", "residual mask_column", "masked"),
        node("ReduceSum", "masked axis_1", "total", keepdims=0),
        node("ReduceSum", "mask axis_1", "words", keepdims=1),
        node("Max", "words one", "length"),
        node("Div", "total length", "sentence", "mean"),
        node("Gemm", "sentence classifier.weight classifier.bias", "logits", "classifier", transB=1),
    ]  # fmt: skip
    tokens = value("tokens", TensorProto.INT64, ["batch", "time"])
    save(path, "sentiment_mamba", nodes, weights, [tokens], [value("logits", TensorProto.FLOAT, ["batch", CLASSES])])


def main() -> None:
    options = add_options(data_parser(__doc__, seed=1), epochs=12, embedding_size=36, hidden_size=64)
    options.add_argument("--keys", type=int, default=8, help="states of each unit")
    chosen = options.parse_args()

    def build(words: int) -> Classifier:
        return Classifier(words, chosen.embedding_size, chosen.hidden_size, chosen.keys, chosen.dropout)

    train_and_export("sentiment-mamba", chosen, build, save_mamba)


if __name__ == "__main__":
    main()
