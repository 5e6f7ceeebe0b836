"""Assembles the command line, one file per command: inspect, explain, evaluate, calibrate, batch, serve, health.

Commands import the engine when they run, so that help and usage errors appear at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

try:
    import typer
    from rich.console import Console  # noqa: F401 - the commands need it
except ImportError:
    sys.exit("lstm-explain: the command line needs the extra `server`: pip install 'lstm-explain[server]'")

from lstm_explain.cli.batch import batch
from lstm_explain.cli.calibrate import calibrate
from lstm_explain.cli.evaluate import evaluate
from lstm_explain.cli.explain import explain
from lstm_explain.cli.inspect import inspect
from lstm_explain.cli.options import NOT_POSSIBLE, OK, USAGE, fail
from lstm_explain.cli.serve import health, serve

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
app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(serve)
app.command()(health)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line. Every error is one line on stderr."""
    command = typer.main.get_command(app)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if "explain" in arguments and "--help" in arguments:
            _name_methods(command)
        sys.exit(command.main(args=arguments, prog_name="lstm-explain", standalone_mode=False) or OK)
    except typer.Abort:
        fail("aborted", NOT_POSSIBLE)
    except Exception as error:
        fail(*_described(error))


def _name_methods(command: Any) -> None:
    """Lists the methods in the help of explain. Importing the registry loads NumPy, which is too slow for anything
    else.
    """
    from lstm_explain.methods import METHODS

    for parameter in command.commands["explain"].params:
        if parameter.name == "method":
            parameter.help = f"{', '.join(METHODS)}."


def _described(error: Exception) -> tuple[str, int]:
    """The message and exit code of an error. An unexpected error is raised if the log level is debug."""
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
