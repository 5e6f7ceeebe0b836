# SPDX-License-Identifier: Apache-2.0
"""Implements `lstm-explain calibrate`, which chooses LRP's parameters for a model by measuring on its own inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_explain.cli.options import AsJson, ModelPath, pair, players_of
from lstm_explain.cli.progress_bar import open_bar
from lstm_explain.kernels import cache

if TYPE_CHECKING:
    from lstm_explain.calibration import Calibration
    from lstm_explain.calibration.setup import Progress

BUDGET = 240.0  # as in calibration, which this module cannot import before it runs
REPORT = "calibration.html"


def calibrate(
    model: ModelPath,
    data: Annotated[
        Path, typer.Option("--data", metavar="DATA", help="Inputs without labels: .npz, .npy, .parquet, .arrow, .txt.")
    ],
    column: Annotated[
        list[str] | None, typer.Option(metavar="INPUT=COLUMN", help="An input's name in the data, if they differ.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="[OUTPUT:]INDEX", help="What to explain; default: the model's own.")
    ] = None,
    baseline: Annotated[
        float | None, typer.Option(help="What replaces deleted values; default: feature means, 0 for tokens.")
    ] = None,
    over: Annotated[str, typer.Option(help="What is deleted: steps, features or cells.")] = "steps",
    budget: Annotated[float, typer.Option(min=1.0, metavar="SECONDS", help="About how long it may take.")] = BUDGET,
    samples: Annotated[int, typer.Option(min=4, help="How many samples to draw from the data at most.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random draws.")] = 0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help=f"The report; default: {REPORT} next to model.yaml.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Leave model.yaml as it is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Chooses the stabiliser of LRP for a model by measuring, and writes the choice to its model.yaml.

    Exit code: 1 if LRP cannot explain the model, 2 if an argument is wrong.
    """
    cache.use(wait=True)
    from lstm_explain import __version__
    from lstm_explain.calibration import calibrate as run
    from lstm_explain.calibration.card import with_method, write
    from lstm_explain.calibration.data import read_samples
    from lstm_explain.calibration.page import page
    from lstm_explain.methods import LRP
    from lstm_explain.repository.model_folder import find_model
    from lstm_explain.repository.served_model import load_served

    players = players_of(over)
    source = find_model(model)
    served = load_served(source)
    card = source.config_file.read_text(encoding="utf-8") if source.config_file.is_file() else ""
    if not dry_run:
        with_method(card, {"name": "lrp"}, [], source.config_file.name)  # Fails before the work, not after it.
    columns = dict(pair(text, "--column") for text in column or ())
    drawn = read_samples(served, data, columns, samples, seed)
    base = served.default_method if isinstance(served.default_method, LRP) else LRP()
    with _progress() as progress:
        found = run(
            served.model, drawn, method=base, target=served.target_from_text(target), baseline=baseline, over=players,
            budget=budget, seed=seed, progress=progress,
        )  # fmt: skip
    lines = [f"lstm-explain {__version__} calibrate on {data.name}", *found.lines()]
    report = source.config_file.with_name(REPORT) if html is None else html
    report.write_text(page(f"Calibration of {source.name}", found, {"data": str(data)}), encoding="utf-8")
    if not dry_run:
        write(source.config_file, with_method(card, found.entry(), lines, source.config_file.name))
    if as_json:
        print(json.dumps(found.as_json()))
    else:
        _print(found, {"report": report, **({} if dry_run else {"written to": source.config_file})})


@contextmanager
def _progress() -> Iterator[Progress]:
    with open_bar() as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)


def _print(found: Calibration, files: Mapping[str, Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title="measured on held-out samples", title_justify="left")
    table.add_column("method", overflow="fold")
    for heading in ("samples", "deletion", "insertion", "untrusted", "Shapley", "noise"):
        table.add_column(heading, justify="right")
    for row in found.rows():
        numbers = (f"{row.deletion:.4g}", f"{row.insertion:.4g}", f"{100 * row.untrusted:.1f} %")
        optional = ("" if value is None else f"{value:.2f}" for value in (row.shapley, row.sensitivity))
        table.add_row(
            row.name, str(row.samples), *numbers, *optional, style="bold" if row.name == found.label else None
        )
    console.print(table)
    print(f"chosen: {found.label}; {found.verdict()}")
    print(f"method: {json.dumps(found.entry())}")
    for what, path in files.items():
        print(f"{what}: {path}")
