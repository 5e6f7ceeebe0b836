# SPDX-License-Identifier: Apache-2.0
"""Slow parts of short requests run outside the event loop."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx

from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.serving.calling import array_of, request, stub, tensor
from tests.serving.models import write_version
from tests.serving.running import serving

PAPERS = method_pb2.Method(lrp=method_pb2.Lrp(epsilon=1e-3))  # needs float64 where the default does not
SUM = """<ir_version: 8, opset_import: ["": 17]>
sum (float[batch, 4] x) => (float[batch, 1] y) <float[4, 1] W = {1.0, 1.0, 1.0, 1.0}> { y = MatMul (x, W) }"""
# The residual of CANCELLING in float32 is so large that it is computed again in float64.
MILD, CANCELLING = [1.0, 2.0, 3.0, 4.0], [12345.678, -12344.321, 0.123, 0.377]
# Logs, for each copy of a graph in float64, whether an event loop runs in the thread that makes it.
SITECUSTOMIZE = """
import os
if "LSTM_EXPLAIN_WORKER" in os.environ:
    import asyncio
    from lstm_explain.program import precision
    copied = precision.to_float64
    def to_float64(graph, **more):
        try:
            asyncio.get_running_loop()
            where = "in the loop"
        except RuntimeError:
            where = "in a thread"
        with open({log!r}, "a") as log:
            print(where, file=log)
        return copied(graph, **more)
    precision.to_float64 = to_float64
"""


def test_a_float64_copy_is_made_outside_the_event_loop(tmp_path: Path) -> None:
    log, models = tmp_path / "copies", tmp_path / "models"
    write_version(models, "sum", onnx.parser.parse_model(SUM))
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE.format(log=str(log)))
    python_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with serving(models, PYTHONPATH=python_path) as server, server.channel() as channel:

        def explain(row: list[float]) -> float:
            answer = stub(channel).Explain(
                request("sum", inputs=[tensor("x", np.array([row], np.float32))], method=PAPERS), timeout=60
            )
            return float(array_of(answer.ledger.residual)[0])

        for _ in range(20):  # until such requests are known to be short and run in the loop
            explain(MILD)
        assert not log.exists()
        assert abs(explain(CANCELLING)) < 1e-9
        assert log.read_text().splitlines() == ["in a thread"]
