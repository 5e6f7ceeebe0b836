# SPDX-License-Identifier: Apache-2.0
"""Measures cells that are written in primitive operators: as a Scan, as a Loop, and unrolled; and how long an unrolled
cell takes to load.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

import lstm_explain as lx
from bench.engine import shown
from bench.timing import ratio_of, rounds
from lstm_explain.graph.preparation import whole_session
from lstm_explain.graph.read import read
from tests.computed_conditions import with_condition
from tests.recurrent_kinds import CellBuilder, Form, Sizes, recurrent_kind

METHODS: dict[str, lx.Method] = {"lrp all": lx.LRP(), "gradient × input": lx.GradientTimesInput()}
TARGET = lx.Target(index=1)
SIZES = Sizes(width=64, hidden=64, keys=16)
STEPS, SCANNED = 365, 1000
CELLS: list[tuple[str, Form, int]] = [
    ("selective_scan", "scan", SCANNED),
    ("lstm", "scan", STEPS),
    ("gru", "scan", STEPS),
    ("slstm", "scan", STEPS),
    ("minlstm", "scan", STEPS),
    ("lstm", "loop", STEPS),
    ("selective_scan", "loop", STEPS),
    ("lstm", "unrolled", STEPS),
    ("gru", "unrolled", STEPS),
    ("slstm", "unrolled", STEPS),
    ("selective_scan", "unrolled", STEPS),
]
LOADED = (50, 100, 200, 400)  # steps of an unrolled LSTM


def core_of_selective_scan(steps: int, sizes: Sizes = SIZES) -> onnx.ModelProto:
    """x [N, steps, width] -> projections of all steps -> a Scan with nothing but the state -> y [N, 2]: as exporters
    write a layer whose step is a function of its own.
    """
    g = CellBuilder(0, sizes)
    x = g.input("x", ["N", steps, sizes.width])
    step, u = g.of("Softplus", g.dense(x, "step", bias=-1.0)), g.dense(x, "u")
    write, read = g.dense(x, "write", columns=sizes.keys), g.dense(x, "read", columns=sizes.keys)
    rates = g.constant(-0.3 * np.ones((sizes.hidden, 1)) * np.arange(1, sizes.keys + 1), "rates")
    samples = g.op("Shape", [x], start=0, end=1)
    start = g.op("ConstantOfShape", [g.op("Concat", [samples, g.ints(sizes.hidden, sizes.keys)], axis=0)])

    b = CellBuilder(0, sizes, "cell_")
    decay = b.of("Exp", b.mul(b.unsqueeze("step_t", 2), "rates"))
    fresh = b.mul(b.unsqueeze(b.mul("step_t", "u_t"), 2), b.unsqueeze("write_t", 1))
    h = b.of("Identity", b.add(b.mul(decay, "h"), fresh))
    y = b.of("Identity", b.squeeze(b.op("MatMul", [h, b.unsqueeze("read_t", 2)]), 2))

    def infos(shapes: dict[str, list[int]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *shape]) for n, shape in shapes.items()]

    wide, state = [sizes.hidden], [sizes.hidden, sizes.keys]
    given = {"h": state, "step_t": wide, "u_t": wide, "write_t": [sizes.keys], "read_t": [sizes.keys]}
    body = helper.make_graph(b.nodes, "cell", infos(given), infos({h: state, y: wide}), list(b.initializers.values()))
    scan = helper.make_node("Scan", [start, step, u, write, read], ["last", "y"], name="scan", body=body,
                            num_scan_inputs=4, scan_input_axes=[1] * 4, scan_output_axes=[1])  # fmt: skip
    assert rates == "rates"  # which the body reads
    g.nodes.append(scan)
    z = g.dense(x, "z")
    out = g.mul(g.add("y", g.mul(g.vector("skip", sizes.hidden, 1.0), u)), g.mul(z, g.of("Sigmoid", z)))
    mean = g.with_axes("ReduceMean", out, [1], since=18, keepdims=0)
    return g.model(g.times(mean, "head", sizes.hidden, 2), ["N", 2])


def run(console: Console, *, seconds: float) -> dict[str, Any]:
    """Measure processor time: one sample in multiples of ONNX Runtime's forward pass of the same file, loading, and the
    first explanation.
    """
    rows = [_row("selective scan, projections apart", SCANNED, core_of_selective_scan(SCANNED), seconds)]
    computed = with_condition(recurrent_kind("lstm", "loop", STEPS, sizes=SIZES), STEPS)
    rows.append(_row("lstm, loop that computes its condition", STEPS, computed, seconds))
    for kind, form, steps in CELLS:
        rows.append(_row(f"{kind}, {form}", steps, recurrent_kind(kind, form, steps, sizes=SIZES), seconds))
        console.print(f"[dim]{rows[-1]}[/dim]", highlight=False)
    console.print(_table(rows))
    loading = _loading()
    console.print(f"seconds to load an unrolled LSTM, by number of nodes, and the exponent of our own part: {loading}")
    return {"cells": rows, "loading": loading}


def _row(name: str, steps: int, proto: onnx.ModelProto, seconds: float) -> dict[str, Any]:
    """All methods alternate with the forward pass, and all run on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    began = time.process_time()
    model = lx.load(proto)
    row: dict[str, Any] = {"model": name, "T": steps, "load_s": time.process_time() - began}
    x = {"x": np.random.default_rng(1).standard_normal((1, steps, SIZES.width)).astype(np.float32)}
    calls: list[Callable[[], object]] = [lambda: session.run(None, x)]
    try:
        for method in METHODS.values():
            for call in range(3):
                began = time.process_time()
                found = model.explain(x, method, TARGET)
                if not call:
                    row.setdefault("first_s", time.process_time() - began)
            np.testing.assert_allclose(found.outputs["logits"], session.run(None, x)[0], atol=1e-5)
            calls.append(lambda method=method: model.explain(x, method, TARGET))  # type: ignore[misc]
        times = rounds(calls, seconds * len(calls), 7, clock=time.thread_time)
        row["ratios"] = {n: asdict(ratio_of(t, times[:, 0])) for n, t in zip(METHODS, times[:, 1:].T, strict=True)}
    except Exception as error:  # whatever it is: the table goes on, and the row says it
        row["ratios"] = {name: {"error": f"{type(error).__name__}: {error}"} for name in METHODS}
    return row


def _loading() -> dict[str, Any]:
    """Returns seconds by number of nodes: of ONNX Runtime, which opens the file as we do, and of everything."""
    whole, opening = dict[int, float](), dict[int, float]()
    for steps in LOADED:
        proto = recurrent_kind("lstm", "unrolled", steps, sizes=SIZES)
        nodes, checked = len(proto.graph.node), read(proto)
        whole[nodes] = min(_seconds(lx.load, proto) for _ in range(3))
        opening[nodes] = min(_seconds(lambda proto: whole_session(proto, optimise=False), checked) for _ in range(3))
    own = [s - opening[nodes] for nodes, s in whole.items()]
    return {
        "exponent": float(np.polyfit(np.log(list(whole)), np.log(own), 1)[0]),
        "seconds": {nodes: round(s, 3) for nodes, s in whole.items()},
        "runtime": {nodes: round(s, 3) for nodes, s in opening.items()},
    }


def _seconds(call: Callable[[onnx.ModelProto], object], proto: onnx.ModelProto) -> float:
    began = time.process_time()
    call(proto)
    return time.process_time() - began


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="explain() ÷ ONNX Runtime's forward pass, one sample, one thread: median (quartiles)")
    for column in ("cell", "T", "load, s", "first, s", "forward, ms", *METHODS):
        table.add_column(column, justify="left" if column == "cell" else "right")
    for row in rows:
        forward = next((f"{cell['theirs_ms']:.1f}" for cell in row["ratios"].values() if "error" not in cell), "-")
        numbers = [f"{row[key]:.2f}" if key in row else "-" for key in ("load_s", "first_s")]
        table.add_row(row["model"], str(row["T"]), *numbers, forward, *(shown(row["ratios"][m]) for m in METHODS))
    return table
