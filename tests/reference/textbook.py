# SPDX-License-Identifier: Apache-2.0
"""The public functions of the reference: stacked recurrent layers, a head over time, a dense layer on top; forward pass
and LRP.

Tests that need one node use `layer_forward` and `layer_lrp`; tests that need one rule use `lrp_linear`,
`lrp_sum` and `lrp_product`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .activations import Activation, parse_activations
from .common import PRODUCT_RULES, Array, ProductRule, Relative, Rules, lrp_linear, lrp_product, lrp_sum, sign, stab
from .dense import dense_forward, dense_lrp, embedding_lrp, last_step_lrp, mean_lrp, sum_lrp
from .gru import GruCell
from .layer import Layer, LayerOutputs, LayerRelevance, Lengths, layer_forward, layer_lrp
from .lstm import CellRelevance, LstmCell
from .rnn import RnnCell

__all__ = [
    "PRODUCT_RULES",
    "Activation",
    "Array",
    "CellRelevance",
    "GruCell",
    "Head",
    "Layer",
    "LayerOutputs",
    "LayerRelevance",
    "Lengths",
    "LstmCell",
    "Network",
    "NetworkRelevance",
    "ProductRule",
    "Relative",
    "RnnCell",
    "Rules",
    "States",
    "dense_forward",
    "dense_lrp",
    "embedding_lrp",
    "last_step_lrp",
    "layer_forward",
    "layer_lrp",
    "lrp_linear",
    "lrp_product",
    "lrp_sum",
    "mean_lrp",
    "network_forward",
    "network_lrp",
    "one_hot",
    "parse_activations",
    "sign",
    "stab",
    "sum_lrp",
]

Head = Literal["last", "Y_h", "Y_c", "mean", "sum"]
States = Sequence[Array | None]  # one [dirs, B, H] a layer


@dataclass(frozen=True)
class Network:
    """Layers from the bottom up. `head` says what the dense layer reads from the topmost one.

    "last" the last time step of Y (whatever a sample's length), "Y_h" and "Y_c" the final states, "mean" and "sum"
    over all T steps of Y, padding included. Two directions are concatenated, forward first.
    """

    layers: tuple[Layer, ...]
    head: Head
    W: Array  # [classes, dirs * H]
    b: Array  # [classes]


@dataclass(frozen=True)
class NetworkRelevance:
    """Where the explained score went. `absorbed` by part: "layer0", "layer1", ..., "head", "dense", each [B]."""

    x: Array  # [T, B, D]
    initial_h: list[Array]
    initial_c: list[Array]
    absorbed: dict[str, Array]
    explained: Array  # [B]

    @property
    def total(self) -> Array:
        """All relevance at inputs and initial states, per sample."""
        states = sum(R.sum(axis=(0, 2)) for R in [*self.initial_h, *self.initial_c])
        return np.asarray(self.x.sum(axis=(0, 2)) + states)

    @property
    def total_absorbed(self) -> Array:
        return np.asarray(sum(self.absorbed.values()))


def one_hot(index: int | Sequence[int], batch: int, classes: int) -> Array:
    """Target weights [B, classes] that pick one class for all samples or one for each."""
    weights = np.zeros((batch, classes))
    weights[np.arange(batch), index] = 1.0
    return weights


def _flat(Y: Array) -> Array:
    """[T, dirs, B, H] to [T, B, dirs * H]: the directions side by side."""
    return np.concatenate([Y[:, d] for d in range(Y.shape[1])], axis=2)


def _unflat(R: Array, dirs: int) -> Array:
    return np.stack(np.split(R, dirs, axis=2), axis=1)


def _run_layers(
    net: Network, x: Array, lens: Lengths | None, initial_h: States, initial_c: States
) -> tuple[list[Array], LayerOutputs]:
    """The input of every layer, and the outputs of the last."""
    inputs, outputs = [], None
    below = np.asarray(x, dtype=np.float64)
    for layer, h, c in zip(net.layers, initial_h, initial_c, strict=True):
        inputs.append(below)
        outputs = layer_forward(layer, below, lens, h, c)
        below = _flat(outputs.Y)
    assert outputs is not None, "a network has at least one layer"
    return inputs, outputs


def _read_head(net: Network, top: LayerOutputs) -> Array:
    """The input of the dense layer, [B, dirs * H]."""
    if net.head in ("Y_h", "Y_c"):
        states = top.Y_h if net.head == "Y_h" else top.Y_c
        return np.concatenate(list(states), axis=1)
    Y = _flat(top.Y)
    if net.head == "last":
        return np.asarray(Y[-1])
    return np.asarray(Y.mean(axis=0) if net.head == "mean" else Y.sum(axis=0))


def network_forward(
    net: Network,
    x: Array,
    lens: Lengths | None = None,
    initial_h: States | None = None,
    initial_c: States | None = None,
) -> Array:
    """Logits [B, classes]."""
    none = [None] * len(net.layers)
    _, top = _run_layers(net, x, lens, initial_h or none, initial_c or none)
    return np.stack([dense_forward(a, net.W, net.b) for a in _read_head(net, top)])


def _head_lrp(net: Network, top: LayerOutputs, R_a: Array, rules: Rules) -> tuple[dict[str, Array], Array]:
    """From the input of the dense layer to the last layer's outputs, as arguments of `layer_lrp`; and absorbed [B]."""
    dirs, absorbed = top.Y.shape[1], np.zeros(len(R_a))
    if net.head in ("Y_h", "Y_c"):
        return {f"R_{net.head}": np.stack(np.split(R_a, dirs, axis=1))}, absorbed
    Y = _flat(top.Y)
    R_Y = np.zeros_like(Y)
    for b in range(len(R_a)):
        if net.head == "last":
            R_Y[:, b] = last_step_lrp(Y[:, b], R_a[b])
        else:
            pool = mean_lrp if net.head == "mean" else sum_lrp
            R_Y[:, b], absorbed[b] = pool(Y[:, b], R_a[b], rules)
    return {"R_Y": _unflat(R_Y, dirs)}, absorbed


def network_lrp(
    net: Network,
    x: Array,
    weights: Array,
    rules: Rules,
    lens: Lengths | None = None,
    initial_h: States | None = None,
    initial_c: States | None = None,
) -> NetworkRelevance:
    """Explain sum_k weights_k logit_k, per sample: the relevance of logit k starts as weights_k logit_k."""
    none = [None] * len(net.layers)
    initial_h, initial_c = initial_h or none, initial_c or none
    inputs, top = _run_layers(net, x, lens, initial_h, initial_c)
    seen = _read_head(net, top)
    R_out = weights * np.stack([dense_forward(a, net.W, net.b) for a in seen])

    R_seen, absorbed = np.zeros_like(seen), {"dense": np.zeros(len(seen))}
    for b in range(len(seen)):
        R_seen[b], absorbed["dense"][b] = dense_lrp(seen[b], net.W, net.b, R_out[b], rules)
    arriving, absorbed["head"] = _head_lrp(net, top, R_seen, rules)

    R_x = np.zeros(0)
    R_h: list[Array] = []
    R_c: list[Array] = []
    for k in reversed(range(len(net.layers))):
        R = layer_lrp(
            net.layers[k], inputs[k], rules, lens=lens, initial_h=initial_h[k], initial_c=initial_c[k], **arriving
        )
        absorbed[f"layer{k}"] = R.absorbed
        R_x, R_h, R_c = R.x, [R.initial_h, *R_h], [R.initial_c, *R_c]
        if k > 0:
            arriving = {"R_Y": _unflat(R_x, net.layers[k - 1].dirs)}
    return NetworkRelevance(R_x, R_h, R_c, absorbed, R_out.sum(axis=1))
