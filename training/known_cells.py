# SPDX-License-Identifier: Apache-2.0
"""Train the networks of the study on stabilisers whose relevant steps are known. Requires torch.

    python training/known_cells.py [NAME…]

writes scripts/stabilisers/networks/NAME.npz: torch's parameters by name, and the accuracy (or R²) on 300 new sequences.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "scripts" / "stabilisers"
sys.path.insert(0, str(ROOT))
from scripts.stabilisers.tasks import Task, events, motifs  # noqa: E402

BATCH, SHORTEST, TEST = 48, 40, 300


@dataclass(frozen=True)
class Recipe:
    task: Task
    cell: str
    units: int
    outputs: int
    steps: int
    updates: int
    layers: int = 1
    both: bool = False
    dropout: float = 0.0
    smoothing: float = 0.0


RECIPES = {
    "gru_events": Recipe(events, "GRU", 32, 1, 240, 1500),
    "lstm_events": Recipe(events, "LSTM", 32, 1, 240, 1500),
    "stacked_motifs": Recipe(motifs, "LSTM", 24, 2, 150, 1200, layers=2, both=True),
    "smooth_motifs": Recipe(motifs, "LSTM", 32, 2, 400, 2500, dropout=0.3, smoothing=0.1),
}


class Net(nn.Module):
    """Final states of recurrent layers, and a linear readout."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.r = getattr(nn, recipe.cell)(3, recipe.units, recipe.layers, batch_first=True, bidirectional=recipe.both)
        self.o = nn.Linear(recipe.units * (2 if recipe.both else 1), recipe.outputs)
        self.dropout, self.recipe = nn.Dropout(recipe.dropout), recipe
        if recipe.cell == "LSTM":  # remember by default
            for name, parameter in self.r.named_parameters():
                if "bias_hh" in name:
                    parameter.data[recipe.units : 2 * recipe.units] = 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, H = self.r(x)[0], self.recipe.units
        last = torch.cat([y[:, -1, :H], y[:, 0, H:]], 1)
        return self.o(self.dropout(last))


def train(name: str, recipe: Recipe) -> None:
    rng = np.random.default_rng(98)
    torch.manual_seed(1)
    net = Net(recipe)
    classify = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for update in range(recipe.updates):
        grown = min(1.0, update / (0.6 * recipe.updates))  # sequences grow, then the learning rate falls
        x, y, _ = recipe.task(BATCH, rng, int(SHORTEST + (recipe.steps - SHORTEST) * grown))
        net.train()
        given = net(torch.tensor(x))
        loss = (
            ((given[:, 0] - torch.tensor(y)) ** 2).mean() if recipe.outputs == 1 else classify(given, torch.tensor(y))
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 if grown < 1 else 6e-4
        optimiser.step()
        if update % 200 == 0:
            print(name, update, len(x[0]), float(loss), flush=True)
    net.eval()
    x, y, _ = recipe.task(TEST, np.random.default_rng(5), recipe.steps)
    given = net(torch.tensor(x)).detach().numpy()
    score = 1 - ((given[:, 0] - y) ** 2).mean() / y.var() if recipe.outputs == 1 else (given.argmax(1) == y).mean()
    print(name, "on new sequences:", score)
    (STUDY / "networks").mkdir(exist_ok=True)
    parameters = {key: value.numpy().astype(np.float32) for key, value in net.state_dict().items()}
    np.savez_compressed(STUDY / "networks" / f"{name}.npz", score=score, **parameters)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", choices=[[], *RECIPES], default=[])
    torch.set_num_threads(1)
    for name in options.parse_args().names or RECIPES:
        train(name, RECIPES[name])


if __name__ == "__main__":
    main()
