# SPDX-License-Identifier: Apache-2.0
"""Shared by the training scripts: options, determinism, output folders."""

import argparse
import random
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
MODELS = ROOT / "models"


def parser(description: str | None, seed: int) -> argparse.ArgumentParser:
    """An option parser with the options that all scripts have."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--out", type=Path, default=MODELS, help="model repository to write into")
    options.add_argument("--seed", type=int, default=seed, help="seed of everything random")
    return options


def data_parser(description: str | None, seed: int) -> argparse.ArgumentParser:
    """The same for the scripts that read data."""
    options = parser(description, seed)
    options.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    return options


def make_deterministic(seed: int) -> None:
    """Seed every generator; one thread, because the order of a parallel sum is not fixed."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def model_path(repository: Path, name: str) -> Path:
    """Return the path of version 1 of a model, and create its folder."""
    path = repository / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def check_close(what: str, exported: np.ndarray, trained: np.ndarray, tolerance: float) -> None:
    """Stop unless the exported model computes what was trained, relative to the size of the outputs."""
    difference = float(np.abs(exported - trained).max() / max(1.0, np.abs(trained).max()))
    print(f"{what}: ONNX Runtime against torch, largest relative difference {difference:.1e}")
    if not difference <= tolerance:
        raise SystemExit(f"{what}: the exported model differs from the trained one by {difference:.1e}")
