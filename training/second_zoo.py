# SPDX-License-Identifier: Apache-2.0
"""Trains the cells of the second zoo for a few seconds each, exports them, and records what autograd says of them.

    python training/second_zoo.py [CELL…]

writes the cases s_* of tests/zoo, which its README describes. Requires torch, onnx, onnxscript and onnxruntime.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import random
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import second_zoo_cells as first
import second_zoo_conditioned_cells as conditioned
import second_zoo_linear_cells as linear
import torch
from common import ROOT, make_deterministic
from torch import Tensor, nn

ZOO = ROOT / "tests" / "zoo"
STEPS, RECORDED, MORE = 12, 3, 48
BATCH, UPDATES = 64, 400
OUTPUTS = 2


@dataclass(frozen=True)
class Data:
    """with_target: sequences [N, STEPS, width] -> the inputs by name, and the target [N, OUTPUTS]. time: the axis of
    each input.
    """

    with_target: Callable[[Tensor], tuple[dict[str, Tensor], Tensor]]
    time: dict[str, int | None]

    def draw(self, samples: int) -> tuple[dict[str, Tensor], Tensor]:
        return self.with_target(torch.randn(samples, STEPS, first.WIDTH))


def wanted(x: Tensor) -> Tensor:
    """Two sums over time, x [N, T, width]: of gated values and of rectified ones, both with decays."""
    age = torch.arange(x.shape[1] - 1, -1, -1)[None, :]
    gated = (0.85**age * x[..., 0] * torch.sigmoid(2 * x[..., 1])).sum(dim=1)
    return torch.stack([gated, (0.7**age * torch.relu(x[..., 2] + 0.5 * x[..., 3])).sum(dim=1)], dim=1)


def noise(x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    return {"x": x}, wanted(x)


def catchments(x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """A sequence, and static values that scale what is wanted of it."""
    static = torch.randn(len(x), 3)
    return {"x_d": x, "x_s": static}, wanted(x) * (0.5 + torch.sigmoid(static[:, :1]))


def missing(x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Values of which half are missing; what was last observed; masks; the time since then, as GRU-D takes them."""
    mask = (torch.rand(x.shape) < 0.5).float()
    last, delta = torch.zeros_like(x), torch.zeros_like(x)
    for t in range(1, STEPS):
        last[:, t] = torch.where(mask[:, t - 1] > 0, x[:, t - 1], last[:, t - 1])
        delta[:, t] = torch.where(mask[:, t - 1] > 0, torch.ones_like(x[:, t]), delta[:, t - 1] + 1)
    return {"x": torch.stack([x * mask, last, mask, delta / STEPS], dim=1)}, wanted(x * mask)


NOISE = Data(noise, {"x": 1})
CATCHMENTS = Data(catchments, {"x_d": 1, "x_s": None})
MISSING = Data(missing, {"x": 2})
LEGACY, DYNAMO = "legacy", "dynamo"
CASES: dict[str, tuple[type[nn.Module], tuple[tuple[str, int], ...], Data]] = {
    "slstm": (first.SLSTM, ((LEGACY, 17), (DYNAMO, 18)), NOISE),
    "mlstm": (first.MLSTM, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "mlstm_parallel": (first.ParallelMLSTM, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "mamba": (first.Mamba, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "mamba_scripted": (first.ScriptedMamba, ((LEGACY, 17),), NOISE),
    "mamba2": (first.Mamba2, ((LEGACY, 18), (DYNAMO, 20)), NOISE),
    "ltc": (first.LTC, ((LEGACY, 17),), NOISE),
    "cfc": (first.CfC, ((LEGACY, 17), (DYNAMO, 18)), NOISE),
    "grud": (first.GRUD, ((LEGACY, 17), (DYNAMO, 18)), MISSING),
    "mingru": (first.MinGRU, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "minlstm": (first.MinLSTM, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "mingru_sequential": (first.SequentialMinGRU, ((DYNAMO, 18),), NOISE),
    "lru": (linear.LRU, ((LEGACY, 17), (DYNAMO, 18)), NOISE),
    "s4d": (linear.S4D, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "rglru": (linear.RGLRU, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "rwkv4": (linear.RWKV4, ((LEGACY, 17), (DYNAMO, 18)), NOISE),
    "rwkv6": (linear.RWKV6, ((LEGACY, 17), (DYNAMO, 18)), NOISE),
    "rwkv7": (linear.RWKV7, ((DYNAMO, 20),), NOISE),
    "retnet": (linear.RetNet, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "gla": (linear.GLA, ((LEGACY, 18), (DYNAMO, 20)), NOISE),
    "gated_deltanet": (linear.GatedDeltaNet, ((DYNAMO, 20),), NOISE),
    "qrnn": (linear.QRNN, ((LEGACY, 17), (DYNAMO, 18)), NOISE),
    "sru": (linear.SRU, ((LEGACY, 17), (DYNAMO, 18)), NOISE),
    "ealstm": (conditioned.EALSTM, ((LEGACY, 17), (DYNAMO, 18)), CATCHMENTS),
    "mogrifier": (conditioned.Mogrifier, ((LEGACY, 17),), NOISE),
    "milstm": (conditioned.MILSTM, ((DYNAMO, 18),), NOISE),
    "hyperlstm": (conditioned.HyperLSTM, ((DYNAMO, 18),), NOISE),
    "attention_lstm": (conditioned.AttentionAroundLSTM, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "relative_gru": (conditioned.RelativeAttentionAroundGRU, ((LEGACY, 17), (DYNAMO, 20)), NOISE),
    "rotary_rnn": (conditioned.RotaryAttentionAroundSRNN, ((LEGACY, 17),), NOISE),
}


class Network(nn.Module):
    """A cell, and a linear layer on what its last step reads."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(first.HIDDEN, OUTPUTS)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.head(self.cell(*inputs)[:, -1])


def trained(cell: type[nn.Module], data: Data, updates: int) -> tuple[Network, float]:
    """Returns a network that was trained for a few seconds, and the share of the variance that it explains."""
    network = Network(cell())
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-2, total_steps=max(updates, 1))
    for _ in range(updates):
        inputs, target = data.draw(BATCH)
        optimiser.zero_grad()
        nn.functional.mse_loss(network(*inputs.values()), target).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    inputs, target = data.draw(512)
    with torch.no_grad():
        rest = ((network(*inputs.values()) - target) ** 2).mean(dim=0) / target.var(dim=0)
    return network.eval(), 1 - float(rest.mean())


def export(network: Network, inputs: dict[str, Tensor], exporter: str, opset: int, path: Path) -> None:
    names, outputs = list(inputs), ["y"]
    samples = tuple(inputs.values())
    options: dict[str, Any] = {"input_names": names, "output_names": outputs, "opset_version": opset}
    if exporter == LEGACY:
        axes = {name: {0: "batch"} for name in [*names, *outputs]}
        torch.onnx.export(network, samples, str(path), dynamo=False, dynamic_axes=axes, **options)
        return
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = (tuple({0: batch} for _ in samples),)
    program = torch.onnx.export(network, samples, dynamo=True, dynamic_shapes=shapes, verbose=False, **options)
    assert program is not None
    program.save(str(path), external_data=False)


def record(cell: str, exports: dict[str, tuple[str, int]], out: Path, updates: int, draw: int) -> None:
    """Train a cell, and write a case for each export, by the name of the case."""
    warnings.simplefilter("ignore")
    make_deterministic(1000 * draw + sum(map(ord, cell)))
    kind, _, data = CASES[cell]
    network, explained = trained(kind, data, updates)
    inputs, _ = data.draw(RECORDED)
    more, _ = data.draw(MORE)
    index = random.randrange(OUTPUTS)
    leaves = {key: value.double().requires_grad_() for key, value in inputs.items()}
    output = copy.deepcopy(network).double()(*leaves.values())
    grads = torch.autograd.grad(output[:, index].sum(), list(leaves.values()))
    arrays = {f"input:{key}": value.numpy() for key, value in inputs.items()}
    arrays |= {f"more:{key}": value.numpy() for key, value in more.items()}
    arrays |= {f"grad:{key}": grad.numpy() for key, grad in zip(inputs, grads, strict=True)}
    arrays["output:y"] = output.detach().numpy()
    meta = {
        "framework": f"torch {torch.__version__.split('+')[0]}",
        "exporter": "",
        "opset": 0,
        "description": " ".join((kind.__doc__ or "").split()).rstrip("."),
        "target": {"output": "y", "index": [index]},
        "batch_axis": dict.fromkeys([*inputs, "y"], 0),
        "time_axis": data.time,
        "features": ["second-zoo"],
        "embedding_tensor": None,
        "pre_activation_target": False,
        "pre_activation_tensor": None,
        "pre_activation_op": None,
        "gradient": "torch autograd on a float64 copy of the model",
        "tolerance": {"rtol": 1e-4, "atol": 1e-5},
        "dynamic_axes": {key: [0] for key in inputs},
        "ort_status": "ok",
        "notes": f"trained for {updates} updates; explains {explained:.0%} of the variance",
    }
    for name, (exporter, opset) in exports.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        model, difference = written(network, inputs, arrays["output:y"], exporter, opset, folder / "model.onnx")
        meta |= {
            "exporter": f"torch.onnx.export(dynamo={exporter == DYNAMO})",
            "opset": next(o.version for o in model.opset_import if o.domain == ""),
            "ops": dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
            "ir_version": model.ir_version,
        }
        np.savez_compressed(folder / "case.npz", **arrays)
        (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: explains {explained:.0%}, {size / 1000:.0f} kB, ONNX Runtime differs by {difference:.1e}")


def written(
    network: Network, inputs: dict[str, Tensor], expected: np.ndarray, exporter: str, opset: int, path: Path
) -> tuple[onnx.ModelProto, float]:
    """Export to `path`, without torch's notes on every node; return the model, and by how much ONNX Runtime differs."""
    export(network, inputs, exporter, opset, path)
    model = onnx.load(path)
    model.graph.ClearField("value_info")
    for node in [*model.graph.node, model.graph, model]:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == list(inputs), "the exporter dropped an input"
    (found,) = session.run(None, {key: value.numpy() for key, value in inputs.items()})
    return model, float(np.abs(found - expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="all of them by default")
    parser.add_argument("--out", type=Path, default=ZOO)
    parser.add_argument("--updates", type=int, default=UPDATES, help="0 leaves the weights random")
    parser.add_argument("--draw", type=int, default=0, help="which weights to begin with")
    arguments = parser.parse_args()
    for cell in arguments.cells or CASES:
        exports = {f"s_{cell}_{exporter}{opset}": (exporter, opset) for exporter, opset in CASES[cell][1]}
        # The dynamo exporter keeps state, and the legacy one ends its process where it fails.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            if error := pool.submit(
                record, cell, exports, arguments.out, arguments.updates, arguments.draw
            ).exception():
                print(f"{cell} failed: {str(error)[:300]!r}")


if __name__ == "__main__":
    main()
