# SPDX-License-Identifier: Apache-2.0
"""Serves Explain in gRPC's thread pool, whose threads compete for the interpreter, to compare with the server's loop.

`python -m bench.threads MODELS` serves and prints its port. The code of a request is the server's, and requests do not
wait for each other. Everything else that the server does (streams, health, long runs, batches, tokens) is omitted.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from bench.in_process import METHOD, explain_handler, stepped
from bench.load import Server

THREADS = 16


def _serve(models: Path) -> None:
    _, wrapped = explain_handler(models)

    def explain(request: Any, context: grpc.ServicerContext) -> Any:
        return stepped(wrapped.unary_unary(request, context))

    rpc = grpc.unary_unary_rpc_method_handler(explain, wrapped.request_deserializer, wrapped.response_serializer)
    service, name = METHOD[1:].split("/")
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: rpc}),))
    bound = server.add_insecure_port("127.0.0.1:0")
    gc.freeze()  # as the server does
    server.start()
    print(bound, flush=True)
    server.wait_for_termination()


@contextmanager
def threads(models: Path) -> Iterator[Server]:
    """Run a server in a separate process."""
    command = [sys.executable, "-m", "bench.threads", str(models)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(f"127.0.0.1:{process.stdout.readline().strip()}", (process.pid,))
        finally:
            process.kill()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
