# SPDX-License-Identifier: Apache-2.0
"""Implements `lstm-explain serve`, and `lstm-explain health`, which asks a server whether it serves."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lstm_explain.cli.options import NOT_POSSIBLE, OK, THREAD_VARIABLES, USAGE, fail
from lstm_explain.errors import Error
from lstm_explain.kernels import cache


def allow_threads(count: int) -> None:
    """Sets every thread variable, whatever the environment says. Call this before NumPy is imported."""
    for variable in ("LSTM_EXPLAIN_THREADS", *THREAD_VARIABLES):
        os.environ[variable] = str(count)


def serve(context: typer.Context) -> None:
    """Serves a folder of models over gRPC; see `lstm-explain serve --help`."""
    from lstm_explain.serving.command_line import read_settings
    from lstm_explain.serving.observability import logs
    from lstm_explain.serving.trials import trial_runner

    if logs.requested_format(context.args) == "json":
        sys.stderr = logs.JsonStderr(sys.stderr)
    try:
        settings = read_settings(context.args)
    except Error as error:
        fail(str(error), USAGE)
    allow_threads(settings.threads)
    os.environ["LSTM_EXPLAIN_MAX_RUNTIME_BYTES"] = str(settings.max_runtime_bytes)
    os.environ["LSTM_EXPLAIN_MAX_NODES"] = str(settings.max_nodes)

    if settings.worker is None:
        from lstm_explain.serving.processes import parent

        parent.run(settings)
    else:
        cache.use()
        gc.disable()  # imports leave next to nothing to collect
        trial_runner.start_early(settings.models, settings.trial_results)
        from lstm_explain.serving.processes import worker

        gc.enable()
        worker.run(settings)
    # A normal exit would wait for explanations that are still running when the grace period ends.
    sys.stdout.flush()
    os._exit(OK)


def health(
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", envvar="LSTM_EXPLAIN_LISTEN", help="Where the server listens.")
    ] = "127.0.0.1:50051",
    service: Annotated[str, typer.Option(help="The full name of a service, or model/<name>; empty: the server.")] = "",
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="Use TLS, with this certificate authority.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="The client's certificate, for mutual TLS.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="The key of the client's certificate.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 3.0,
) -> None:
    """Asks a server whether it serves. Exit code: 0 it does, 1 it does not or does not answer."""
    import grpc

    from lstm_explain.serving.health_probe import ask

    files = [None if path is None else path.read_bytes() for path in (ca, key, certificate)]
    credentials = None if ca is None else grpc.ssl_channel_credentials(*files)
    # a server on all interfaces also listens on the loopback address
    for wildcard, loopback in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):
        address = loopback + address.removeprefix(wildcard) if address.startswith(wildcard) else address
    answer = ask(address, service, timeout, credentials)
    if answer != "SERVING":
        fail(f"{address}: {answer}", NOT_POSSIBLE)
    print(answer)
