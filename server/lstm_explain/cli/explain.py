"""Implements `lstm-explain explain`, which explains one batch."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_explain.cli.input_files import read_input, read_npy
from lstm_explain.cli.options import AsJson, ModelPath, pair, target_of
from lstm_explain.kernels import cache

if TYPE_CHECKING:
    from lstm_explain.methods import Method
    from lstm_explain.model import Explanation, Model
    from lstm_explain.repository.served_model import ServedModel
    from lstm_explain.target import Target


def explain(
    model: ModelPath,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=FILE",
            help="An input: a .npy or .npz file, or a table (.csv, .parquet) with a row per time step; - for standard "
            "input. Repeat for more.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A text, for a model with a tokenizer; repeat for more samples.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="A method's name; default: that of model.yaml, otherwise lrp.")
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
            metavar="[OUTPUT:]INDEX|CLASS", help="What to explain; default: as model.yaml says, else the largest."
        ),
    ] = None,
    batch_axis: Annotated[
        str | None, typer.Option(help="The axis of samples in the output, or none; default: that of model.yaml, or 0.")
    ] = None,
    capture: Annotated[list[str] | None, typer.Option(metavar="NAME", help="An inner value to explain too.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Write every array there.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with heatmaps there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explains one batch. Exit code: 1 if the method cannot explain the model, 2 if an argument is wrong."""
    cache.use()
    from lstm_explain.methods import LRP
    from lstm_explain.repository.text_notation import override_from_text

    if not inputs and not text:
        raise typer.BadParameter("give the inputs: --input NAME=FILE, or --text for a model with a tokenizer")
    files = [pair(given, "--input") for given in inputs or ()]
    parameters = dict(pair(given, "--param") for given in param or ())
    served, loaded = _open(model)
    aim = _target(served, loaded, target, batch_axis)
    features = {} if served is None else served.config.features
    arrays = {name: read_input(name, path, loaded, features.get(name, ())) for name, path in files}
    tokens = _encoded(served, text) if text else {}
    arrays |= {name: ids for name, (ids, _) in tokens.items()}
    chosen = override_from_text(LRP() if served is None else served.default_method, method, parameters)
    chosen = _with_baselines(chosen, baseline or (), mean_baseline or (), loaded)
    explanation = loaded.explain(arrays, chosen, aim, capture or ())
    if out is not None:
        _write_npz(out, explanation)
    if html is not None or not as_json:
        words = {name: words for name, (_, words) in tokens.items()}
        _show(explanation, arrays, words, model.stem, html, terminal=not as_json)
    if as_json:
        print(json.dumps(_summary(explanation)))
    for warning in explanation.warnings:
        print(f"lstm-explain: warning: {warning}", file=sys.stderr)


def _open(path: Path) -> tuple[ServedModel | None, Model]:
    """The model, and its version in the repository where `path` is a folder."""
    if not path.is_dir():
        from lstm_explain.loading import load

        return None, load(path)
    from lstm_explain.repository.model_folder import find_model
    from lstm_explain.repository.served_model import load_served

    served = load_served(find_model(path))
    return served, served.model


def _target(served: ServedModel | None, model: Model, target: str | None, batch_axis: str | None) -> Target:
    if served is None:
        return target_of(target, batch_axis or "0", model)
    aim = served.target_from_text(target)
    return aim if batch_axis is None else replace(aim, batch_axis=target_of(None, batch_axis, model).batch_axis)


def _encoded(served: ServedModel | None, texts: Sequence[str]) -> dict[str, Any]:
    """By input, the ids of the texts and their tokens."""
    import numpy as np

    if served is None or not served.text_inputs:
        problem = "--text needs a model folder whose model.yaml names a tokenizer"
        raise typer.BadParameter(problem)
    return {name: text.encode(np.array(texts, object)) for name, text in served.text_inputs.items()}


def _with_baselines(method: Method, baselines: Sequence[str], means: Sequence[str], model: Model) -> Method:
    """The method with baselines from files, if there are any."""
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


def _arrays(explanation: Explanation) -> dict[str, Any]:
    """Every array, by its name in the .npz file."""
    ledger = explanation.ledger
    return {
        **{f"relevance/{name}": array for name, array in explanation.relevance.items()},
        **{f"output/{name}": array for name, array in explanation.outputs.items()},
        **{f"standard_error/{name}": array for name, array in explanation.standard_error.items()},
        **{f"captured/{name}": array for name, array in explanation.captured.items()},
        "explained": explanation.explained,
        "ledger/inputs": ledger.inputs,
        "ledger/initial_states": ledger.initial_states,
        "ledger/absorbed": ledger.absorbed,
        "ledger/residual": ledger.residual,
        **{f"ledger/by_node/{name}": array for name, array in ledger.by_node.items()},
    }


def _write_npz(path: Path, explanation: Explanation) -> None:
    """Writes the arrays, and as text `explained_quantity` and `warnings`, which is empty for a sound answer."""
    import numpy as np

    texts: dict[str, Any] = {"warnings": np.array(explanation.warnings, np.str_)}
    texts["explained_quantity"] = np.array(explanation.explained_quantity)
    with path.open("wb") as file:  # savez would add a suffix to a path without one
        np.savez(file, **texts, **_arrays(explanation))


def _show(
    explanation: Explanation,
    inputs: dict[str, Any],
    words: dict[str, Any],
    name: str,
    html: Path | None,
    *,
    terminal: bool,
) -> None:
    """Renders the explanation with the client's code, from the message that a client would receive."""
    from lstm_explain.serving.wire import from_explanation
    from lstm_explain_client.result import read_result

    result = read_result(from_explanation(explanation, name, "", words), inputs)
    if html is not None:
        result.to_html(html, title=name)
    if terminal:
        result.print()


def _summary(explanation: Explanation) -> dict[str, Any]:
    return {
        "method": {"name": explanation.method.name, **_json_parameters(explanation.method)},
        "warnings": list(explanation.warnings),
        "explained_quantity": explanation.explained_quantity,
        **{key: array.tolist() for key, array in _arrays(explanation).items()},
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
