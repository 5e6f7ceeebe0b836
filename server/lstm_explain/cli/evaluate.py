# SPDX-License-Identifier: Apache-2.0
"""Implements `lstm-explain evaluate`, which measures and compares methods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lstm_explain.cli.input_files import read_inputs
from lstm_explain.cli.options import AsJson, ModelPath, method_of, players_of, target_of
from lstm_explain.kernels import cache


def evaluate(
    model: ModelPath,
    inputs: Annotated[list[str], typer.Option("--input", metavar="[NAME=]FILE", help="An input with many samples.")],
    method: Annotated[
        list[str] | None, typer.Option(metavar="NAME[:PARAM=VALUE,…]", help="Repeat to compare; default: lrp.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="[OUTPUT:]INDEX", help="What to explain; default: the largest entry.")
    ] = None,
    baseline: Annotated[float, typer.Option(help="The value that replaces a deleted time step.")] = 0.0,
    over: Annotated[str, typer.Option(help="What is deleted: steps, features or cells.")] = "steps",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per batch.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random orders and weights.")] = 0,
    randomise: Annotated[bool, typer.Option(help="Check that relevance changes with the weights.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Write the deletion curves there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measures methods: deletion and insertion curves, conservation, agreement, randomised weights."""
    cache.use(wait=True)
    from lstm_explain.evaluate.show import follow, print_summary
    from lstm_explain.evaluate.summary import count_steps, split, summarise
    from lstm_explain.opening import load
    from lstm_explain.repository.text_notation import split_parameters

    players = players_of(over)
    loaded = load(model)
    arrays = read_inputs(inputs, loaded)
    loaded.predict(arrays)  # Reports what is wrong with them.
    named = [text.partition(":") for text in method or ["lrp"]]
    methods = [method_of(name, split_parameters(parameters)) for name, _, parameters in named]
    data = split(loaded, arrays, batch_size)
    count = count_steps(len(data), len(methods), randomise=randomise, nodes=len(loaded.proto.graph.node))
    with follow(count) as progress:
        summary = summarise(
            loaded, data, methods, target_of(target, "0", loaded), baseline=baseline, over=players, seed=seed,
            randomise=randomise, progress=progress,
        )  # fmt: skip
    if plot is not None:
        plot.write_text(summary.chart(), encoding="utf-8")
    if as_json:
        print(json.dumps(summary.as_json()))
    else:
        print_summary(summary)
