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
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

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

AnyArray = npt.NDArray[Any]
States = Literal["constant", "input"]

ELEMENT = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}


class GraphBuilder:
    """Collects nodes and initializers; every operator is one call that returns its output's name."""

    def __init__(self, dtype: npt.DTypeLike, opset: int) -> None:
        self.dtype = np.dtype(dtype)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], element: int | None = None) -> str:
        element = ELEMENT[self.dtype] if element is None else element
        self.inputs.append(helper.make_tensor_value_info(name, element, list(shape)))
        return name

    def constant(self, array: AnyArray, name: str) -> str:
        """An initializer; floating-point arrays take the model's dtype. The same name is stored once."""
        array = array.astype(self.dtype) if np.issubdtype(array.dtype, np.floating) else array
        self.initializers.setdefault(name, numpy_helper.from_array(array.copy(order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64), "ints_" + "_".join(map(str, values)))

    def op(self, op_type: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:
        return self.ops(op_type, inputs, 1, name, **attributes)[0]

    def ops(
        self, op_type: str, inputs: Sequence[str], count: int, name: str | None = None, **attributes: Any
    ) -> list[str]:
        name = name or f"{op_type.lower()}_{len(self.nodes)}"
        outputs = [f"{name}:{k}" if count > 1 else f"{name}_out" for k in range(count)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=name, **attributes))
        return outputs

    def with_axes(
        self, op_type: str, x: str, axes: Sequence[int], since: int, name: str | None = None, **kw: Any
    ) -> str:
        """Operators whose axes moved from an attribute to an input at opset `since`."""
        if self.opset >= since:
            return self.op(op_type, [x, self.ints(*axes)], name, **kw)
        return self.op(op_type, [x], name, axes=list(axes), **kw)

    def squeeze(self, x: str, *axes: int) -> str:
        return self.with_axes("Squeeze", x, axes, since=13)

    def unsqueeze(self, x: str, *axes: int) -> str:
        return self.with_axes("Unsqueeze", x, axes, since=13)

    def reduce(self, how: Literal["mean", "sum"], x: str, axis: int, name: str) -> str:
        op_type, since = ("ReduceMean", 18) if how == "mean" else ("ReduceSum", 13)
        return self.with_axes(op_type, x, [axis], since, name, keepdims=0)

    def split(self, x: str, parts: int, size: int, axis: int) -> list[str]:
        if self.opset >= 13:
            return self.ops("Split", [x, self.ints(*[size] * parts)], parts, axis=axis)
        return self.ops("Split", [x], parts, axis=axis, split=[size] * parts)

    def model(self, output: str, shape: Sequence[int | str], rename: str = "logits") -> onnx.ModelProto:
        """Close the graph with one output, check it and hand it over."""
        self.nodes.append(helper.make_node("Identity", [output], [rename], name="output"))
        graph = helper.make_graph(
            self.nodes,
            "test",
            self.inputs,
            [helper.make_tensor_value_info(rename, ELEMENT[self.dtype], list(shape))],
            list(self.initializers.values()),
        )
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset <= 18 else 10)
        onnx.checker.check_model(model, full_check=True)
        return model


@dataclass(frozen=True)
class Built:
    """A model, its weights in the textbook's form (float64 copies of the stored numbers), and how to feed it.

    Inputs: "x" [T, B, D] (or [B, T, D] if `batch_first`), where asked for "lens" [B] int32, "initial_h_<layer>" and
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


def run(model: onnx.ModelProto, feeds: Mapping[str, AnyArray], *outputs: str) -> list[AnyArray]:
    """ONNX Runtime's answer, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(list(outputs) or None, dict(feeds)))


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
    """Weights of a size at which gates are neither open nor shut. Rounded to dtype, kept as float64."""
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

    `activations` names those of all directions one after another, or of one direction, which then serves both.
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
    """The ONNX model of given weights: one LSTM, GRU or RNN node a layer."""
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
    logits = _dense(g, network, seen)
    model = g.model(logits, [B, len(network.b)])
    return Built(model, network, np.dtype(dtype), batch_first, batch, constant_states)


# Of `diverging_model`: an input of which two large entries cancel, and one of which none do. Inside, the two
# are 1e5 and 25/32 - 1e5, which float32 holds exactly.
CANCELLING, CALM = (1000.0, -999.9921875), (0.02, 0.03)

INNER, OUTER = np.array([[100.0], [100.0]]), np.array([[1.0, 0.5, -1.0]])


def diverging_model(activation: str = "") -> onnx.ModelProto:
    """x float32 [B, 2] to `logits` [B, 3], or through the activation to `p`: two linear layers of one unit and three.

    The sum that cancels lies inside, so that the output itself is of ordinary size.
    """
    g = GraphBuilder(np.float32, 17)
    inner = g.op("MatMul", [g.input("x", ["B", 2]), g.constant(INNER, "inner")])
    logits = g.op("MatMul", [inner, g.constant(OUTER, "outer")])
    if activation:
        return g.model(g.op(activation, [logits]), ["B", 3], rename="p")
    return g.model(logits, ["B", 3], rename="logits")


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


def _dense(g: GraphBuilder, network: Network, seen: str) -> str:
    W, b = g.constant(network.W, "W_dense"), g.constant(network.b, "b_dense")
    return g.op("Gemm", [seen, W, b], "dense", transB=1)


def unrolled_model(
    network: Network,
    steps: int,
    *,
    batch_first: bool = False,
    gemm: bool = False,
    fused: bool = True,
    concat: bool = False,
    dtype: npt.DTypeLike = np.float32,
    opset: int = 17,
) -> Built:
    """The same cells with the same weights, unrolled over `steps` into primitives, as scripted cells are exported.

    `gemm`: Gemm with its bias instead of MatMul and Add. `fused`: one product for all gates and a Split, else one a
    gate. `concat`: one product over [x_t, h_{t-1}] instead of two that are added. Only this one is the recurrent node's
    rule to the letter (one epsilon-rule over N = D + H); the others stabilise each partial sum by itself and agree as
    epsilon goes to 0. Only the forward direction, default activations, no peepholes, no clip, no input_forget.
    """
    g = GraphBuilder(dtype, opset)
    D = network.layers[0].W.shape[2]
    x = g.input("x", ["B", steps, D] if batch_first else [steps, "B", D])
    below = [
        g.op("Gather", [x, g.constant(np.array(t, dtype=np.int64), f"t_{t}")], axis=int(batch_first))
        for t in range(steps)
    ]
    rows = g.op("Gather", [g.op("Shape", [x]), g.ints(0 if batch_first else 1)], axis=0)
    cells: list[str] = []
    for k, layer in enumerate(network.layers):
        below, cells = _Unroller(g, layer, k, gemm, fused, concat).run(below, rows)
    seen = _unrolled_head(g, network, below, cells)
    return Built(g.model(_dense(g, network, seen), ["B", len(network.b)]), network, np.dtype(dtype), batch_first)


def _unrolled_head(g: GraphBuilder, network: Network, hs: list[str], cs: list[str]) -> str:
    if network.head in ("last", "Y_h"):
        return hs[-1]
    if network.head == "Y_c":
        return cs[-1]
    Y = g.op("Concat", [g.unsqueeze(h, 0) for h in hs], axis=0)
    return g.reduce("mean" if network.head == "mean" else "sum", Y, 0, "head")


class _Unroller:
    """Writes one layer's steps. Weights are stored transposed, for x [B, D] @ W [D, M]."""

    def __init__(self, g: GraphBuilder, layer: Layer, k: int, gemm: bool, fused: bool, concat: bool) -> None:
        plain = layer.activations is None and layer.P is None and layer.clip is None and not layer.input_forget
        if not plain or layer.direction != "forward":
            raise ValueError("only plain forward layers can be unrolled")
        self.g, self.layer, self.k = g, layer, k
        self.gemm, self.fused, self.concat = gemm, fused, concat
        self.H, gates = layer.hidden, GATES[layer.op]
        B = np.zeros(2 * gates * self.H) if layer.B is None else layer.B[0]
        self.Wb, self.Rb = np.split(B, 2)

    def run(self, xs: list[str], rows: str) -> tuple[list[str], list[str]]:
        """Names of h_t and c_t for every step (c only for the LSTM)."""
        shape = self.g.op("Concat", [rows, self.g.ints(self.H)], axis=0)
        zero = numpy_helper.from_array(np.zeros(1, dtype=self.g.dtype))
        h = c = self.g.op("ConstantOfShape", [shape], value=zero)
        hs, cs = [], []
        for x in xs:
            if self.layer.op == "LSTM":
                h, c = self.lstm(x, h, c)
            else:
                h = self.gru(x, h) if self.layer.op == "GRU" else self.rnn(x, h)
            hs.append(h)
            cs.append(c)
        return hs, cs

    def linear(self, a: str, W: npt.NDArray[np.float64], b: npt.NDArray[np.float64], name: str) -> str:
        """a W^T + b, W [M, D]."""
        weight, bias = self.g.constant(W.T, f"{name}_W_{self.k}"), self.g.constant(b, f"{name}_b_{self.k}")
        if self.gemm:
            return self.g.op("Gemm", [a, weight, bias])
        return self.g.op("Add", [self.g.op("MatMul", [a, weight]), bias])

    def affine(self, x: str, h: str, rows: slice, name: str) -> str:
        """W x + R h + Wb + Rb for some rows of the stacked gates."""
        W, R = self.layer.W[0, rows], self.layer.R[0, rows]
        Wb, Rb = self.Wb[rows], self.Rb[rows]
        if self.concat:
            joined = self.g.op("Concat", [x, h], axis=1)
            return self.linear(joined, np.hstack([W, R]), Wb + Rb, f"{name}_joined")
        return self.g.op("Add", [self.linear(x, W, Wb, f"{name}_x"), self.linear(h, R, Rb, f"{name}_h")])

    def gates(self, x: str, h: str, letters: str) -> dict[str, str]:
        """Pre-activations of the first gates in storage order."""
        H = self.H
        if self.fused and len(letters) > 1:
            z = self.affine(x, h, slice(0, len(letters) * H), "gates")
            return dict(zip(letters, self.g.split(z, len(letters), H, axis=1), strict=True))
        return {s: self.affine(x, h, slice(j * H, (j + 1) * H), f"gate_{s}") for j, s in enumerate(letters)}

    def lstm(self, x: str, h: str, c: str) -> tuple[str, str]:
        op, z = self.g.op, self.gates(x, h, "iofc")
        i, o, f = (op("Sigmoid", [z[gate]]) for gate in "iof")
        kept, added = op("Mul", [f, c]), op("Mul", [i, op("Tanh", [z["c"]])])
        c = op("Add", [kept, added])
        return op("Mul", [o, op("Tanh", [c])]), c

    def gru(self, x: str, h: str) -> str:
        op, pre, rows = self.g.op, self.gates(x, h, "zr"), slice(2 * self.H, 3 * self.H)
        z, r = op("Sigmoid", [pre["z"]]), op("Sigmoid", [pre["r"]])
        if self.layer.linear_before_reset:
            u = self.linear(h, self.layer.R[0, rows], self.Rb[rows], "candidate_h")
            wx = self.linear(x, self.layer.W[0, rows], self.Wb[rows], "candidate_x")
            n = op("Tanh", [op("Add", [wx, op("Mul", [r, u])])])
        else:
            n = op("Tanh", [self.affine(x, op("Mul", [r, h]), rows, "candidate")])
        one = self.g.constant(np.ones(1), "one")
        return op("Add", [op("Mul", [op("Sub", [one, z]), n]), op("Mul", [z, h])])

    def rnn(self, x: str, h: str) -> str:
        return self.g.op("Tanh", [self.affine(x, h, slice(0, self.H), "hidden")])
