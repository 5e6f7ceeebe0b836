# SPDX-License-Identifier: Apache-2.0
"""Implements `lstm-explain explain`, which explains one batch."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_explain.cli.input_files import read_inputs, read_npy
from lstm_explain.cli.opening import open_model, target_for, targets_for
from lstm_explain.cli.options import AsJson, Condition, Grouped, ModelPath, Through, pair
from lstm_explain.cli.progress_bar import runs_bar
from lstm_explain.kernels import cache

if TYPE_CHECKING:
    from lstm_explain.explanation import Explanations
    from lstm_explain.methods import Method
    from lstm_explain.model import Explanation, Model


def explain(
    model: ModelPath,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="[NAME=]FILE",
            help="An input: a .npy or .npz file, or a table (.csv, .parquet) with a row per time step; - for standard "
            "input. Repeat for more; a model's only input needs no name.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A text, for a model with a tokenizer; repeat for more samples.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="One of the methods listed below; default: that of model.yaml, otherwise lrp.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A parameter of the method; it replaces that of model.yaml."),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE.npy", help="The baseline of an input: an array that broadcasts to it."),
    ] = None,
    mean_baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE.npy", help="The baseline of an input: the mean over the samples in the file."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="[OUTPUT:]INDEX|CLASS|MEASURE",
            help="What to explain: an entry of an output, or a measure such as 'mean_squared_error(x)'; default: as "
            "model.yaml says, else the largest entry.",
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="'every class'|'steps 0,6,23'|'0; 3'",
            help="Several targets at once, separated by semicolons; every array of the answer then has them in front.",
        ),
    ] = None,
    batch_axis: Annotated[
        str | None, typer.Option(help="The axis of samples in the output, or none; default: that of model.yaml, or 0.")
    ] = None,
    condition: Condition = "",
    capture: Annotated[list[str] | None, typer.Option(metavar="NAME", help="An inner value to explain too.")] = None,
    through: Through = None,
    groups: Grouped = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Write every array there.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with heatmaps there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explains one batch. Exit code: 1 if the method cannot explain the model, 2 if an argument is wrong."""
    cache.use()
    from lstm_explain.methods import LRP
    from lstm_explain.repository.group_notation import groups_from_text
    from lstm_explain.repository.text_notation import override_from_text
    from lstm_explain.repository.through_notation import through_from_parts

    if not inputs and not text:
        raise typer.BadParameter("give the inputs: --input [NAME=]FILE, or --text for a model with a tokenizer")
    parameters = dict(pair(given, "--param") for given in param or ())
    served, loaded = open_model(model)
    if target is not None and targets is not None:
        raise typer.BadParameter("give --target or --targets, not both")
    aim = target_for(served, loaded, target, batch_axis)
    features = {} if served is None else served.config.features
    arrays: dict[str, Any] = {**read_inputs(inputs or (), loaded, features)}
    if text:
        arrays |= dict.fromkeys(_text_inputs(loaded), text)
    chosen = override_from_text(LRP() if served is None else served.default_method, method, parameters)
    chosen = _with_baselines(chosen, baseline or (), mean_baseline or (), loaded)
    together = None if groups is None else groups_from_text(groups)
    units = through_from_parts(through or ())
    explanation: Explanation | Explanations
    with runs_bar(chosen.name) as progress:
        if targets is None:
            explanation = loaded.explain(arrays, chosen, aim, capture or (), progress, condition, together, units)
        else:
            aims = targets_for(served, loaded, targets, batch_axis)
            explanation = loaded.explain_many(arrays, chosen, aims, capture or (), progress, condition, together, units)
    if out is not None:
        _write_npz(out, explanation)
    if html is not None:
        explanation.to_html(html, title=model.stem)
    if not as_json:
        explanation.print()
    if as_json:
        print(json.dumps(_summary(explanation)))
    for warning in _warnings(explanation):
        print(f"lstm-explain: warning: {warning}", file=sys.stderr)


def _text_inputs(model: Model) -> list[str]:
    if not model.tokenizers:
        problem = "--text needs a model folder whose model.yaml names a tokenizer"
        raise typer.BadParameter(problem)
    return list(model.tokenizers)


def _with_baselines(method: Method, baselines: Sequence[str], means: Sequence[str], model: Model) -> Method:
    """Returns the method with baselines from files, if there are any."""
    from lstm_explain.methods.base import BaselineMethod
    from lstm_explain.program.axes import Axes
    from lstm_explain.runner.baselines import mean_baseline

    if not baselines and not means:
        return method
    if not isinstance(method, BaselineMethod):
        raise typer.BadParameter(f"{method.name} takes no baseline")
    arrays = {name: read_npy(path) for name, path in (pair(text, "--baseline") for text in baselines)}
    for name, path in (pair(text, "--mean-baseline") for text in means):
        arrays |= mean_baseline({name: read_npy(path)}, model.axes.get(name, Axes(0, None)).batch or 0)
    return method.with_baseline(arrays)


def _warnings(explanation: Explanation | Explanations) -> Sequence[str]:
    """Returns the warnings; those of all targets, each once."""
    each = explanation if isinstance(explanation, list) else [explanation]
    return list(dict.fromkeys(warning for one in each for warning in one.warnings))


def _not_explained(explanation: Explanation | Explanations) -> list[Any]:
    """Returns why samples are not explained: one text per sample, in a list per target if there are several; empty
    where no condition was given.
    """
    if isinstance(explanation, list):
        return [list(one.not_explained) for one in explanation if one.not_explained]
    return list(explanation.not_explained)


def _arrays(given: Explanation | Explanations) -> dict[str, Any]:
    """Returns every array, by its name in the .npz file. Those of several targets have an axis of targets in front."""
    from lstm_explain.several import joined

    explanation = joined(given) if isinstance(given, list) else given
    outputs = given[0].outputs if isinstance(given, list) else given.outputs
    ledger = explanation.ledger
    return {
        **{f"relevance/{name}": array for name, array in explanation.relevance.items()},
        **{f"output/{name}": array for name, array in outputs.items()},
        **{f"standard_error/{name}": array for name, array in explanation.standard_error.items()},
        **{f"captured/{name}": array for name, array in explanation.captured.items()},
        **_group_arrays(given if isinstance(given, list) else [given], several=isinstance(given, list)),
        "explained": explanation.explained,
        "ledger/inputs": ledger.inputs,
        "ledger/initial_states": ledger.initial_states,
        "ledger/absorbed": ledger.absorbed,
        "ledger/residual": ledger.residual,
        **{f"ledger/by_node/{name}": array for name, array in ledger.by_node.items()},
    }


def _group_arrays(explanations: Sequence[Explanation], *, several: bool) -> dict[str, Any]:
    """Returns the names, the steps and the relevance of the groups of each input."""
    import numpy as np

    found: dict[str, Any] = {}
    for name, own in explanations[0].groups.items():
        each = [one.groups[name].relevance for one in explanations]
        found[f"groups/{name}/relevance"] = np.stack(each) if several else each[0]
        found[f"groups/{name}/names"] = own.names.astype(np.str_)
        found[f"groups/{name}/steps"] = own.steps
    return found


def _write_npz(path: Path, explanation: Explanation | Explanations) -> None:
    """Writes the arrays, and as text `explained_quantity`, `warnings`, which is empty for a sound answer, and, with a
    condition, `not_explained`. For several targets, `explained_quantity`, `not_explained` and `targets` (such as
    `logits:3`) have an entry per target.
    """
    import numpy as np

    from lstm_explain.target import text_of

    texts: dict[str, Any] = {"warnings": np.array(_warnings(explanation), np.str_)}
    if isinstance(explanation, list):
        texts["explained_quantity"] = np.array([one.explained_quantity for one in explanation], np.str_)
        texts["targets"] = np.array([text_of(one.target) for one in explanation], np.str_)
    else:
        texts["explained_quantity"] = np.array(explanation.explained_quantity)
    if reasons := _not_explained(explanation):
        texts["not_explained"] = np.array(reasons, np.str_)
    with path.open("wb") as file:  # savez would add a suffix to a path without one
        np.savez(file, **texts, **_arrays(explanation))


def _summary(explanation: Explanation | Explanations) -> dict[str, Any]:
    from lstm_explain.repository.as_json import listed
    from lstm_explain.target import text_of

    several = isinstance(explanation, list)
    each = explanation if isinstance(explanation, list) else [explanation]
    own = {
        "targets": [text_of(one.target) for one in each],
        "explained_quantity": [one.explained_quantity for one in each],
    }
    return {
        "method": {"name": each[0].method.name, **_json_parameters(each[0].method)},
        "warnings": list(_warnings(explanation)),
        **(own if several else {"explained_quantity": each[0].explained_quantity}),
        **({"not_explained": reasons} if (reasons := _not_explained(explanation)) else {}),
        **{key: listed(array) for key, array in _arrays(explanation).items()},
    }


def _json_parameters(method: Method) -> dict[str, Any]:
    from lstm_explain.methods.background import Background
    from lstm_explain.methods.composite import Composite

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, Composite):
            return str(value)
        if isinstance(value, Background):
            return f"background(draws={value.draws}, seed={value.seed})"
        return value.tolist() if hasattr(value, "tolist") else value

    return {name: plain(value) for name, value in method.parameters().items()}
