"""The command line: inspect, explain, evaluate, batch, serve, health; one file a command.

The engine is imported inside the commands, so that help and mistakes are told at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

try:
    import typer
    from rich.console import Console  # noqa: F401 - what the commands need
except ImportError:  # told by main()
    sys.exit("lstm-explain: the command line needs the server's extra: pip install 'lstm-explain[server]'")

from lstm_explain.cli.batch import batch
from lstm_explain.cli.evaluate import evaluate
from lstm_explain.cli.explain import explain
from lstm_explain.cli.inspect import inspect
from lstm_explain.cli.options import NOT_POSSIBLE, OK, USAGE, fail
from lstm_explain.cli.serve import health, serve

app = typer.Typer(
    name="lstm-explain",
    help="Explains the predictions of recurrent ONNX models by relevance propagation.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (inspect, explain, evaluate, batch):
    app.command()(command)
app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(serve)
app.command()(health)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line; every error is one line on stderr."""
    command = typer.main.get_command(app)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if "explain" in arguments and "--help" in arguments:
            _name_methods(command)
        sys.exit(command.main(args=arguments, prog_name="lstm-explain", standalone_mode=False) or OK)
    except typer.Abort:
        fail("aborted", NOT_POSSIBLE)
    except Exception as error:
        fail(*_told(error))


def _name_methods(command: Any) -> None:
    """The registry of methods needs NumPy, which takes too long for everything but the help that names them."""
    from lstm_explain.methods import METHODS

    for parameter in command.commands["explain"].params:
        if parameter.name == "method":
            parameter.help = f"{', '.join(METHODS)}."


def _told(error: Exception) -> tuple[str, int]:
    """Message and exit code of an error; of one that nobody foresaw, the traceback if the log level is debug."""
    if hasattr(error, "format_message"):  # click's, of which typer may carry a copy of its own
        return error.format_message(), USAGE
    if isinstance(error, ImportError):
        return f"{error}; the server's extra has it: pip install 'lstm-explain[server]'", NOT_POSSIBLE
    from lstm_explain.errors import Error, UnsupportedOperator

    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error), USAGE
    if isinstance(error, Error):
        return str(error), NOT_POSSIBLE if type(error) in (Error, UnsupportedOperator) else USAGE
    if os.environ.get("LSTM_EXPLAIN_LOG_LEVEL") == "debug":
        raise error
    return f"unexpected {type(error).__name__}: {error}", NOT_POSSIBLE
