# SPDX-License-Identifier: Apache-2.0
"""Implements `lstm-explain operations`, which shows, awaits and ends the operations of a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_explain.cli.options import NOT_POSSIBLE, AsJson, fail

if TYPE_CHECKING:
    from lstm_explain_client import Operation


def operations(
    name: Annotated[str | None, typer.Argument(help="An operation; without one, all of them are listed.")] = None,
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", envvar="LSTM_EXPLAIN_LISTEN", help="Where the server listens.")
    ] = "127.0.0.1:50051",
    token: Annotated[
        str | None, typer.Option(envvar="LSTM_EXPLAIN_TOKEN", help="The caller's token; better as the variable.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="Use TLS, with this certificate authority.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the operation has ended.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the operation, and wait until it has ended.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the operation and its result.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lists the caller's operations, or shows, awaits, cancels or deletes one.

    Exit code: 0, or 1 if the operation failed or the server refuses.
    """
    from lstm_explain_client import TLS, Client, ExplainError

    if name is None and (wait or cancel or delete):
        raise typer.BadParameter("--wait, --cancel and --delete need the name of an operation")
    try:
        with Client(address, tls=False if ca is None else TLS(ca), token=token, names=False) as client:
            found = client.operations() if name is None else [client.operation(name)]
            for operation in found:
                if cancel:
                    operation.cancel()
                if wait or cancel:
                    _end(operation)
                print(json.dumps(_as_json(operation)) if as_json else _line(operation))
                if delete:
                    operation.delete()
    except ExplainError as error:
        fail(str(error), NOT_POSSIBLE)
    if wait and any(operation.state == "failed" for operation in found):
        fail(found[0].problem, NOT_POSSIBLE)


def _end(operation: Operation) -> None:
    """Waits for the end, whatever it is."""
    from lstm_explain_client import ExplainError

    try:
        operation.result()
    except ExplainError:
        if not operation.done:
            raise


def _line(operation: Operation) -> str:
    progress = "" if operation.progress is None else f"  {operation.progress[0]:,} of {operation.progress[1]:,}"
    attempts = f"  attempt {operation.attempts}" if operation.attempts > 1 else ""
    named = f"{operation.model} version {operation.version}"
    problem = f"  {operation.problem}" if operation.state == "failed" else ""
    when = f"{operation.created:%Y-%m-%d %H:%M:%S} UTC"
    return f"{operation.name}  {when}  {operation.state:<9}  {named}{progress}{attempts}{problem}"


def _as_json(operation: Operation) -> dict[str, Any]:
    return {
        "name": operation.name,
        "kind": operation.kind,
        "state": operation.state,
        "model": operation.model,
        "version": operation.version,
        "progress": operation.progress,
        "attempts": operation.attempts,
        "created": operation.created.isoformat(),
        "expires": None if operation.expires is None else operation.expires.isoformat(),
        "problem": operation.problem,
    }
