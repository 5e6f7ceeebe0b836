# SPDX-License-Identifier: Apache-2.0
"""Puts a server under load: a number of concurrent callers, each with its own connection, for a number of seconds."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

TICKS = os.sysconf("SC_CLK_TCK")
WARM_UP = 0.15  # seconds of a round that do not count: the server before has had the processors until now
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Load:
    """The results of one kind of call, by round. seconds: duration of each round. latencies: of its calls, in seconds.
    answers: how often each answer arrived, by message. errors: by status. processor: processor seconds of the server.
    """

    seconds: list[float] = field(default_factory=list)
    latencies: list[list[float]] = field(default_factory=list)
    answers: list[Counter[bytes]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    processor: float = 0.0

    @property
    def rates(self) -> list[float]:
        """Return the calls per second, by round."""
        return [len(latencies) / seconds for latencies, seconds in zip(self.latencies, self.seconds, strict=True)]

    @property
    def medians(self) -> list[float]:
        """Return the median latencies in milliseconds, by round."""
        return [float(np.median(latencies)) * 1e3 for latencies in self.latencies]

    def figures(self) -> dict[str, float]:
        """Return the figures over all rounds."""
        latencies = np.concatenate(self.latencies)
        p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
        return {
            "rate": len(latencies) / sum(self.seconds),
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "errors": sum(self.errors.values()),
            "processor_us": self.processor / len(latencies) * 1e6,
        }


@dataclass(frozen=True)
class Server:
    """The address of a server, and its processes without their children."""

    address: str
    processes: tuple[int, ...]

    def processor(self) -> float:
        """Return the processor seconds that all processes of the server have used so far."""
        return sum(map(_processor, self.processes))


def _processor(process: int) -> float:
    spent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]  # utime, stime
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return sum(map(int, spent)) / TICKS + sum(_processor(int(child)) for child in children)


def run(server: Server, method: str, messages: Sequence[bytes], clients: int, seconds: float, load: Load) -> None:
    """Add a round to `load`. Messages and answers are bytes, so the work of a client is not measured."""
    load.answers = load.answers or [Counter() for _ in messages]
    latencies: list[float] = []
    ready = threading.Barrier(clients + 1)

    def caller(number: int) -> None:
        with grpc.insecure_channel(server.address, options=OWN_CONNECTION) as channel:
            call = channel.unary_unary(method)
            call(messages[number % len(messages)], wait_for_ready=True)
            ready.wait()
            turn, begin = number, time.perf_counter() + WARM_UP
            while (start := time.perf_counter()) < begin + seconds:
                which = turn % len(messages)
                turn += 1
                try:
                    answer = call(messages[which], timeout=60)
                except grpc.RpcError as error:
                    load.errors[str(error.code())] += 1
                    continue
                load.answers[which][answer] += 1
                if (end := time.perf_counter()) >= begin:
                    latencies.append(end - start)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    time.sleep(WARM_UP)
    start, spent = time.perf_counter(), server.processor()
    for thread in threads:
        thread.join()
    load.processor += server.processor() - spent
    load.seconds.append(time.perf_counter() - start)  # the last calls end later than they should begin
    load.latencies.append(latencies)


def merged(loads: Iterable[Load]) -> list[Counter[bytes]]:
    """Return all answers that arrived, by message."""
    total: list[Counter[bytes]] = []
    for load in loads:
        total = total or [Counter() for _ in load.answers]
        for mine, theirs in zip(total, load.answers, strict=True):
            mine.update(theirs)
    return total
