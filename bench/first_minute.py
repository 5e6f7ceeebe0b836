# SPDX-License-Identifier: Apache-2.0
"""Measures a server that starts without compiled kernels: `python -m bench --part first-minute`.

With each setting of LSTM_EXPLAIN_KERNELS that compiles, a server starts with an empty cache. It is then asked twice
for every method and product rule, for a short and for a long text, by one caller. Beside the time stands the processor
time of the server, without the processes that compile: on a machine that does nothing else, the former is about as
long.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

from bench.service import EXPLAIN, ROOT, SENTENCES, server
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, method_pb2, tensor_pb2

LONG = 12  # times the sentence: some 200 words
SETTINGS = ("background", "wait")


def _methods() -> dict[str, method_pb2.Method]:
    """Return every method with its default parameters, and LRP under every rule with both kinds of stabiliser."""
    found = {}
    for field in method_pb2.Method.DESCRIPTOR.oneofs[0].fields:
        found[field.name] = method_pb2.Method()
        getattr(found[field.name], field.name).SetInParent()
    for name, rule in method_pb2.ProductRule.items():
        short = name.removeprefix("PRODUCT_RULE_").lower()
        found[f"lrp {short}"] = method_pb2.Method(lrp=method_pb2.Lrp(product_rule=rule))
        found[f"lrp {short}, epsilon"] = method_pb2.Method(lrp=method_pb2.Lrp(product_rule=rule, epsilon=1e-3))
    return {name: how for name, how in found.items() if "unspecified" not in name}


def _message(text: str, how: method_pb2.Method) -> bytes:
    data = len(text.encode()).to_bytes(4, "little") + text.encode()
    tensor = tensor_pb2.Tensor(name="tokens", dtype="DATA_TYPE_STRING", shape=[1], data=data)
    return explanation_pb2.ExplainRequest(model="sentiment", inputs=[tensor], method=how).SerializeToString()


def _measure(setting: str) -> dict[str, Any]:
    """Return the time and the processor time until ready, and those of the first and of the second answer to each
    request, in seconds.
    """
    texts = {"short": SENTENCES[0], "long": " ".join([SENTENCES[0]] * LONG)}
    with tempfile.TemporaryDirectory() as folder:
        environment = {"LSTM_EXPLAIN_KERNELS": setting, "NUMBA_CACHE_DIR": f"{folder}/kernels"}
        flags = ["--models", str(ROOT / "models"), "--no-spare"]
        began = time.monotonic()
        with (
            server(Path(folder), flags, **environment) as (process, address),
            grpc.insecure_channel(address) as channel,
        ):
            ready, explain, times = (
                [time.monotonic() - began, sum(_processor(process.pid).values())],
                channel.unary_unary(EXPLAIN),
                {},
            )
            for name, how in _methods().items():
                for length, text in texts.items():
                    message = _message(text, how)
                    times[f"{name}, {length}"] = [_seconds(explain, message, process.pid) for _ in range(2)]
        for lock in Path(folder).glob("kernels/*/place-*.lock"):  # held by a process that still compiles
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX)
        lines = [line for line in Path(folder, "log").read_text().splitlines() if "background" in line]
    return {"ready_s": ready, "seconds": times, "log": [line.partition(": ")[2] for line in lines]}


def _seconds(explain: Any, message: bytes, server: int) -> list[float]:
    start, before = time.perf_counter(), _processor(server)
    explain(message)
    took, after = time.perf_counter() - start, _processor(server)
    return [took, sum(seconds - before.get(process, 0.0) for process, seconds in after.items())]


def _processor(process: int) -> dict[int, float]:
    """Return the processor time of a process and its children, in seconds, without those that compile or have ended."""
    command = Path(f"/proc/{process}/cmdline").read_bytes()  # empty where it has ended and its parent does not know yet
    if not command or b"lstm_explain.kernels.background" in command:
        return {}
    used = sum(int(ticks) for ticks in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13])
    children = " ".join(file.read_text() for file in Path(f"/proc/{process}/task").glob("*/children"))
    found = {process: used / os.sysconf("SC_CLK_TCK")}
    for child in children.split():
        found |= _processor(int(child))
    return found


def run(console: Console, *, quick: bool) -> dict[str, Any]:
    """Return the figures by setting; quick: without `wait`, which takes minutes."""
    settings = SETTINGS[:1] if quick else SETTINGS
    load = os.getloadavg()[0]
    figures: dict[str, Any] = {setting: _measure(setting) for setting in settings}
    table = Table(
        "seconds",
        *settings,
        title="a server without compiled kernels: the first answer, and the second (of the processor)",
    )
    table.add_row("ready after", *("{:.1f} ({:.1f})".format(*figures[s]["ready_s"]) for s in settings))
    for name in figures[settings[0]]["seconds"]:
        pairs = (figures[s]["seconds"][name] for s in settings)
        table.add_row(name, *("{:.2f} ({:.2f}), {:.2f} ({:.2f})".format(*first, *second) for first, second in pairs))
    console.print(table)
    return {"load": load, **figures}
