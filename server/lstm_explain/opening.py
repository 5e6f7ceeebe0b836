# SPDX-License-Identifier: Apache-2.0
"""Loads a model from a file, or from a folder with its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from lstm_explain.errors import ModelError
from lstm_explain.loading import load as load_file
from lstm_explain.model import Model


def load(source: str | Path | bytes | onnx.ModelProto, *, gates: Mapping[str, int | None] | None = None) -> Model:
    """Loads a model from a path, the bytes of a file, or a ModelProto. Raises ModelError.

    A path may be that of a model's folder or version (the newest version is taken). Then the axes, gates and padding of
    its model.yaml and the background set of its background.npz apply, but not its default method and target.

    gates: by the name of a node in `report()`, the slot of the operand that is the gate (0 or 1; None: neither), for
    products whose gate cannot be determined from the graph; for a folder, model.yaml says so. External data is read
    only from the model's own folder.
    """
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        for name, slot in (gates or {}).items():
            if slot not in (0, 1, None):
                raise ModelError(f"gates: the gate of node {name!r} is {slot!r}, expected 0, 1 or None")
        model = load_file(source, gates=gates)
        _check_names(model, gates or {})
        return model
    if gates is not None:
        raise ModelError(f"gates are given for the folder {str(source)!r}, expected them in its model.yaml")
    # Imported here, because the engine itself needs neither YAML nor tokenizers.
    from lstm_explain.repository.model_folder import find_model
    from lstm_explain.repository.served_model import load_served

    try:
        return load_served(find_model(Path(source))).model
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise ModelError(f"cannot read the model in {str(source)!r}: {problem}") from error


def _check_names(model: Model, gates: Mapping[str, int | None]) -> None:
    """Raises ModelError for the gate of a node that the model does not have."""
    if not gates:
        return
    known = {name for node in model.report().nodes for name in (node.name, node.name.rpartition("/body/")[2])}
    repeats = model.engine.graph.repeats
    known |= frozenset() if repeats is None else repeats.nodes
    for name in gates:
        if name not in known:
            raise ModelError(f"gates: the model has no node {name!r}; report() lists the nodes")
