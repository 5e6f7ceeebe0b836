# SPDX-License-Identifier: Apache-2.0
"""The rest of the cells of the second zoo: LSTMs whose weights or inputs are conditioned, and attention around them."""

import math

import torch
from second_zoo_cells import HIDDEN, WIDTH, Cell, X, normal
from torch import Tensor, nn
from torch.nn import functional as F


class EALSTM(Cell):
    """kratzert/ealstm_regional_modeling: static inputs open the input gate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_ih = normal(WIDTH, 3 * HIDDEN, fan_in=WIDTH)
        self.weight_hh = nn.Parameter(torch.eye(HIDDEN).repeat(1, 3) * 0.5 + 0.1 * torch.randn(HIDDEN, 3 * HIDDEN))
        self.weight_sh = normal(3, HIDDEN, fan_in=3)
        self.bias = nn.Parameter(torch.cat([torch.full((HIDDEN,), 2.0), torch.zeros(2 * HIDDEN)]))
        self.bias_s = nn.Parameter(torch.zeros(HIDDEN))

    def forward(self, x_d: Tensor, x_s: Tensor) -> Tensor:
        h, c, read = x_d.new_zeros(x_d.shape[0], HIDDEN), x_d.new_zeros(x_d.shape[0], HIDDEN), []
        i = torch.sigmoid(torch.addmm(self.bias_s.unsqueeze(0).expand(x_d.shape[0], -1), x_s, self.weight_sh))
        for t in range(x_d.shape[1]):
            bias = self.bias.unsqueeze(0).expand(x_d.shape[0], -1)
            gates = torch.addmm(bias, h, self.weight_hh) + torch.mm(x_d[:, t], self.weight_ih)
            f, o, new = gates.chunk(3, 1)
            c = torch.sigmoid(f) * c + i * torch.tanh(new)
            h = torch.sigmoid(o) * torch.tanh(c)
            read.append(h)
        return torch.stack(read, dim=1)


class Mogrifier(Cell):
    """fawazsammani/mogrifier-lstm-pytorch: input and state scale each other in turns (arXiv 1909.01792)."""

    maps = {"gates": (WIDTH + HIDDEN, 4 * HIDDEN), "q": (HIDDEN, WIDTH), "r": X}
    states = 2

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        h, c = states
        for turn in range(1, 5):
            if turn % 2:
                x = (2 * torch.sigmoid(self.of["q"](h))) * x
            else:
                h = (2 * torch.sigmoid(self.of["r"](x))) * h
        i, f, new, o = self.of["gates"](torch.cat([x, h], dim=1)).chunk(4, 1)
        c = torch.sigmoid(f + 1.0) * c + torch.sigmoid(i) * torch.tanh(new)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, h, c


class MILSTM(Cell):
    """Wu et al. 2016 (arXiv 1606.06630): pre-activations with alpha * Wx * Uh."""

    states = 2

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(WIDTH, 4 * HIDDEN, bias=False), nn.Linear(HIDDEN, 4 * HIDDEN, bias=False)
        self.alpha, self.beta1, self.beta2 = (nn.Parameter(v * torch.ones(4 * HIDDEN)) for v in (1.0, 0.5, 0.5))
        self.bias = nn.Parameter(torch.zeros(4 * HIDDEN))

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        h, c = states
        wx, uh = self.w(x), self.u(h)
        i, f, new, o = (self.alpha * wx * uh + self.beta1 * uh + self.beta2 * wx + self.bias).chunk(4, dim=-1)
        c = torch.sigmoid(f + 1.0) * c + torch.sigmoid(i) * torch.tanh(new)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, h, c


class HyperLSTM(Cell):
    """labmlai/annotated_deep_learning_paper_implementations, HyperLSTMCell: a small LSTM scales the pre-activations of
    the large one (arXiv 1609.09106).
    """

    inner, features = 4, 3

    def __init__(self) -> None:
        super().__init__()
        self.hyper = nn.LSTMCell(HIDDEN + WIDTH, self.inner)
        self.z_h, self.z_x = nn.Linear(self.inner, 4 * self.features), nn.Linear(self.inner, 4 * self.features)
        self.z_b = nn.Linear(self.inner, 4 * self.features, bias=False)
        self.d_h, self.d_x, self.d_b = (
            nn.ModuleList(nn.Linear(self.features, HIDDEN, bias=b) for _ in range(4)) for b in (False, False, True)
        )
        self.w_h = nn.ParameterList(normal(HIDDEN, HIDDEN, fan_in=HIDDEN) for _ in range(4))
        self.w_x = nn.ParameterList(normal(HIDDEN, WIDTH, fan_in=WIDTH) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(HIDDEN) for _ in range(4))
        self.norm_c = nn.LayerNorm(HIDDEN)

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.new_zeros(x.shape[0], n) for n in (HIDDEN, HIDDEN, self.inner, self.inner))

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        h, c, h_hat, c_hat = states
        h_hat, c_hat = self.hyper(torch.cat((h, x), dim=-1), (h_hat, c_hat))
        z_h, z_x, z_b = (z(h_hat).chunk(4, dim=-1) for z in (self.z_h, self.z_x, self.z_b))
        pre = []
        for i in range(4):
            scaled = self.d_h[i](z_h[i]) * (h @ self.w_h[i].T) + self.d_x[i](z_x[i]) * (x @ self.w_x[i].T)
            pre.append(self.norms[i](scaled + self.d_b[i](z_b[i])))
        i, f, new, o = pre
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(new)
        h = torch.sigmoid(o) * torch.tanh(self.norm_c(c))
        return h, h, c, h_hat, c_hat


class AttentionAroundLSTM(Cell):
    """A residual block of nn.MultiheadAttention with a layer norm over the states of an nn.LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, HIDDEN, batch_first=True)
        self.attention = nn.MultiheadAttention(HIDDEN, 2, batch_first=True)
        self.norm = nn.LayerNorm(HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(x)
        found, _ = self.attention(h, h, h)
        return self.norm(h + found)


class RelativeAttentionAroundGRU(Cell):
    """Attention with relative positions of Shaw et al. 2018 (arXiv 1803.02155) over the states of an nn.GRU."""

    maps = dict.fromkeys(("q", "k", "v", "out"), (HIDDEN, HIDDEN))
    reach = 4

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(WIDTH, HIDDEN, batch_first=True)
        self.keys = nn.Embedding(2 * self.reach + 1, HIDDEN)
        self.values = nn.Embedding(2 * self.reach + 1, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.gru(x)
        q, k, v = (self.of[name](h) for name in "qkv")
        index = torch.arange(x.shape[1])
        distance = (index[None, :] - index[:, None]).clamp(-self.reach, self.reach) + self.reach
        scores = q @ k.transpose(1, 2) + torch.einsum("bqd,qkd->bqk", q, self.keys(distance))
        weights = torch.softmax(scores / math.sqrt(HIDDEN), dim=-1)
        return h + self.of["out"](weights @ v + torch.einsum("bqk,qkd->bqd", weights, self.values(distance)))


class RotaryAttentionAroundSRNN(Cell):
    """Causal attention with rotary positions (arXiv 2104.09864), then an nn.RNN."""

    maps = {"enter": X} | dict.fromkeys(("q", "k", "v", "out"), (HIDDEN, HIDDEN))

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(HIDDEN, HIDDEN, batch_first=True)

    @staticmethod
    def rotate(x: Tensor) -> Tensor:
        half = HIDDEN // 2
        frequencies = 1.0 / (100 ** (torch.arange(half, dtype=x.dtype) / half))
        angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * frequencies
        cos, sin = (torch.cat([f(angle), f(angle)], dim=-1) for f in (torch.cos, torch.sin))
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin

    def forward(self, x: Tensor) -> Tensor:
        x = self.of["enter"](x)
        q, k, v = self.rotate(self.of["q"](x)), self.rotate(self.of["k"](x)), self.of["v"](x)
        h, _ = self.rnn(x + self.of["out"](F.scaled_dot_product_attention(q, k, v, is_causal=True)))
        return h
