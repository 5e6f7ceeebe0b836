# SPDX-License-Identifier: Apache-2.0
"""Compare our methods with Captum's on an equal torch model. Requires the extra `captum`.

    python scripts/captum_comparison.py

The script rebuilds the bundled `discharge` and `addition` in torch from the weights in their files. It prints the
largest difference of an entry of the relevance, as a fraction of the largest entry, in Markdown.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from captum import attr
from onnx import numpy_helper

import lstm_explain as lx

Array = npt.NDArray[Any]
MODELS = Path(__file__).resolve().parent.parent / "models"
BATCH, STEPS, FEW_STEPS = 3, 30, 6
IG_STEPS, NOISY, ORDERS = 300, 4000, 200
OUTPUTS = 3


class Equal(torch.nn.Module):
    """The computation of a bundled regressor in torch: scales, LSTM, final state, linear layer."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        w = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
        (W,), (R,), (B,) = w["lstm.W"], w["lstm.R"], w["lstm.B"]
        self.scale, self.factor = w.get("input_scale", torch.ones(())), w.get("output_scale", torch.ones(()))
        self.lstm = torch.nn.LSTM(W.shape[1], R.shape[1], batch_first=True)
        self.weight, self.bias = w["output.weight"], w.get("output.bias", torch.zeros(()))
        half = len(B) // 2
        with torch.no_grad():
            for mine, theirs in (
                ("weight_ih_l0", W),
                ("weight_hh_l0", R),
                ("bias_ih_l0", B[:half]),
                ("bias_hh_l0", B[half:]),
            ):
                i, o, f, c = theirs.chunk(4)
                getattr(self.lstm, mine).copy_(torch.cat([i, f, c, o]))
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch]: the first output of [batch, time, features]."""
        return self.outputs(x)[:, 0]

    def outputs(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, outputs]."""
        _, (final, _) = self.lstm(x / self.scale)
        return (final[0] @ self.weight.T + self.bias) * self.factor


def inputs(name: str, steps: int) -> Array:
    """Return weather in its units, or numbers of the size of the toy task."""
    rng = np.random.default_rng(7)
    if name == "addition":
        return rng.uniform(-4, 4, (BATCH, steps, 3)).astype(np.float32)
    low, high = np.array([0, 50, -5, -15, 200]), np.array([30, 500, 30, 15, 2000])
    return rng.uniform(low, high, (BATCH, steps, 5)).astype(np.float32)


def compare(name: str) -> dict[str, float]:
    """Return the difference between our relevance and Captum's, by method; see `sampled` for methods that sample."""
    ours, theirs, (entry, x) = _both(name, STEPS)
    at = torch.from_numpy(x)
    wanted = {
        lx.Gradient(): attr.Saliency(theirs).attribute(at.clone().requires_grad_(), abs=False),
        lx.GradientTimesInput(): attr.InputXGradient(theirs).attribute(at.clone().requires_grad_()),
        lx.IntegratedGradients(IG_STEPS): attr.IntegratedGradients(theirs).attribute(
            at, n_steps=IG_STEPS, method="gausslegendre"
        ),
        lx.IntegratedGradients(IG_STEPS, 1.0): attr.IntegratedGradients(theirs).attribute(
            at, baselines=torch.ones_like(at), n_steps=IG_STEPS, method="gausslegendre"
        ),
        lx.Occlusion(): attr.Occlusion(theirs).attribute(at, (1, x.shape[2])),
        lx.Occlusion(window=3): attr.Occlusion(theirs).attribute(at, (3, x.shape[2])),
    }
    found = {}
    for method, their in wanted.items():
        mine = ours.explain({entry: x}, method, lx.Target(index=0)).relevance[entry]
        reference = their.detach().numpy()
        if isinstance(method, lx.Occlusion):  # Captum gives the whole fall to every feature of every step of a window
            mine, reference = mine.sum(axis=2), reference[:, :, 0] / method.window
        label = ", ".join([method.name, *_unusual(method)])
        found[label] = float(np.abs(mine - reference).max() / np.abs(reference).max())
    return found


def sampled(name: str) -> dict[str, float]:
    """Return the largest difference in standard errors, for each method that draws samples.

    Shapley values are compared with Captum's exact values, in units of the error that we report. SmoothGrad compares
    two means of equally many copies, in units of the error of their difference, from the spread of Captum's
    repetitions.
    """
    ours, theirs, (entry, x) = _both(name, FEW_STEPS)
    at = torch.from_numpy(x)
    steps = torch.arange(FEW_STEPS)[None, :, None].expand_as(at)
    exact = attr.ShapleyValues(theirs).attribute(at, feature_mask=steps)[:, :, 0].numpy()
    e = ours.explain({entry: x}, lx.ShapleySampling(permutations=ORDERS), lx.Target(index=0))
    error = e.standard_error[entry].sum(axis=2)
    found = {"shapley_sampling": float((np.abs(e.relevance[entry].sum(axis=2) - exact) / error).max())}

    if name == "addition":  # its gradient has spikes far from the task's inputs: no number of copies gives a mean
        return found
    one, repeats = x[:1], 20
    ranges = torch.from_numpy(np.ptp(one, axis=1, keepdims=True))  # over time; Captum's noise has one size per input
    torch.manual_seed(0)
    means = [
        attr.NoiseTunnel(attr.Saliency(lambda shares: theirs(shares * ranges)))
        .attribute(torch.from_numpy(one) / ranges, nt_samples=NOISY // repeats, stdevs=0.1, abs=False)
        .div(ranges)
        .detach()
        .numpy()
        for _ in range(repeats)
    ]
    error = np.std(means, axis=0, ddof=1) * np.sqrt(2 / repeats)
    mine = ours.explain({entry: one}, lx.SmoothGrad(NOISY, 0.1), lx.Target(index=0)).relevance[entry]
    return found | {"smooth_grad": float((np.abs(mine - np.mean(means, axis=0)) / error).max())}


def measures(name: str) -> dict[str, float]:
    """Return the difference between our gradient times input and Captum's InputXGradient, by measure of the output of
    the model with three outputs instead of one.
    """
    model = onnx.load(MODELS / name / "1" / "model.onnx")
    weights = {t.name: t for t in model.graph.initializer}
    rng = np.random.default_rng(8)
    hidden = weights["output.weight"].dims[1]
    weights["output.weight"].CopyFrom(_tensor("output.weight", rng.normal(0, 0.5, (OUTPUTS, hidden))))
    if "output.bias" in weights:
        weights["output.bias"].CopyFrom(_tensor("output.bias", rng.normal(0, 0.5, OUTPUTS)))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = OUTPUTS
    ours, theirs, x = lx.load(model), Equal(model), inputs(name, STEPS)
    (entry,), reference = ours.inputs, rng.normal(size=(BATCH, OUTPUTS)).astype(np.float32)
    given = torch.from_numpy(reference)
    wanted: dict[str, tuple[lx.Target, Callable[[torch.Tensor], torch.Tensor]]] = {
        "mean_squared_error": (_of("mean_squared_error", reference), lambda y: ((y - given) ** 2).mean(1)),
        "mean_absolute_error": (_of("mean_absolute_error", reference), lambda y: (y - given).abs().mean(1)),
        "l1_norm": (_of("l1_norm"), lambda y: y.abs().sum(1)),
        "l2_norm": (_of("l2_norm"), lambda y: y.norm(dim=1)),
        "log_probability": (_of("log_probability", index=1), lambda y: y.log_softmax(1)[:, 1]),
        "probability": (_of("probability", index=1), lambda y: y.softmax(1)[:, 1]),
    }
    found = {}
    for kind, (target, expression) in wanted.items():
        captums = attr.InputXGradient(lambda x, value=expression: value(theirs.outputs(x)))
        their = captums.attribute(torch.from_numpy(x).requires_grad_()).detach().numpy()
        mine = ours.explain({entry: x}, lx.GradientTimesInput(), target).relevance[entry]
        found[kind] = float(np.abs(mine - their).max() / np.abs(their).max())
    return found


def _of(kind: str, reference: Array | None = None, index: int | None = None) -> lx.Target:
    return lx.Target(index=index, measure=lx.Measure(kind, reference))


def _tensor(name: str, array: Array) -> onnx.TensorProto:
    return numpy_helper.from_array(array.astype(np.float32), name)


def _both(name: str, steps: int) -> tuple[lx.Model, Equal, tuple[str, Array]]:
    model = onnx.load(MODELS / name / "1" / "model.onnx")
    ours, theirs, x = lx.load(model), Equal(model), inputs(name, steps)
    entry, output = next(iter(ours.inputs)), next(iter(ours.outputs))
    np.testing.assert_allclose(
        theirs(torch.from_numpy(x)), ours.predict({entry: x})[output][:, 0], rtol=1e-4, atol=1e-5
    )
    return ours, theirs, (entry, x)


def _unusual(method: lx.Method) -> list[str]:
    usual = type(method)().parameters()
    return [f"{key} {value}" for key, value in method.parameters().items() if value != usual[key]]


def main() -> None:
    names = ("discharge", "addition")
    tables = (
        ("difference", compare, "{:.1e}"),
        ("gradient × input of a measure", measures, "{:.1e}"),
        ("standard errors", sampled, "{:.1f}"),
    )
    for title, measure, form in tables:
        columns = {name: measure(name) for name in names}
        print(f"| {title} | {' | '.join(names)} |\n|---|---:|---:|")
        for label in columns[names[0]]:
            cells = (form.format(columns[name][label]) if label in columns[name] else "" for name in names)
            print(f"| {label} | {' | '.join(cells)} |")
        print()
    print(f"Captum {captum.__version__}, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}")


if __name__ == "__main__":
    main()
