# SPDX-License-Identifier: Apache-2.0
"""Trains the model of tests/client/test_frequencies.py: an LSTM that returns the amplitude of one of three tones."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from common import ROOT, make_deterministic

STEPS, PERIODS, OWN, NOISE = 64, (4, 9, 15), 1, 0.05


class Listener(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(1, 24, batch_first=True)
        self.head = torch.nn.Linear(24, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.lstm(x)
        return self.head(hidden.mean(1))


def draw(rng: np.random.Generator, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns signals [samples, STEPS, 1] and the amplitude of the model's tone, [samples]."""
    turns = np.arange(STEPS) / STEPS
    amplitudes, phases = rng.uniform(0, 1, (samples, 3)), rng.uniform(0, 2 * np.pi, (samples, 3))
    angles = 2 * np.pi * np.array(PERIODS)[:, None] * turns + phases[..., None]
    x = (amplitudes[..., None] * np.cos(angles)).sum(axis=1) + NOISE * rng.standard_normal((samples, STEPS))
    return torch.tensor(x[..., None], dtype=torch.float32), torch.tensor(amplitudes[:, OWN], dtype=torch.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "client" / "models" / "tone.onnx")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, default=2000)
    arguments = parser.parse_args()
    make_deterministic(arguments.seed)
    rng, model = np.random.default_rng(arguments.seed), Listener()
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(arguments.batches):
        x, amplitude = draw(rng, 256)
        loss = ((model(x)[:, 0] - amplitude) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(f"mean squared error of the last batch: {loss.item():.5f}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model.eval(),
        (torch.zeros(2, STEPS, 1),),
        str(arguments.out),
        input_names=["x"],
        output_names=["amplitude"],
        dynamic_axes={"x": {0: "batch", 1: "time"}, "amplitude": {0: "batch"}},
        dynamo=False,
    )


if __name__ == "__main__":
    main()
