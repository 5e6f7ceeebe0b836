# SPDX-License-Identifier: Apache-2.0
"""Opens the model that a command names, and reads the target for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lstm_explain.cli.options import target_of

if TYPE_CHECKING:
    from lstm_explain.model import Model
    from lstm_explain.repository.served_model import ServedModel
    from lstm_explain.target import Target
    from lstm_explain.target_sets import TargetSet


def open_model(path: Path) -> tuple[ServedModel | None, Model]:
    """Returns the model, and its version in the repository where `path` is a folder."""
    if not path.is_dir():
        from lstm_explain.loading import load

        return None, load(path)
    from lstm_explain.repository.model_folder import find_model
    from lstm_explain.repository.served_model import load_served

    served = load_served(find_model(path))
    return served, served.model


def target_for(served: ServedModel | None, model: Model, target: str | None, batch_axis: str | None) -> Target:
    if served is None:
        return target_of(target, batch_axis or "0", model)
    aim = served.target_from_text(target)
    return aim if batch_axis is None else replace(aim, batch_axis=target_of(None, batch_axis, model).batch_axis)


def targets_for(served: ServedModel | None, model: Model, targets: str, batch_axis: str | None) -> Sequence[TargetSet]:
    """Returns the targets that the text of `--targets` lists. Raises TargetError."""
    from lstm_explain.target_sets import parse_targets, with_target

    axis = None if batch_axis is None else target_of(None, batch_axis, model).batch_axis
    found = parse_targets(targets, model.outputs) if served is None else served.targets_from_text(targets)
    if not found:
        raise typer.BadParameter("--targets is empty")
    return found if batch_axis is None else [with_target(one, batch_axis=axis) for one in found]
