# SPDX-License-Identifier: Apache-2.0
"""ONNX models for tests, with their weights as plain arrays: recurrent nodes, and the same cells unrolled.

built = recurrent_model(rng, op="GRU", layers=2, direction="bidirectional")
feeds = built.feeds(rng, T=7, B=3)
run(built.model, feeds)                                  # ONNX Runtime
built.reference_forward(feeds)                           # the textbook, on the same weights
built.reference_lrp(feeds, weights, Rules("all"))
unrolled_model(built.network, steps=7).model             # the same numbers out of MatMul, Sigmoid, Tanh, Mul, Add
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from tests.graph_builder import AnyArray, GraphBuilder
from tests.reference.activations import ALPHA_DEFAULT, BETA_DEFAULT
from tests.reference.layer import DEFAULT_ACTIVATIONS, GATES, Direction, Layer, Op
from tests.reference.textbook import (
    Head,
    Network,
    NetworkRelevance,
    Rules,
    network_forward,
    network_lrp,
    parse_activations,
)

States = Literal["constant", "input"]


@dataclass(frozen=True)
class Built:
    """A model, its weights in the textbook's form (float64 copies of the stored numbers), and how to feed it.

    Inputs: "x" [T, B, D] (or [B, T, D] if `batch_first`), and on request "lens" [B] int32, "initial_h_<layer>" and
    "initial_c_<layer>" [dirs, B, H]. Output: "logits" [B, classes]. Node names: "layer<k>", "head" (mean or sum),
    "dense".
    """

    model: onnx.ModelProto
    network: Network
    dtype: np.dtype[Any]
    batch_first: bool = False
    batch: int | None = None  # fixed where constant initial states fix it
    constant_states: dict[str, AnyArray] = field(default_factory=dict)  # by the name their input would have

    @property
    def input_names(self) -> list[str]:
        return [value.name for value in self.model.graph.input]

    @property
    def features(self) -> int:
        return int(self.network.layers[0].W.shape[2])

    def feeds(self, rng: np.random.Generator, T: int, B: int | None = None) -> dict[str, AnyArray]:
        """Random inputs for T steps; lengths lie between 1 and T and the first is T."""
        B = B or self.batch or 3
        x = rng.normal(size=(T, B, self.features)).astype(self.dtype)
        feeds: dict[str, AnyArray] = {"x": np.ascontiguousarray(x.swapaxes(0, 1)) if self.batch_first else x}
        if "lens" in self.input_names:
            feeds["lens"] = np.array([T, *rng.integers(1, T + 1, size=B - 1)], dtype=np.int32)
        for name in self.input_names:
            if name.startswith("initial_"):
                layer = self.network.layers[int(name.rsplit("_", 1)[1])]
                feeds[name] = rng.normal(size=(layer.dirs, B, layer.hidden)).astype(self.dtype)
        return feeds

    def _reference_arguments(self, feeds: Mapping[str, AnyArray]) -> dict[str, Any]:
        states = {**self.constant_states, **feeds}
        count = range(len(self.network.layers))
        return {
            "x": feeds["x"].swapaxes(0, 1) if self.batch_first else feeds["x"],
            "lens": feeds.get("lens"),
            "initial_h": [states.get(f"initial_h_{k}") for k in count],
            "initial_c": [states.get(f"initial_c_{k}") for k in count],
        }

    def reference_forward(self, feeds: Mapping[str, AnyArray]) -> npt.NDArray[np.float64]:
        """The textbook's logits."""
        return network_forward(self.network, **self._reference_arguments(feeds))

    def reference_lrp(self, feeds: Mapping[str, AnyArray], weights: AnyArray, rules: Rules) -> NetworkRelevance:
        """The textbook's relevance of sum_k weights_k logit_k, time first whatever the model's layout."""
        return network_lrp(self.network, weights=weights, rules=rules, **self._reference_arguments(feeds))


# Arguments of `recurrent_model` and its like, by what they vary.
LSTM_CELLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "peepholes": {"peepholes": True},
    "clip": {"clip": 0.5},
    "input_forget": {"input_forget": True},
    "no_bias": {"bias": False},
    "everything": {"peepholes": True, "input_forget": True, "clip": 0.6},
    "activations": {
        "activations": ["HardSigmoid", "Softsign", "ScaledTanh"],
        "activation_alpha": [0.25, 1.5],
        "activation_beta": [0.4, 0.7],
    },
}


def random_layer(
    rng: np.random.Generator,
    op: Op,
    D: int,
    H: int,
    direction: Direction = "forward",
    *,
    dtype: npt.DTypeLike = np.float32,
    bias: bool = True,
    peepholes: bool = False,
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    input_forget: bool = False,
    linear_before_reset: bool = False,
) -> Layer:
    """Weights of a size at which gates are neither open nor closed, rounded to dtype and stored as float64."""
    dirs = 2 if direction == "bidirectional" else 1
    G = GATES[op] * H

    def draw(*shape: int, scale: float) -> npt.NDArray[np.float64]:
        return (scale * rng.normal(size=shape)).astype(dtype).astype(np.float64)

    return Layer(
        op=op,
        W=draw(dirs, G, D, scale=1.0 / np.sqrt(D)),
        R=draw(dirs, G, H, scale=1.0 / np.sqrt(H)),
        B=draw(dirs, 2 * G, scale=0.3) if bias else None,
        P=draw(dirs, 3 * H, scale=0.5) if peepholes else None,
        direction=direction,
        activations=parse_activations(activations, activation_alpha, activation_beta) if activations else None,
        clip=clip if clip is None else float(np.float32(clip)),  # ONNX attributes are float32
        input_forget=input_forget,
        linear_before_reset=linear_before_reset,
    )


def recurrent_model(
    rng: np.random.Generator,
    op: Op = "LSTM",
    *,
    layers: int = 1,
    direction: Direction = "forward",
    D: int = 4,
    H: int = 5,
    classes: int = 3,
    head: Head = "last",
    initial_states: States | None = None,
    sequence_lens: bool = False,
    peepholes: bool = False,
    bias: bool = True,
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    input_forget: bool = False,
    linear_before_reset: bool = False,
    batch_first: bool = False,
    batch: int = 3,
    dtype: npt.DTypeLike = np.float32,
    opset: int = 17,
) -> Built:
    """Stacked recurrent nodes, a head over time and a Gemm. opset 11 to 23.

    `activations` lists those of all directions one after another, or those of one direction, which then apply to both.
    `batch` only matters for constant initial states, which fix the batch size.
    """
    dirs = 2 if direction == "bidirectional" else 1
    if activations and len(activations) == len(DEFAULT_ACTIVATIONS[op]):
        activations = [*activations] * dirs
        activation_alpha, activation_beta = [*activation_alpha] * dirs, [*activation_beta] * dirs
    stack = tuple(
        random_layer(
            rng,
            op,
            D if k == 0 else dirs * H,
            H,
            direction,
            dtype=dtype,
            bias=bias,
            peepholes=peepholes,
            activations=activations,
            activation_alpha=activation_alpha,
            activation_beta=activation_beta,
            clip=clip,
            input_forget=input_forget,
            linear_before_reset=linear_before_reset,
        )
        for k in range(layers)
    )
    W = (rng.normal(size=(classes, dirs * H)) / np.sqrt(H)).astype(dtype).astype(np.float64)
    b = (0.3 * rng.normal(size=classes)).astype(dtype).astype(np.float64)
    states: dict[str, AnyArray] = {}
    if initial_states == "constant":
        for k in range(layers):
            for s in "hc" if op == "LSTM" else "h":
                states[f"initial_{s}_{k}"] = rng.normal(size=(dirs, batch, H)).astype(dtype)
    return network_model(
        Network(stack, head, W, b),
        initial_states=initial_states,
        constant_states=states,
        sequence_lens=sequence_lens,
        batch_first=batch_first,
        dtype=dtype,
        opset=opset,
    )


def network_model(
    network: Network,
    *,
    initial_states: States | None = None,
    constant_states: dict[str, AnyArray] | None = None,
    sequence_lens: bool = False,
    batch_first: bool = False,
    dtype: npt.DTypeLike = np.float32,
    opset: int = 17,
) -> Built:
    """The ONNX model with the given weights: one LSTM, GRU or RNN node per layer."""
    constant_states = constant_states or {}
    batch = next((int(s.shape[1]) for s in constant_states.values()), None)
    B: int | str = "B" if batch is None else batch
    g = GraphBuilder(dtype, opset)
    D = network.layers[0].W.shape[2]
    below = g.input("x", [B, "T", D] if batch_first else ["T", B, D])
    lens = g.input("lens", [B], TensorProto.INT32) if sequence_lens else ""
    if batch_first:
        below = g.op("Transpose", [below], perm=[1, 0, 2])
    outputs: list[str] = []
    for k, layer in enumerate(network.layers):
        outputs = _recurrent_node(
            g, layer, k, below, lens, _state_names(g, layer, k, B, initial_states, constant_states)
        )
        if k + 1 < len(network.layers):
            below = _flat_sequence(g, layer, outputs[0])
    seen = _head(g, network, outputs)
    logits = write_dense(g, network, seen)
    model = g.model(logits, [B, len(network.b)])
    return Built(model, network, np.dtype(dtype), batch_first, batch, constant_states)


def _state_names(
    g: GraphBuilder,
    layer: Layer,
    k: int,
    B: int | str,
    initial_states: States | None,
    constant_states: Mapping[str, AnyArray],
) -> list[str]:
    """Names for the node's inputs initial_h and initial_c; "" where there is none."""
    names = []
    for s in "hc" if layer.op == "LSTM" else "h":
        name = f"initial_{s}_{k}"
        if initial_states == "input":
            names.append(g.input(name, [layer.dirs, B, layer.hidden]))
        elif name in constant_states:
            names.append(g.constant(constant_states[name], name))
        else:
            names.append("")
    return names


def _attributes(layer: Layer) -> dict[str, Any]:
    attributes: dict[str, Any] = {"hidden_size": layer.hidden, "direction": layer.direction}
    if layer.clip is not None:
        attributes["clip"] = layer.clip
    if layer.input_forget:
        attributes["input_forget"] = 1
    if layer.linear_before_reset:
        attributes["linear_before_reset"] = 1
    if layer.activations:
        attributes["activations"] = [a.name for a in layer.activations]
        # Alpha and beta lists hold values of those functions only that have such a parameter.
        alphas = [a.alpha for a in layer.activations if a.name in ALPHA_DEFAULT]
        betas = [a.beta for a in layer.activations if a.name in BETA_DEFAULT]
        attributes |= {"activation_alpha": alphas} if alphas else {}
        attributes |= {"activation_beta": betas} if betas else {}
    return attributes


def _recurrent_node(g: GraphBuilder, layer: Layer, k: int, x: str, lens: str, states: list[str]) -> list[str]:
    """One recurrent node; returns the names of Y, Y_h (and Y_c)."""
    inputs = [x, g.constant(layer.W, f"W_{k}"), g.constant(layer.R, f"R_{k}")]
    inputs += ["" if layer.B is None else g.constant(layer.B, f"B_{k}"), lens, *states]
    if layer.P is not None:
        inputs.append(g.constant(layer.P, f"P_{k}"))
    while not inputs[-1]:
        inputs.pop()
    return g.ops(layer.op, inputs, 3 if layer.op == "LSTM" else 2, f"layer{k}", **_attributes(layer))


def _flat_sequence(g: GraphBuilder, layer: Layer, Y: str) -> str:
    """[T, dirs, B, H] to [T, B, dirs * H]."""
    if layer.dirs == 1:
        return g.squeeze(Y, 1)
    return g.op("Reshape", [g.op("Transpose", [Y], perm=[0, 2, 1, 3]), g.ints(0, 0, -1)])


def _flat_state(g: GraphBuilder, layer: Layer, state: str) -> str:
    """[dirs, B, H] to [B, dirs * H]."""
    if layer.dirs == 1:
        return g.squeeze(state, 0)
    return g.op("Reshape", [g.op("Transpose", [state], perm=[1, 0, 2]), g.ints(0, -1)])


def _head(g: GraphBuilder, network: Network, outputs: list[str]) -> str:
    top = network.layers[-1]
    if network.head == "Y_h":
        return _flat_state(g, top, outputs[1])
    if network.head == "Y_c":
        return _flat_state(g, top, outputs[2])
    Y = _flat_sequence(g, top, outputs[0])
    if network.head == "last":
        return g.op("Gather", [Y, g.constant(np.array(-1, dtype=np.int64), "last_step")], axis=0)
    return g.reduce("mean" if network.head == "mean" else "sum", Y, 0, "head")


def write_dense(g: GraphBuilder, network: Network, seen: str) -> str:
    W, b = g.constant(network.W, "W_dense"), g.constant(network.b, "b_dense")
    return g.op("Gemm", [seen, W, b], "dense", transB=1)
