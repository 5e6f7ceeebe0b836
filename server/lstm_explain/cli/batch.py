# SPDX-License-Identifier: Apache-2.0
"""Implements `lstm-explain batch`, which explains whole data sets."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lstm_explain.cli.options import (
    NOT_POSSIBLE,
    SOME_FAILED,
    THREAD_VARIABLES,
    AsJson,
    Condition,
    Grouped,
    Through,
    fail,
    pair,
)
from lstm_explain.kernels import cache


def batch(
    model: Annotated[Path, typer.Option(metavar="MODEL", help="model.onnx, or a model's folder in a repository.")],
    data: Annotated[Path, typer.Option("--input", metavar="DATA", help="A file, or a folder of files.")],
    output: Annotated[Path, typer.Option(metavar="OUT", help="A new folder, or that of a job to resume.")],
    method: Annotated[str | None, typer.Option(help="As for explain; default: the model's own.")] = None,
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the method.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="[OUTPUT:]INDEX", help="What to explain; default: the model's own.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="'every class'|'steps 0,6,23'|'0; 3'",
            help="Several targets at once, separated by semicolons: a row of OUT for each row and target.",
        ),
    ] = None,
    condition: Condition = "",
    groups: Grouped = None,
    through: Through = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="INPUT=COLUMN", help="The column of an input, if their names differ.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A column to copy to the output, next to file and row.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0: this one, without Ray. Default: one per core.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Ray cluster (auto: the one that this process runs in); default: none."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="OUT", help="The folder of another run, to report drift against.")
    ] = None,
    as_reference: Annotated[
        bool,
        typer.Option("--as-reference", help="Write drift.json next to the model, to which a server compares answers."),
    ] = False,
    shard_rows: Annotated[int | None, typer.Option(min=1, help="Maximum number of rows per output file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explains whole data sets: Parquet, Arrow or NumPy files in, Parquet out.

    A job that was interrupted resumes when it is started again. Exit code: 0 every row is explained, 3 some rows are
    not (see OUT/errors), 1 the job could not finish, 2 an argument is wrong.
    """
    for variable in ("LSTM_EXPLAIN_THREADS", *THREAD_VARIABLES):
        os.environ.setdefault(variable, "1")
    cache.use(wait=True)
    try:
        from lstm_explain.batch import command as job
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("pyarrow", "ray"):
            raise
        fail(f"{error}; it comes with the extra `ray`: pip install 'lstm-explain[ray]'", NOT_POSSIBLE)
    from lstm_explain.batch.show import print_total

    pairs = dict(pair(text, "--param") for text in param or ())
    columns = dict(pair(text, "--column") for text in column or ())
    if target is not None and targets is not None:
        raise typer.BadParameter("give --target or --targets, not both")
    more = condition, groups, through or ()
    request = job.JobRequest(model, data, output, method, pairs, target, columns, key, shard_rows, targets, *more)
    total = job.run(*job.prepare(request), workers, address, reference, as_reference=as_reference)
    if as_json:
        print(json.dumps(total.as_json()))
    else:
        print_total(total, output)
        if as_reference:
            print("reference for drift written to drift.json, next to model.onnx")
    if total.failed:
        sys.exit(SOME_FAILED)
