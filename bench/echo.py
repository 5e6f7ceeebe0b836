# SPDX-License-Identifier: Apache-2.0
"""A bare gRPC server that answers every message with a fixed number of bytes, to measure the cost of the wire alone.

`python -m bench.echo KIND BYTES PORT` serves and prints its port. KIND: `threads`; `processes`, two of them on one
port; `asyncio`, which answers in the event loop, and `executor`, which answers in threads outside it.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from bench.load import Server

METHOD = "/echo.Echo/Echo"
THREADS = 16
PROCESSES = 2
KINDS = ("threads", "asyncio", "executor", "processes")


def _with_threads(size: int, port: int) -> None:
    answer = bytes(size)
    rpc = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", int(port > 0))])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", {"Echo": rpc}),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(bound, flush=True)
    server.wait_for_termination()


async def _with_asyncio(size: int, *, executor: bool) -> None:
    """Serve with asyncio. executor: answer in threads, as a service with blocking work does."""
    answer, pool = bytes(size), ThreadPoolExecutor(THREADS)

    async def inline(request: bytes, context: object) -> bytes:
        return answer

    async def beside(request: bytes, context: object) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: answer)

    rpc = grpc.unary_unary_rpc_method_handler(beside if executor else inline)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", {"Echo": rpc}),))
    bound = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(bound, flush=True)
    await server.wait_for_termination()


@contextmanager
def echo(kind: str, size: int) -> Iterator[Server]:
    """Run a server in a separate process, or in several."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1] if kind == "processes" else 0
        command = [sys.executable, "-m", "bench.echo", kind, str(size), str(port)]
        count = PROCESSES if kind == "processes" else 1
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        try:
            bound = [process.stdout.readline().strip() for process in running if process.stdout is not None]
            yield Server(f"127.0.0.1:{bound[0]}", tuple(process.pid for process in running))
        finally:
            for process in running:
                process.kill()
                process.wait()


if __name__ == "__main__":
    if sys.argv[1] in ("asyncio", "executor"):
        asyncio.run(_with_asyncio(int(sys.argv[2]), executor=sys.argv[1] == "executor"))
    else:
        _with_threads(int(sys.argv[2]), int(sys.argv[3]))
