# SPDX-License-Identifier: Apache-2.0
"""Train the bundled river model, a day's discharge from a year of daily weather, on four basins of CAMELS."""

import argparse
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from common import check_close, data_parser, make_deterministic, model_path
from export import save_regressor
from torch import nn

WEATHER = ("prcp(mm/day)", "srad(W/m2)", "tmax(C)", "tmin(C)", "vp(Pa)")
WINDOW = 365  # days of weather that the model is meant to see, the last one the day of the discharge
WARM_UP = 180  # days before the model has to be right in training; it starts from an empty state
HELD_OUT = (date(2002, 1, 1), date(2002, 12, 31))
CUBIC_METRES_PER_CUBIC_FOOT = 0.3048**3
SECONDS_PER_DAY = 86400

Scales = tuple[np.ndarray, float]  # what inputs are divided by, a number each, and what the output is multiplied by
Span = tuple[date, date]  # first and last day


@dataclass(frozen=True)
class River:
    """Weather [days, 5] and discharge [days] in mm/day of one basin, the same days."""

    name: str
    first: date
    weather: np.ndarray
    discharge: np.ndarray

    def day(self, day: date) -> int:
        """Row of a day."""
        return (day - self.first).days


class Basin(nn.Module):
    """One LSTM layer and a linear layer on its state, inputs and output in units of their own spread."""

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(len(WEATHER), hidden_size, batch_first=True)
        self.linear = nn.Linear(hidden_size, 1)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            # Remember by default: snow and groundwater last for months.
            self.lstm.bias_ih_l0[hidden_size : 2 * hidden_size].fill_(3.0)

    def forward(self, weather: torch.Tensor) -> torch.Tensor:
        """Discharge of every day [batch, time]."""
        states, _ = self.lstm(weather)
        return self.linear(self.dropout(states)).squeeze(2)


def read_weather(path: Path) -> tuple[float, dict[date, list[float]]]:
    """Area in m² and the weather of every day."""
    lines = path.read_text().splitlines()
    columns = lines[3].split()
    wanted = [columns.index(name) for name in WEATHER]
    rows = [line.split() for line in lines[4:] if line.strip()]
    days = {date(*(int(part) for part in row[:3])): [float(row[column]) for column in wanted] for row in rows}
    return float(lines[2]), days


def read_river(folder: Path, name: str) -> River:
    """The days that have both weather and discharge; the files cover different ones."""
    area, weather = read_weather(folder / f"{name}_forcing_daymet.txt")
    cubic_feet = {}
    for line in (folder / f"{name}_streamflow.txt").read_text().splitlines():
        _, year, month, day, flow, _ = line.split()
        cubic_feet[date(int(year), int(month), int(day))] = float(flow)
    days = sorted(weather.keys() & cubic_feet.keys())
    if days[-1] - days[0] != timedelta(days=len(days) - 1):
        raise SystemExit(f"{name}: days are missing")
    metres = np.array([cubic_feet[day] for day in days]) * CUBIC_METRES_PER_CUBIC_FOOT * SECONDS_PER_DAY / area
    inputs = np.array([weather[day] for day in days], dtype=np.float32)
    return River(name, days[0], inputs, (1000 * metres).astype(np.float32))


def crops(
    rivers: list[River], days: int, count: int, generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random stretches of the first `days` days: weather, discharge, and the spread of each river's discharge."""
    length = min(WARM_UP + WINDOW, days)
    weather, discharge, spread = [], [], []
    for _ in range(count):
        river = rivers[generator.integers(len(rivers))]
        start = generator.integers(days - length + 1)
        weather.append(river.weather[start : start + length])
        discharge.append(river.discharge[start : start + length])
        spread.append(river.discharge[:days].std())
    return torch.from_numpy(np.array(weather)), torch.from_numpy(np.array(discharge)), torch.tensor(np.array(spread))


def train(model: Basin, rivers: list[River], days: int, scales: Scales, options: argparse.Namespace) -> None:
    """Adam on the squared error relative to each river's variance: the efficiency, so that every river counts."""
    generator = np.random.default_rng(options.seed)
    input_scale, output_scale = torch.from_numpy(scales[0]), scales[1]
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    model.train()
    for step in range(1, options.steps + 1):
        weather, discharge, spread = crops(rivers, days, 16, generator)
        noisy = weather / input_scale + options.noise * torch.randn_like(weather)
        optimiser.zero_grad()
        errors = (model(noisy) * output_scale - discharge)[:, WARM_UP:] / (spread[:, None] + 0.1)
        loss = (errors**2).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def windows(river: River, first: date, last: date) -> tuple[np.ndarray, np.ndarray]:
    """For every day from first to last: the year of weather that ends with it, and its discharge."""
    targets = range(river.day(first), river.day(last) + 1)
    return np.stack([river.weather[t + 1 - WINDOW : t + 1] for t in targets]), river.discharge[list(targets)]


def efficiency(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Nash and Sutcliffe's: 1 is perfect, 0 no better than always saying the mean of what was observed."""
    return 1 - float(((predicted - observed) ** 2).sum() / ((observed - observed.mean()) ** 2).sum())


def evaluate(path: Path, model: Basin, scales: Scales, rivers: list[River], span: Span) -> None:
    """Run the exported model in physical units, compare it with torch, print the efficiencies."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    predictions, observations = [], []
    for river in rivers:
        weather, observed = windows(river, *span)
        predicted = session.run(None, {"weather": weather})[0]
        with torch.no_grad():
            trained = model(torch.from_numpy(weather / scales[0]))[:, -1:] * scales[1]
        check_close(river.name, predicted, trained.numpy(), 1e-5)
        print(f"{river.name}: efficiency {efficiency(predicted[:, 0], observed):.3f}")
        predictions.append(predicted[:, 0])
        observations.append(observed)
    pooled, median = np.concatenate(predictions), np.median([*map(efficiency, predictions, observations)])
    print(f"pooled: efficiency {efficiency(pooled, np.concatenate(observations)):.3f}; median {median:.3f}")
    print(f"smallest prediction {pooled.min():.2f} mm/day, {100 * (pooled < 0).mean():.1f} % below zero")


def main() -> None:
    options = data_parser(__doc__, seed=1)
    options.add_argument("--steps", type=int, default=400, help="of Adam, 16 stretches of weather each")
    options.add_argument("--hidden-size", type=int, default=64)
    options.add_argument("--dropout", type=float, default=0.4)
    options.add_argument("--noise", type=float, default=0.1, help="on the scaled inputs, against overfitting")
    options.add_argument("--learning-rate", type=float, default=5e-3)
    options.add_argument("--choose", action="store_true", help="train on 18 months, measure on the next 6: for options")
    chosen = options.parse_args()
    make_deterministic(chosen.seed)

    folder = chosen.data / "camels"
    names = sorted(path.name.split("_")[0] for path in folder.glob("*_streamflow.txt"))
    rivers = [read_river(folder, name) for name in names]
    span = (date(2001, 7, 1), date(2001, 12, 31)) if chosen.choose else HELD_OUT
    days = rivers[0].day(span[0])

    # Divided by their spread but not centred: no rain stays zero, and zero inputs get zero relevance.
    scale = np.concatenate([river.weather[:days] for river in rivers]).std(axis=0)
    scales = (scale, float(np.concatenate([river.discharge[:days] for river in rivers]).std()))
    model = Basin(chosen.hidden_size, chosen.dropout)
    train(model, rivers, days, scales, chosen)
    model.eval()

    path = model_path(chosen.out, "discharge")
    save_regressor(path, "discharge", model.lstm, model.linear, "weather", "discharge", *scales)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {path.stat().st_size} bytes")
    evaluate(path, model, scales, rivers, span)


if __name__ == "__main__":
    main()
