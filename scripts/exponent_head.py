# SPDX-License-Identifier: Apache-2.0
"""Compare LRP with Occlusion on a model whose output ends in Exp: `python scripts/exponent_head.py MODEL.onnx`.

The inputs are standard normal. For each sample, the script correlates relevance with Occlusion of the output itself,
over all cells of all inputs, and prints the mean and the smallest correlation.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

import lstm_explain as lx

Array = npt.NDArray[np.float64]
RULES = ("all", "half", "prop", "abs")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model")
    options.add_argument("--samples", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    model, rng = lx.load(chosen.model), np.random.default_rng(chosen.seed)
    shapes = {
        name: [n if isinstance(n, int) else chosen.samples for n in spec.shape] for name, spec in model.inputs.items()
    }
    x = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    output = model.explain(x, lx.Gradient()).outputs[model.default_output]
    occluded = _cell_by_cell(model, x)
    for rule in RULES:
        e = model.explain(x, lx.LRP(rule))
        relevance = _flat(e.relevance)
        before = relevance * (output.reshape(-1, 1) / e.explained[:, None])  # as if the relevance stayed at the Exp
        for name, values in (("the exponent", relevance), ("the output itself", before)):
            r = [np.corrcoef(a, b)[0, 1] for a, b in zip(values, occluded, strict=True)]
            print(f"LRP-{rule} of {name}: mean {np.mean(r):+.3f}, smallest {np.min(r):+.3f}, largest {np.max(r):+.3f}")


def _flat(arrays: Mapping[str, npt.NDArray[np.floating]]) -> Array:
    return np.concatenate([array.reshape(len(array), -1) for array in arrays.values()], axis=1).astype(np.float64)


def _cell_by_cell(model: lx.Model, x: dict[str, npt.NDArray[np.float32]]) -> Array:
    """The fall of the output when one cell becomes zero, for every cell of every input."""
    whole = model.predict(x)[model.default_output].reshape(-1)
    falls = []
    for name, array in x.items():
        for place in np.ndindex(*array.shape[1:]):
            changed = array.copy()
            changed[(slice(None), *place)] = 0
            falls.append(whole - model.predict({**x, name: changed})[model.default_output].reshape(-1))
    return np.stack(falls, axis=1).astype(np.float64)


if __name__ == "__main__":
    main()
