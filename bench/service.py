# SPDX-License-Identifier: Apache-2.0
"""Measures the service under load: `python -m bench --part service`.

Explain with batching off and on, ModelInfer of the same inputs, and an echo of the same sizes alternate in one run,
with 1, 4, 16 and 64 callers. Every answer is compared with the engine's own.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx

import lstm_explain as lx
from bench import echo
from bench.in_process import pieces
from bench.load import Load, Server, merged, run
from bench.models import Shape, inputs_of, model_of
from bench.service_page import CLIENTS
from bench.threads import threads
from bench.timing import compare, spread
from lstm_explain_proto.inference import grpc_service_pb2 as inference
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, method_pb2, tensor_pb2

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scripts.soak import server  # noqa: E402

EXPLAIN, INFER = "/lstm_explain.v1.ExplanationService/Explain", "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
STARTS = 7
CLOSE = 1e-6
LARGE, STEPS = {"h256": Shape(64, 256), "h512": Shape(64, 512)}, 100
TOGETHER = "batching: {max_batch: 16}\n"
BATCHING = {"sentiment": "batching: {max_batch: 16, padding: {tokens: 0}}\n", **dict.fromkeys(LARGE, TOGETHER)}
SENTENCES = (
    "not a bad film , but far too long for what little it has to say about people",
    "a film that is as good as it is long , and that has a lot to say about us",
    "dull , and then for the last half of an hour so bad that it is almost good",
    "it has a story , a good one , and does not know what to do with any of it",
)


@dataclass(frozen=True)
class Work:
    """One model and method, with several inputs of one size."""

    name: str
    model: str
    input: str
    arrays: tuple[np.ndarray, ...]
    method: method_pb2.Method
    how: lx.Method
    batch_axis: int = 0

    def explain(self) -> list[bytes]:
        target = explanation_pb2.Target(indices=[1])
        return [
            explanation_pb2.ExplainRequest(
                model=self.model, inputs=[tensor], method=self.method, target=target
            ).SerializeToString()
            for tensor in map(self._tensor, self.arrays)
        ]

    def infer(self) -> list[bytes]:
        return [self._infer(a).SerializeToString() for a in self.arrays]

    def _tensor(self, array: np.ndarray) -> tensor_pb2.Tensor:
        if array.dtype == object:
            return tensor_pb2.Tensor(name=self.input, dtype="DATA_TYPE_STRING", shape=[1], data=_text(array[0]))
        return tensor_pb2.Tensor(name=self.input, dtype="DATA_TYPE_FLOAT32", shape=array.shape, data=array.tobytes())

    def _infer(self, array: np.ndarray) -> inference.ModelInferRequest:
        text = array.dtype == object
        kind, data = ("BYTES", _text(array[0])) if text else ("FP32", array.tobytes())
        tensor = inference.ModelInferRequest.InferInputTensor(name=self.input, datatype=kind, shape=array.shape)
        return inference.ModelInferRequest(model_name=self.model, inputs=[tensor], raw_input_contents=[data])


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "little") + text.encode()


def works() -> list[Work]:
    texts = tuple(np.array([sentence], dtype=object) for sentence in SENTENCES)
    lrp, half = method_pb2.Method(lrp=method_pb2.Lrp()), method_pb2.Lrp(product_rule=method_pb2.PRODUCT_RULE_HALF)
    by_half, occlusion = method_pb2.Method(lrp=half), method_pb2.Method(occlusion=method_pb2.Occlusion())
    small = [
        Work("sentiment, LRP", "sentiment", "tokens", texts, lrp, lx.LRP()),
        Work("sentiment, LRP-half", "sentiment", "tokens", texts, by_half, lx.LRP("half")),
        Work("sentiment, occlusion", "sentiment", "tokens", texts, occlusion, lx.Occlusion()),
    ]
    large = []
    for name, shape in LARGE.items():
        arrays = tuple(np.roll(inputs_of(shape, STEPS, 1), i, axis=0) for i in range(4))
        large += [
            Work(f"{shape}, {STEPS} steps, LRP", name, "x", arrays, lrp, lx.LRP()),
            Work(f"{shape}, {STEPS} steps, LRP-half", name, "x", arrays, by_half, lx.LRP("half")),
        ]
    return small + large


def _models(folder: Path, *, batching: bool) -> Path:
    models = folder / ("on" if batching else "off")
    shutil.copytree(ROOT / "models" / "sentiment", models / "sentiment")
    configs = {"sentiment": (models / "sentiment/model.yaml").read_text()}
    for name, shape in LARGE.items():
        (models / name / "1").mkdir(parents=True)
        onnx.save(model_of(shape), str(models / name / "1" / "model.onnx"))
        configs[name] = "batch_axis: {x: 1, y: 0}\n"
    for name, text in configs.items():
        kept = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("batching:"))
        (models / name / "model.yaml").write_text(kept + BATCHING[name] * batching)
    return models


class Engine:
    """The answers and times of the engine itself."""

    def __init__(self, models: Path) -> None:
        from tokenizers import Tokenizer

        self._models = {name: lx.load(models / name / "1" / "model.onnx") for name in BATCHING}
        self._tokenizer = Tokenizer.from_file(str(models / "sentiment" / "tokenizer.json"))

    def inputs(self, work: Work) -> list[dict[str, np.ndarray]]:
        text = work.arrays[0].dtype == object
        return [{work.input: np.array([self._tokenizer.encode(a[0]).ids]) if text else a} for a in work.arrays]

    def extra_ms(self, work: Work) -> float:
        """Return how much longer an explanation takes than a prediction, in milliseconds."""
        model, inputs = self._models[work.model], self.inputs(work)[0]
        ratio = compare(lambda: model.explain(inputs, work.how, lx.Target(index=1)), lambda: model.predict(inputs), 0.2)
        return ratio.ours_ms - ratio.theirs_ms

    def wrong(self, work: Work, answers: list[Counter[bytes]]) -> int:
        """Return how many answers differ from the engine's by more than CLOSE times the largest number."""
        count = 0
        for inputs, came in zip(self.inputs(work), answers, strict=True):
            due = self._models[work.model].explain(inputs, work.how, lx.Target(index=1)).relevance[work.input]
            for data, times in came.items():
                tensor = explanation_pb2.ExplainResponse.FromString(data).relevance[0]
                relevance = np.frombuffer(tensor.data, np.float32).reshape(tensor.shape)
                close = relevance.shape == due.shape and np.abs(relevance - due).max() <= CLOSE * np.abs(due).max()
                count += 0 if close else times
        return count


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        off, on = _models(folder, batching=False), _models(folder, batching=True)
        starts = [_start(folder, off) for _ in range(STARTS)]
        way = pieces(off, works()[0].explain()[0])
        # Each row has a server of its own: one that has just answered another row would be ahead of the others.
        flags = {"off": [str(off)], "on": [str(on)], "infer": [str(off)], "workers": [str(off), "--workers", "2"]}
        servers: dict[str, Server] = {}
        for name, words in flags.items():
            process, address = stack.enter_context(server(folder, ["--models", *words]))
            servers[name] = Server(address, (process.pid,))
        servers["threads"] = stack.enter_context(threads(off))
        engine, rows, failed = Engine(off), [], []
        for i, work in enumerate(works()):
            try:
                rows.append(_work(work, engine, servers, seconds, rounds, whole=i == 0))
            except Exception as error:  # whatever it is: the other works go on
                failed.append({"error": f"{work.name}: {type(error).__name__}: {error}"})
        found = {"cores": os.cpu_count(), "starts": starts, "way": way, "works": rows}
        return found | {"failed": failed + _lost(rows)}


def _work(
    work: Work, engine: Engine, servers: dict[str, Server], seconds: float, rounds: int, *, whole: bool
) -> dict[str, Any]:
    """Measure one model and method. whole: compare with the echoes too."""
    explain, infer = work.explain(), work.infer()
    with ExitStack() as stack:
        first = Load()
        for name in ("off", "on"):  # the trial of a batch is over then
            run(servers[name], EXPLAIN, explain, 16, 0.2, first)
        size = len(next(iter(first.answers[0])))
        calls = {"infer": (servers["infer"], INFER, infer)}
        calls |= {f"explain {name}": (servers[name], EXPLAIN, explain) for name in ("off", "on")}
        if whole:
            for kind in echo.KINDS:
                calls[f"echo {kind}"] = (stack.enter_context(echo.echo(kind, size)), echo.METHOD, explain)
            calls |= {f"explain {name}": (servers[name], EXPLAIN, explain) for name in ("workers", "threads")}
        loads = {(name, clients): Load() for clients in map(int, CLIENTS) for name in calls}
        extra = []
        for _ in range(rounds):
            extra.append(engine.extra_ms(work))
            for (name, clients), load in loads.items():
                where, method, messages = calls[name]
                run(where, method, messages, clients, seconds, load)
    answers = merged(load for (name, _), load in loads.items() if name.startswith("explain"))
    figures: dict[str, Any] = {name: {} for name in calls}
    for (name, clients), load in loads.items():
        figures[name][str(clients)] = load.figures()
    return {
        "name": work.name,
        "bytes": [len(explain[0]), size],
        "ratios": _ratios(loads, extra),
        "answers": sum(sum(counts.values()) for counts in answers),
        "wrong": engine.wrong(work, answers),
        "calls": figures,
    }


def _ratios(loads: dict[tuple[str, int], Load], extra: list[float]) -> dict[str, dict[str, float]]:
    """Return the ratios, round by round, because a slow machine slows both sides of a round."""
    off, many = loads["explain off", 1], loads["explain off", 16]
    predicted = [median + more for median, more in zip(loads["infer", 1].medians, extra, strict=True)]
    found = {"batching": spread(loads["explain on", 16].rates, many.rates), "predict": spread(off.medians, predicted)}
    if ("echo threads", 1) in loads:
        found["echo rate"] = spread(many.rates, loads["echo threads", 16].rates)
        found["echo p50"] = spread(off.medians, loads["echo threads", 1].medians)
        found["echoes rate"] = spread(loads["explain workers", 16].rates, loads["echo processes", 16].rates)
    return found


def _lost(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the number of wrong answers and of calls without an answer."""
    found = [{"error": f"{row['name']}: {row['wrong']} wrong answers"} for row in rows if row["wrong"]]
    for row in rows:
        for name, by_clients in row["calls"].items():
            lost = sum(int(figure["errors"]) for figure in by_clients.values())
            found += [{"error": f"{row['name']}, {name}: {lost} calls without an answer"}] if lost else []
    return found


def _start(folder: Path, models: Path) -> dict[str, float]:
    """Seconds until ready; the first explanation after it and the median of the fifty that follow, in milliseconds,
    over a connection that has answered ten other calls: the first of these sets it up, and is told apart."""
    began = time.monotonic()
    with server(folder, ["--models", str(models)]) as (_, address), grpc.insecure_channel(address) as channel:
        ready = time.monotonic() - began
        live = _timed(channel.unary_unary(LIVE), b"", 10)
        times = _timed(channel.unary_unary(EXPLAIN), works()[0].explain()[0], 51)
    median = float(np.median(times[1:]))
    return {"ready_s": ready, "connection_ms": live[0], "first_ms": times[0], "median_ms": median}


def _timed(call: Callable[[bytes], bytes], message: bytes, times: int) -> list[float]:
    """Return the milliseconds of each of a number of calls."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        call(message)
        took.append((time.perf_counter() - start) * 1e3)
    return took
