# SPDX-License-Identifier: Apache-2.0
"""Finds out whether the amount of computation depends on the values of inputs and not only on their shapes."""

from __future__ import annotations

from lstm_explain.graph.ir import Graph

# For each operator, the inputs whose values set the size of the output. Operators whose output is never larger than
# their input are not listed: a slice, a selection, the k largest.
SIZES = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1,),
    "ConstantOfShape": (0,),
    "CropAndResize": (3,),
    "DFT": (1,),
    "Expand": (1,),
    "GroupQueryAttention": (6,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
SHAPES = {"Shape", "Size"}  # These read only the shapes of their inputs.
# The values of their inputs decide how many iterations these run. (A Scan has as many steps as its sequence.)
VALUE_CONTROLLED = {"Loop", "BeamSearch", "GreedySearch", "Sampling"}


def sizes_are_fixed(graph: Graph) -> bool:
    """Returns whether the shapes of the inputs alone decide. Every loop counts as one that values control."""
    return _are_fixed(graph, set(graph.inputs))


def depending_on_values(graph: Graph) -> set[str]:
    """Returns the values that depend on the values of inputs and not only on their shapes."""
    found = set(graph.inputs)
    for node in graph.nodes:
        if node.op not in SHAPES and not found.isdisjoint((*node.inputs, *node.captured)):
            found.update(o for o in node.outputs if o)
    return found


def _are_fixed(graph: Graph, data_dependent: set[str]) -> bool:
    """data_dependent: names of the values that depend on the values of inputs; the function adds to it."""
    for node in graph.nodes:
        name = node.op.removeprefix("com.microsoft::")
        if name in VALUE_CONTROLLED or any(node.input(slot) in data_dependent for slot in SIZES.get(name, ())):
            return False
        depends = any(n in data_dependent for n in (*node.inputs, *node.captured))
        for body in node.bodies.values():
            if not _are_fixed(body, data_dependent | (set(body.inputs) if depends else set())):
                return False
        if depends and name not in SHAPES:
            data_dependent.update(o for o in node.outputs if o)
    return True
