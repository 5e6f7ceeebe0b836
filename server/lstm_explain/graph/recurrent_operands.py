"""Holds the operands of recurrent nodes (and STFT) against the operator's definition, before anything runs.

Kernels read and write by the sizes that a node declares, so a weight that is too short would be read past its end. What
is known when a model is loaded is checked here; what only a request brings, by `rules.recurrent` and ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import Array, Graph, Node, ValueType

QUANTISED = "com.microsoft::DynamicQuantizeLSTM"
MOST_UNITS = 1 << 20  # of one node: more is a mistake, and its arithmetic with sizes must not overflow
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


@dataclass(frozen=True)
class Cell:
    """gates: blocks of rows in W and R. activations: of one direction."""

    gates: int
    activations: int


CELLS = {"LSTM": Cell(4, 3), "GRU": Cell(3, 2), "RNN": Cell(1, 1), QUANTISED: Cell(4, 3)}
REQUIRED = {"X": 0, "W": 1, "R": 2}

# By operand, its slot and its extents: D directions, G gates times hidden units, 2 twice as many, 3 three times the
# hidden units, I inputs, T steps, B samples, H hidden units.
SHAPES = {
    "X": (0, "TBI"),
    "W": (1, "DGI"),
    "R": (2, "DGH"),
    "B": (3, "D2"),
    "sequence_lens": (4, "B"),
    "initial_h": (5, "DBH"),
    "initial_c": (6, "DBH"),
    "P": (7, "D3"),
}
BATCH_FIRST = {"X": (0, "BTI"), "initial_h": (5, "BDH"), "initial_c": (6, "BDH")}
# ONNX Runtime's own has its weights the other way round, and scales and zero points by direction or by row of weights.
LEVELS = {"W": (1, "DIG"), "R": (2, "DHG")}
LEVELS |= {name: (8 + i, "D|DG") for i, name in enumerate(("W_scale", "W_zero_point", "R_scale", "R_zero_point"))}


def check_operands(graph: Graph, *, folded: bool = False) -> None:
    """Raises ModelError for the first node, in bodies too, whose operands or attributes do not fit.

    folded: what is no constant by now will only be known when it runs.
    """
    for node in graph.nodes:
        if node.op in CELLS:
            _check(node, graph)
        elif node.op == "STFT" and (fault := _frames(node, graph, folded=folded)):
            raise ModelError(f"node {node.name!r} (STFT): {fault}")
        for body in node.bodies.values():
            check_operands(body, folded=folded)


def _frames(node: Node, graph: Graph, *, folded: bool) -> str:
    """ONNX Runtime (1.32) divides by the length of a frame, and the processor answers 0 with a signal."""
    window, length = node.input(2), node.input(3)
    extents = graph.type_of(window).shape if window else None
    size = extents[0] if extents else None
    constant = graph.constants.get(length)
    if (isinstance(size, int) and size < 1) or (constant is not None and not (constant > 0).all()):
        return "frames hold no step, expected a frame_length, or a window, of at least 1"
    unknown = constant is None if length else not isinstance(size, int) and window not in graph.inputs
    return "the length of its frames is computed, expected a constant" if folded and unknown else ""


def _check(node: Node, graph: Graph) -> None:
    problem = _attributes(node) or _missing(node)
    if problem:
        raise ModelError(f"node {node.name!r} ({node.op}): {problem}")
    extents = _declared(node)
    for operand, (slot, letters) in _shapes(node).items():
        name = node.input(slot)
        if not name:
            continue
        kind = graph.type_of(name)
        fault = _misfit(operand, kind, letters, extents, node) or _wrong_type(node, operand, kind, graph)
        if fault:
            raise ModelError(f"node {node.name!r} ({node.op}): {fault}")
    lengths = graph.constants.get(node.input(4))
    if lengths is not None and (fault := _lengths(lengths, extents.get("T"))):
        raise ModelError(f"node {node.name!r} ({node.op}): {fault}")


def _attributes(node: Node) -> str:
    """What is wrong with them; empty if nothing is."""
    hidden, direction = node.attribute("hidden_size"), node.attribute("direction", "forward")
    if not isinstance(hidden, int) or not 0 < hidden <= MOST_UNITS:
        came = "is missing" if hidden is None else f"is {hidden!r}"
        return f"hidden_size {came}, expected a whole number from 1 to {MOST_UNITS}"
    if direction not in DIRECTIONS:
        return f"direction is {direction!r}, expected {', '.join(DIRECTIONS)}"
    layout, clip = node.attribute("layout", 0), node.attribute("clip", 0.0)
    if layout not in (0, 1):
        return f"layout is {layout!r}, expected 0 or 1"
    if not isinstance(clip, float) or not clip >= 0:
        return f"clip is {clip!r}, expected a positive number"
    return _activations(node, CELLS[node.op].activations * DIRECTIONS[direction])


def _activations(node: Node, count: int) -> str:
    names = node.attribute("activations")
    if names and (not _all(names, str) or len(names) != count):
        return f"activations are {names!r}, expected {count} names"
    for attribute in ("activation_alpha", "activation_beta"):
        numbers = node.attribute(attribute)
        if numbers and not _all(numbers, float):
            return f"{attribute} is {numbers!r}, expected a list of numbers"
    return ""


def _all(values: object, kind: type) -> bool:
    return isinstance(values, Iterable) and not isinstance(values, str) and all(isinstance(v, kind) for v in values)


def _missing(node: Node) -> str:
    names = [name for name, slot in REQUIRED.items() if not node.input(slot)]
    return f"{', '.join(names)} missing, a recurrent node needs {', '.join(REQUIRED)}" if names else ""


def _shapes(node: Node) -> Mapping[str, tuple[int, str]]:
    shapes = dict(SHAPES)
    if node.attribute("layout", 0) == 1:
        shapes |= BATCH_FIRST
    if node.op == QUANTISED:
        shapes |= LEVELS
    elif node.op != "LSTM":
        del shapes["initial_c"], shapes["P"]
    return shapes


def _declared(node: Node) -> dict[str, int]:
    """Extents by letter, as far as the attributes tell; operands add those that they have."""
    hidden, gates = node.attribute("hidden_size"), CELLS[node.op].gates
    directions = DIRECTIONS[node.attribute("direction", "forward")]
    return {"D": directions, "H": hidden, "G": gates * hidden, "2": 2 * gates * hidden, "3": 3 * hidden}


def _misfit(operand: str, kind: ValueType, letters: str, extents: dict[str, int], node: Node) -> str:
    """Adds the operand's extents to those that are known, or tells what does not fit."""
    shape = kind.shape
    if shape is None:
        return ""
    if operand == "X" and 0 in shape:
        return f"X has the shape {_shown(shape)}, expected steps, samples and features"
    for option in letters.split("|"):
        if _fits(shape, [extents.get(letter) for letter in option]):
            extents.update((letter, d) for letter, d in zip(option, shape, strict=True) if isinstance(d, int))
            return ""
    needed = " or ".join(_shown([extents.get(letter, letter) for letter in option]) for option in letters.split("|"))
    why = [f"hidden_size {node.attribute('hidden_size')}"]
    why += ["direction 'bidirectional'"] if extents["D"] == 2 else []
    why += [f"inputs of width {extents['I']}"] if "I" in letters and "I" in extents else []
    return f"{operand} has the shape {_shown(shape)}, {' and '.join(why)} need{'s' * (len(why) == 1)} {needed}"


def _fits(shape: Sequence[int | str | None], needed: Sequence[int | None]) -> bool:
    """Unknown extents fit any."""
    pairs = zip(shape, needed, strict=False)
    return len(shape) == len(needed) and all(n is None or not isinstance(d, int) or d == n for d, n in pairs)


def _shown(shape: Sequence[int | str | None]) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def _wrong_type(node: Node, operand: str, kind: ValueType, graph: Graph) -> str:
    """All but the lengths are of the input's type."""
    if node.op == QUANTISED or kind.dtype is None:
        return ""
    wanted = np.dtype(np.int32) if operand == "sequence_lens" else graph.type_of(node.inputs[0]).dtype
    if operand == "X" and kind.dtype.kind != "f":
        return f"X is of type {kind.dtype}, expected floating-point numbers"
    return f"{operand} is of type {kind.dtype}, expected {wanted}" if wanted not in (None, kind.dtype) else ""


def _lengths(lengths: Array, steps: int | None) -> str:
    shortest, longest = (int(lengths.min(initial=0)), int(lengths.max(initial=0)))
    if shortest < 0 or (steps is not None and longest > steps):
        most = "the number of steps" if steps is None else steps
        return f"sequence_lens holds numbers from {shortest} to {longest}, expected 0 to {most}"
    return ""
