# SPDX-License-Identifier: Apache-2.0
"""Assembles the command line, one file per command: inspect, explain, evaluate, calibrate, compile, batch,
serve, health, verify, operations.

Commands import the engine when they run, so that help and usage errors appear at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

try:
    import typer
    from rich.console import Console  # noqa: F401 - the commands need it
except ImportError:
    sys.exit("lstm-explain: the command line needs the extra `server`: pip install 'lstm-explain[server]'")

from lstm_explain.cli.batch import batch
from lstm_explain.cli.calibrate import calibrate
from lstm_explain.cli.compile import compile as compile_model
from lstm_explain.cli.evaluate import evaluate
from lstm_explain.cli.explain import explain
from lstm_explain.cli.inspect import inspect
from lstm_explain.cli.operations import operations
from lstm_explain.cli.options import NOT_POSSIBLE, OK, USAGE, fail
from lstm_explain.cli.serve import health, serve
from lstm_explain.cli.verify import verify

app = typer.Typer(
    name="lstm-explain",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Explains the predictions of recurrent ONNX models by relevance propagation."""
    if version:
        from lstm_explain import __version__

        print(f"lstm-explain {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (inspect, explain, evaluate, calibrate, batch):
    app.command()(command)
app.command("compile")(compile_model)
app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(serve)
app.command()(health)
app.command()(verify)
app.command()(operations)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line. Every error is one line on stderr."""
    command = typer.main.get_command(app)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if "--help" in arguments:
            _list_methods(command)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            sys.exit(command.main(args=arguments, prog_name="lstm-explain", standalone_mode=False) or OK)
    except typer.Abort:
        fail("aborted", NOT_POSSIBLE)
    except Exception as error:
        fail(*_described(error))


def _show_warning(message: Warning | str, *place: Any, **more: Any) -> None:
    """Writes a warning as one line on stderr, without the place in the code."""
    print(f"lstm-explain: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _list_methods(command: Any) -> None:
    """Lists the methods in the help of the commands that take one. Importing the registry loads NumPy, which is too
    slow for anything else.
    """
    from lstm_explain.methods import METHODS

    width = max(map(len, METHODS))
    lines = [f"  {name:{width}}  {method.words.hint}" for name, method in METHODS.items()]
    for one in command.commands.values():
        if any(parameter.name == "method" for parameter in one.params):
            one.epilog = "\n".join(["\b", "Methods (docs/methods.md says more):", *lines])


def _described(error: Exception) -> tuple[str, int]:
    """Returns the message and exit code of an error. An unexpected error is raised if the log level is debug."""
    if hasattr(error, "format_message"):  # an error of click's; typer may bundle its own copy of click
        return error.format_message(), USAGE
    if isinstance(error, ImportError):
        return f"{error}; it comes with the extra `server`: pip install 'lstm-explain[server]'", NOT_POSSIBLE
    from lstm_explain.errors import Error, UnsupportedOperator

    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error), USAGE
    if isinstance(error, Error):
        return str(error), NOT_POSSIBLE if type(error) in (Error, UnsupportedOperator) else USAGE
    if os.environ.get("LSTM_EXPLAIN_LOG_LEVEL") == "debug":
        raise error
    return f"unexpected {type(error).__name__}: {error}", NOT_POSSIBLE
