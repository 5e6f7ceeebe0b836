"""Explain with everything in asyncio's own loop: no other thread wants the interpreter while a request is at work.

`python -m bench.loop MODELS` serves and prints its port. The code of a request is the server's; what the server does
beside it (streams, health, long runs, batches, tokens) is left out.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from bench.load import Server
from bench.way import METHOD, explain_handler


class _Context:
    """Of grpc.aio's, what the service asks of grpc's."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.set_trailing_metadata = context.set_trailing_metadata
        self.time_remaining = context.time_remaining

    def invocation_metadata(self) -> Any:
        return self._context.invocation_metadata() or ()

    def is_active(self) -> bool:
        return not self._context.cancelled()


async def _serve(models: Path) -> None:
    _, wrapped = explain_handler(models)
    answer = wrapped.unary_unary

    async def explain(request: Any, context: Any) -> Any:
        return answer(request, _Context(context))

    rpc = grpc.unary_unary_rpc_method_handler(explain, wrapped.request_deserializer, wrapped.response_serializer)
    service, name = METHOD[1:].split("/")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: rpc}),))
    bound = server.add_insecure_port("127.0.0.1:0")
    gc.freeze()  # as the server does
    await server.start()
    print(bound, flush=True)
    await server.wait_for_termination()


@contextmanager
def loop(models: Path) -> Iterator[Server]:
    """A server in a process of its own."""
    command = [sys.executable, "-m", "bench.loop", str(models)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(f"127.0.0.1:{process.stdout.readline().strip()}", (process.pid,))
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
