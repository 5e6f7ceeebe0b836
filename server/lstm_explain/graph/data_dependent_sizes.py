"""Whether the values of inputs decide how much there is to compute."""

from __future__ import annotations

from lstm_explain.graph.ir import Graph

# By operator, the inputs whose values set the size of what it makes. What only ever makes less is not here: a slice, a
# selection, the k largest.
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
SHAPES = {"Shape", "Size"}  # of whose inputs only the shape counts
# Go on for as long as a value in them says. (A Scan has as many steps as its sequence.)
ENDLESS = {"Loop", "BeamSearch", "GreedySearch", "Sampling"}


def sizes_are_fixed(graph: Graph) -> bool:
    """Whether the shapes of the inputs alone decide. A loop is taken for one that its values keep going."""
    return _steady(graph, set(graph.inputs))


def _steady(graph: Graph, from_values: set[str]) -> bool:
    """from_values: names of what depends on the values of inputs; added to."""
    for node in graph.nodes:
        name = node.op.removeprefix("com.microsoft::")
        if name in ENDLESS or any(node.input(slot) in from_values for slot in SIZES.get(name, ())):
            return False
        depends = any(n in from_values for n in (*node.inputs, *node.captured))
        for body in node.bodies.values():
            if not _steady(body, from_values | (set(body.inputs) if depends else set())):
                return False
        if depends and name not in SHAPES:
            from_values.update(o for o in node.outputs if o)
    return True
