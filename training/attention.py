# SPDX-License-Identifier: Apache-2.0
"""Train small recurrent networks with attention on two tasks, for the comparison of product rules. Requires torch.

    python training/attention.py [NAME…]

writes scripts/results/attention/NAME.onnx, exported by torch, and prints R² on new sequences.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "results"))
from lookups import KEYS, STEPS, sequences  # noqa: E402

FOLDER = ROOT / "scripts" / "results" / "attention"
WIDTH, HEADS, STATES = 24, 2, 4
BATCH, UPDATES, TEST = 64, 3000, 500


class Additive(nn.Module):
    """An LSTM and additive attention (Bahdanau et al. 2015): the last state asks, all states answer."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, WIDTH, batch_first=True)
        self.state, self.last, self.score = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        self.hidden, self.out = nn.Linear(2 * WIDTH, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.lstm(x)[0]
        weights = torch.softmax(self.score(torch.tanh(self.state(h) + self.last(h[:, -1:]))), dim=1)
        context = (weights * h).sum(dim=1)
        return self.out(torch.tanh(self.hidden(torch.cat([context, h[:, -1]], dim=1))))


class SelfAttention(nn.Module):
    """Causal, with several heads."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.mask: torch.Tensor
        self.register_buffer("mask", torch.triu(torch.full((STEPS, STEPS), -1e9), 1))

    def heads(self, h: torch.Tensor) -> torch.Tensor:
        return h.reshape(-1, STEPS, HEADS, WIDTH // HEADS).transpose(1, 2)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        q, k, v = (self.heads(f(h)) for f in (self.query, self.key, self.value))
        scores = q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS) + self.mask
        return self.out((torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(-1, STEPS, WIDTH))


class Fusion(nn.Module):
    """As a temporal fusion transformer (Lim et al. 2021): an LSTM, self-attention, and gated residual connections with
    layer normalisation.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.lstm, self.embed = nn.LSTM(features, WIDTH, batch_first=True), nn.Linear(features, WIDTH)
        self.attention = SelfAttention()
        self.gates = nn.ModuleList(nn.Linear(WIDTH, 2 * WIDTH) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.out = nn.Linear(WIDTH, 1)

    def add(self, number: int, x: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        signal, gate = self.gates[number](new).chunk(2, dim=-1)
        return self.norms[number](x + signal * torch.sigmoid(gate))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.add(0, self.embed(x), self.lstm(x)[0])
        return self.out(self.add(1, h, self.attention(h))[:, -1])


class Scan(nn.Module):
    """A selective scan (Gu and Dao 2023): step size, B and C depend on the input; a SiLU gates what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.step, self.both = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * STATES)
        self.decay = nn.Parameter(torch.log(torch.arange(1.0, STATES + 1)).repeat(WIDTH, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, gate = self.inner(x).chunk(2, dim=-1)
        size, (b, c) = nn.functional.softplus(self.step(u)), self.both(u).chunk(2, dim=-1)
        kept = torch.exp(-size.unsqueeze(-1) * torch.exp(self.decay))
        written = (size * u).unsqueeze(-1) * b.unsqueeze(2)
        state, read = torch.zeros_like(written[:, 0]), []
        for t in range(STEPS):
            state = kept[:, t] * state + written[:, t]
            read.append((state * c[:, t].unsqueeze(1)).sum(-1))
        return self.out(torch.stack(read, dim=1) * nn.functional.silu(gate))


class Hybrid(nn.Module):
    """As Jamba (Lieber et al. 2024): a layer with a selective scan, one with self-attention, each with a residual
    connection and a normalisation before it.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.embed, self.scan, self.attention = nn.Linear(features, WIDTH), Scan(), SelfAttention()
        self.scales, self.out = nn.Parameter(torch.ones(3, WIDTH)), nn.Linear(WIDTH, 1)

    def normalised(self, number: int, x: torch.Tensor) -> torch.Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * self.scales[number]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        h = h + self.scan(self.normalised(0, h))
        h = h + self.attention(self.normalised(1, h))
        return self.out(self.normalised(2, h)[:, -1])


KINDS: dict[str, type[nn.Module]] = {"additive": Additive, "fusion": Fusion, "hybrid": Hybrid}
NETWORKS = {f"{kind}_{task}": (kind, task) for task in KEYS for kind in KINDS}


def train(name: str) -> None:
    kind, task = NETWORKS[name]
    rng = np.random.default_rng(98)
    torch.manual_seed(1)
    net = KINDS[kind](KEYS[task] + 2)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    falls = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, UPDATES)
    for update in range(UPDATES):
        x, y, _ = sequences(task, BATCH, rng)
        loss = ((net(torch.tensor(x))[:, 0] - torch.tensor(y)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        falls.step()
        if update % 500 == 0:
            print(name, update, float(loss), flush=True)
    net.eval()
    x, y, _ = sequences(task, TEST, np.random.default_rng(5))
    given = net(torch.tensor(x)).detach().numpy()[:, 0]
    print(f"{name}: R² on new sequences {1 - ((given - y) ** 2).mean() / y.var():.4f}", flush=True)
    FOLDER.mkdir(exist_ok=True)
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    shown = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes, "opset_version": 17}
    torch.onnx.export(net, (torch.tensor(x[:2]),), str(FOLDER / f"{name}.onnx"), **shown)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", choices=[[], *NETWORKS], default=[])
    torch.set_num_threads(1)
    for name in options.parse_args().names or NETWORKS:
        train(name)


if __name__ == "__main__":
    main()
