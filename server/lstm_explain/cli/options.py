# SPDX-License-Identifier: Apache-2.0
"""Defines the options that several commands share, and how commands fail."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, get_args

import typer

if TYPE_CHECKING:
    from lstm_explain.methods import Method
    from lstm_explain.methods.base import Players
    from lstm_explain.model import Model
    from lstm_explain.target import Target

OK, NOT_POSSIBLE, USAGE, SOME_FAILED = 0, 1, 2, 3
# Without these, libraries would start threads in addition to those that `--threads` allows; they read them on import.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

ModelPath = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="The model's file, or its folder in a repository, whose model.yaml counts."),
]
Condition = Annotated[
    str,
    typer.Option(
        metavar="'probability > 0.8'|'class is A'|'change > 5 from 12.5'",
        help="Explain only where the prediction meets this; clauses are joined by `and`. Default: everywhere.",
    ),
]
Grouped = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="'window=24; features.NAME=A,B'",
        help="Entries that belong together: window=STEPS, words or change_points[=SEGMENTS], and features (as "
        "model.yaml has them) or features.NAME=FIRST,SECOND, separated by semicolons.",
    ),
]
Through = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=UNIT,UNIT", help="Units of an inner value that alone pass relevance on (LRP)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(message: str, code: int) -> NoReturn:
    print(f"lstm-explain: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{option} {text!r} is not NAME=VALUE")
    return name, value


def players_of(over: str) -> Players:
    """Returns the value of `--over`."""
    from lstm_explain.methods.base import Players

    found: Players | None = next((p for p in get_args(Players) if p == over), None)
    if found is None:
        raise typer.BadParameter(f"--over {over!r} is not one of {', '.join(get_args(Players))}")
    return found


def method_of(name: str, parameters: Sequence[str]) -> Method:
    from lstm_explain.repository.text_notation import method_from_text

    return method_from_text(name, dict(pair(text, "--param") for text in parameters))


def target_of(text: str | None, batch_axis: str, model: Model) -> Target:
    from lstm_explain.target import Target, target_from_text

    found = Target() if text is None else target_from_text(text, model.outputs)
    if batch_axis != "none" and not batch_axis.isdigit():
        raise typer.BadParameter(f"--batch-axis {batch_axis!r} is neither a number nor none")
    return replace(found, batch_axis=None if batch_axis == "none" else int(batch_axis))
