# SPDX-License-Identifier: Apache-2.0
"""Checks the operands and attributes of recurrent nodes (and of STFT) against the operator's definition.

Kernels trust the sizes that a node declares, so they would read past the end of a weight that is too short. What is
known when a model is loaded is checked here; what only a request reveals is checked by `operators.recurrent` and ONNX
Runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import Array, Graph, Node, ValueType

QUANTISED = "com.microsoft::DynamicQuantizeLSTM"
MAX_UNITS = 1 << 20  # limit of one node: a larger size is a mistake, and arithmetic with sizes must not overflow.
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


@dataclass(frozen=True)
class Cell:
    """gates: blocks of rows in W and R. activations: number per direction."""

    gates: int
    activations: int


CELLS = {"LSTM": Cell(4, 3), "GRU": Cell(3, 2), "RNN": Cell(1, 1), QUANTISED: Cell(4, 3)}
REQUIRED = {"X": 0, "W": 1, "R": 2}

# For each operand, its slot and its extents: D directions, G gates times hidden units, 2 twice as many, 3 three times
# the hidden units, I inputs, T steps, B samples, H hidden units.
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
# ONNX Runtime's quantised LSTM transposes its weights, and has scales and zero points per direction or per row of
# weights.
LEVELS = {"W": (1, "DIG"), "R": (2, "DHG")}
LEVELS |= {name: (8 + i, "D|DG") for i, name in enumerate(("W_scale", "W_zero_point", "R_scale", "R_zero_point"))}


def check_operands(graph: Graph, *, folded: bool = False) -> None:
    """Raises ModelError for the first node, in bodies too, whose operands or attributes do not fit.

    folded: constants have been folded, so that other operands are known only at run time.
    """
    for node in graph.nodes:
        if node.op in CELLS:
            _check(node, graph)
        elif node.op == "STFT" and (fault := _stft_fault(node, graph, folded=folded)):
            raise ModelError(f"node {node.name!r} (STFT): {fault}")
        for body in node.bodies.values():
            check_operands(body, folded=folded)


def _stft_fault(node: Node, graph: Graph, *, folded: bool) -> str:
    """Returns what is wrong with an STFT; ONNX Runtime (1.32) divides by the frame length, and for 0 the processor
    traps.
    """
    window, length = node.input(2), node.input(3)
    extents = graph.type_of(window).shape if window else None
    size = extents[0] if extents else None
    constant = graph.constants.get(length)
    if (isinstance(size, int) and size < 1) or (constant is not None and not (constant > 0).all()):
        return "the frames have no steps, expected a frame_length or a window of at least 1"
    unknown = constant is None if length else not isinstance(size, int) and window not in graph.inputs
    return "the frame length is computed, expected a constant" if folded and unknown else ""


def _check(node: Node, graph: Graph) -> None:
    problem = _attribute_fault(node) or _missing_operands(node)
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
    if lengths is not None and (fault := _lengths_fault(lengths, extents.get("T"))):
        raise ModelError(f"node {node.name!r} ({node.op}): {fault}")


def _attribute_fault(node: Node) -> str:
    """Returns what is wrong with the attributes; empty where nothing is."""
    hidden, direction = node.attribute("hidden_size"), node.attribute("direction", "forward")
    if not isinstance(hidden, int) or not 0 < hidden <= MAX_UNITS:
        state = "is missing" if hidden is None else f"is {hidden!r}"
        return f"hidden_size {state}, expected a whole number from 1 to {MAX_UNITS}"
    if direction not in DIRECTIONS:
        return f"direction is {direction!r}, expected {', '.join(DIRECTIONS)}"
    layout, clip = node.attribute("layout", 0), node.attribute("clip", 0.0)
    if layout not in (0, 1):
        return f"layout is {layout!r}, expected 0 or 1"
    if not isinstance(clip, float) or not clip >= 0:
        return f"clip is {clip!r}, expected a number that is not negative"
    return _activation_fault(node, CELLS[node.op].activations * DIRECTIONS[direction])


def _activation_fault(node: Node, count: int) -> str:
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


def _missing_operands(node: Node) -> str:
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
    """Returns the extents, by letter, that the attributes determine. Operands add the extents that they have."""
    hidden, gates = node.attribute("hidden_size"), CELLS[node.op].gates
    directions = DIRECTIONS[node.attribute("direction", "forward")]
    return {"D": directions, "H": hidden, "G": gates * hidden, "2": 2 * gates * hidden, "3": 3 * hidden}


def _misfit(operand: str, kind: ValueType, letters: str, extents: dict[str, int], node: Node) -> str:
    """Adds the operand's extents to those that are known, or returns why it does not fit."""
    shape = kind.shape
    if shape is None:
        return ""
    if operand == "X" and 0 in shape:
        return f"X has shape {_shown(shape)}, expected steps, samples and features"
    for option in letters.split("|"):
        if _fits(shape, [extents.get(letter) for letter in option]):
            extents.update((letter, d) for letter, d in zip(option, shape, strict=True) if isinstance(d, int))
            return ""
    expected = " or ".join(_shown([extents.get(letter, letter) for letter in option]) for option in letters.split("|"))
    reasons = [f"hidden_size {node.attribute('hidden_size')}"]
    reasons += ["direction 'bidirectional'"] if extents["D"] == 2 else []
    reasons += [f"inputs of width {extents['I']}"] if "I" in letters and "I" in extents else []
    return f"{operand} has shape {_shown(shape)}, {' and '.join(reasons)} need{'s' * (len(reasons) == 1)} {expected}"


def _fits(shape: Sequence[int | str | None], expected: Sequence[int | None]) -> bool:
    """Returns whether the shape fits; unknown extents fit any."""
    pairs = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(n is None or not isinstance(d, int) or d == n for d, n in pairs)


def _shown(shape: Sequence[int | str | None]) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def _wrong_type(node: Node, operand: str, kind: ValueType, graph: Graph) -> str:
    """Returns why the type is wrong: every operand except the lengths has the type of the input."""
    if node.op == QUANTISED or kind.dtype is None:
        return ""
    expected = np.dtype(np.int32) if operand == "sequence_lens" else graph.type_of(node.inputs[0]).dtype
    if operand == "X" and kind.dtype.kind != "f":
        return f"X is of type {kind.dtype}, expected floating-point numbers"
    return f"{operand} is of type {kind.dtype}, expected {expected}" if expected not in (None, kind.dtype) else ""


def _lengths_fault(lengths: Array, steps: int | None) -> str:
    shortest, longest = (int(lengths.min(initial=0)), int(lengths.max(initial=0)))
    if shortest < 0 or (steps is not None and longest > steps):
        most = "the number of steps" if steps is None else steps
        return f"sequence_lens has values from {shortest} to {longest}, expected 0 to {most}"
    return ""
