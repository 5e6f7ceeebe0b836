"""Threads against asyncio: a bare echo over gRPC, each server in a process of its own, in alternating runs.

Prints calls a second, median and 99th percentile of the latency, for one and for eight callers.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

METHOD = "/echo.Echo/Echo"
THREADS = 8
WARM_UP = 50


def work(request: bytes) -> bytes:
    """Reads the message as numbers and writes them again, as a service does."""
    return (np.frombuffer(request, np.float32) * 1.0).tobytes()


def handler(behaviour: Callable[..., Any]) -> grpc.GenericRpcHandler:
    rpc = grpc.unary_unary_rpc_method_handler(behaviour)
    return grpc.method_handlers_generic_handler("echo.Echo", {"Echo": rpc})


def serve_with_threads() -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((handler(lambda request, _: work(request)),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


async def serve_with_asyncio() -> None:
    pool = ThreadPoolExecutor(THREADS)

    async def answer(request: bytes, _: object) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(pool, work, request)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler(answer),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


def measure(channel: grpc.Channel, calls: int, callers: int, floats: int) -> str:
    echo = channel.unary_unary(METHOD)
    message = np.zeros(floats, np.float32).tobytes()
    for _ in range(WARM_UP):
        echo(message)
    latencies: list[float] = []

    def caller() -> None:
        for _ in range(calls // callers):
            start = time.perf_counter()
            echo(message)
            latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(latencies) / (time.perf_counter() - start)
    median, slow = np.percentile(latencies, [50, 99]) * 1e3
    return f"{floats * 4:>8} bytes  {callers} callers  {rate:6.0f}/s  p50 {median:.2f} ms  p99 {slow:.2f} ms"


def compare(runs: int) -> None:
    for kind in ("threads", "asyncio") * runs:
        server = subprocess.Popen([sys.executable, __file__, "--serve", kind], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for floats, calls in ((6_400, 2_000), (256_000, 400)):
                for callers in (1, 8):
                    print(f"{kind}  {measure(channel, calls, callers, floats)}", flush=True)
        server.terminate()
        server.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--serve", choices=["threads", "asyncio"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve == "threads":
        serve_with_threads()
    elif options.serve == "asyncio":
        asyncio.run(serve_with_asyncio())
    else:
        compare(options.runs)
