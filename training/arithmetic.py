# SPDX-License-Identifier: Apache-2.0
"""Train the papers' toy task, adding or subtracting two marked numbers of a sequence, with an LSTM of one cell."""

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from common import check_close, make_deterministic, model_path, parser
from export import save_regressor
from torch import nn

SIGNS = {"addition": 1.0, "subtraction": -1.0}
LENGTHS = range(4, 11)
SOLVED = 1e-4  # the mean squared error below which the task counts as learned
TRAINING, VALIDATION = 5000, 2500


class Calculator(nn.Module):
    """One LSTM cell and one weight. Without an output bias all of the result comes from the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 1, batch_first=True)
        self.linear = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            # Gates open, output weight large: tanh(c) is c only while c is small, and 8 is the largest sum.
            self.lstm.bias_ih_l0[:2].fill_(2.0)
            self.lstm.bias_ih_l0[3:].fill_(2.0)
            self.linear.weight.fill_(30.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Results [batch, 1] of sequences [batch, time, 3]."""
        _, (final, _) = self.lstm(x)
        return self.linear(final[0])


def numbers(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in [-4, -0.5] and [0.5, 4]."""
    return generator.uniform(0.5, 4.0, shape) * generator.choice([-1.0, 1.0], shape)


def sequences(generator: np.random.Generator, count: int, length: int, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """x_t = (n, 0, 0), but (0, n_a, 0) and (0, 0, n_b) at two random positions a < b; and n_a + n_b or n_a - n_b."""
    values = numbers(generator, (count, length))
    marked = np.sort(generator.permuted(np.tile(np.arange(length), (count, 1)), axis=1)[:, :2], axis=1)
    channel = np.zeros((count, length), dtype=int)
    rows = np.arange(count)
    channel[rows, marked[:, 0]], channel[rows, marked[:, 1]] = 1, 2
    x = values[:, :, None] * np.eye(3)[channel]
    y = values[rows, marked[:, 0]] + sign * values[rows, marked[:, 1]]
    return x.astype(np.float32), y[:, None].astype(np.float32)


def data_set(generator: np.random.Generator, count: int, sign: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """`count` sequences, one batch for each length."""
    lengths = generator.choice(LENGTHS, count)
    made = [sequences(generator, int((lengths == length).sum()), length, sign) for length in LENGTHS]
    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in made]


def error(model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Mean squared error over batches of different lengths."""
    total = sum(((model(x) - y) ** 2).sum() for x, y in batches)
    return total / sum(len(y) for _, y in batches)


def train(model: Calculator, batches: list[tuple[torch.Tensor, torch.Tensor]], options: argparse.Namespace) -> None:
    """Adam finds the solution; L-BFGS on all data, in float64, makes it exact.

    The penalty keeps the cell away from zero: the smaller its state, the more exact the sum, because tanh is straight
    there, but the more the output weight magnifies rounding and the more of the relevance a stabiliser takes.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    for step in range(options.steps):
        x, y = batches[step % len(batches)]
        chosen = torch.randint(len(y), (256,))
        optimiser.zero_grad()
        ((model(x[chosen]) - y[chosen]) ** 2).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    model.double()
    exact = [(x.double(), y.double()) for x, y in batches]
    second = torch.optim.LBFGS(
        model.parameters(), max_iter=options.polish, history_size=50, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        second.zero_grad()
        loss = error(model, exact) + options.penalty * (model.linear.weight**2).sum()
        loss.backward()
        return loss

    second.step(closure)
    model.float()


def train_seed(task: str, seed: int, options: argparse.Namespace) -> float:
    """Train one seed, export it to `<out>/<task>/seeds/<seed>.onnx`, and return its validation error."""
    make_deterministic(seed)
    generator = np.random.default_rng(seed)
    training, validation = (data_set(generator, count, SIGNS[task]) for count in (TRAINING, VALIDATION))
    model = Calculator()
    start = time.monotonic()
    train(model, training, options)
    with torch.no_grad():
        loss = error(model, validation).item()
    print(f"{task}, seed {seed}: validation error {loss:.2e}, {time.monotonic() - start:.0f} s", flush=True)
    path = seed_path(options.out, task, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_regressor(path, task, model.lstm, model.linear, "x", "y")
    verify(path, model, validation)
    return loss


def seed_path(out: Path, task: str, seed: int) -> Path:
    """Where the model of one seed is kept; not a version, so that the model repository does not serve it."""
    return out / task / "seeds" / f"{seed}.onnx"


def verify(path: Path, model: Calculator, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """The exported model against torch, every sequence length of the task."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    exported = np.concatenate([session.run(None, {"x": x.numpy()})[0] for x, _ in batches])
    with torch.no_grad():
        trained = np.concatenate([model(x).numpy() for x, _ in batches])
    check_close(path.name, exported, trained, 1e-5)


def main() -> None:
    options = parser(__doc__, seed=0)
    options.add_argument("--task", choices=SIGNS, action="append", help="default: both")
    options.add_argument("--seeds", type=int, default=3, help="how many, from --seed on; the best becomes version 1")
    options.add_argument("--keep", action="store_true", help="keep the models of all seeds that solve the task")
    options.add_argument("--steps", type=int, default=6000, help="of Adam")
    options.add_argument("--polish", type=int, default=1500, help="iterations of L-BFGS")
    options.add_argument("--penalty", type=float, default=2e-9, help="on the square of the output weight")
    chosen = options.parse_args()
    for task in chosen.task or SIGNS:
        losses = {seed: train_seed(task, seed, chosen) for seed in range(chosen.seed, chosen.seed + chosen.seeds)}
        best = min(losses, key=losses.__getitem__)
        solved = [seed for seed, loss in losses.items() if loss < SOLVED]
        print(f"{task}: {len(solved)} of {len(losses)} seeds below {SOLVED:.0e}; best seed {best}, {losses[best]:.2e}")
        if best not in solved:
            raise SystemExit(f"{task}: no seed solved the task")
        shutil.copyfile(seed_path(chosen.out, task, best), model_path(chosen.out, task))
        for seed in losses:
            if not chosen.keep or seed not in solved:
                seed_path(chosen.out, task, seed).unlink()
        if not chosen.keep:
            seed_path(chosen.out, task, best).parent.rmdir()


if __name__ == "__main__":
    main()
