"""Real crashes of a worker, by request: what a fault of native code does to a process.

The product has no such fault to offer. So the workers of a test's server find a `sitecustomize` that adds one.
"""

from __future__ import annotations

import numpy as np

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2
from tests.service.calling import request, tensor
from tests.service.models import FEATURES

SEGFAULT, STANDSTILL, OUT = 6661.0, 6662.0, 6663.0
SITECUSTOMIZE = f"""
import os
if "LSTM_EXPLAIN_WORKER" in os.environ:
    import ctypes
    from lstm_explain.model import Model
    explain = Model.explain
    def crashing(self, inputs, *arguments, **more):
        first = inputs["x"].flat[0]
        if first == {SEGFAULT}:
            ctypes.string_at(0)
        if first == {STANDSTILL}:
            ctypes.PyDLL(None).sleep(1000)  # and does not let go of the interpreter
        if first == {OUT}:
            os._exit(77)
        return explain(self, inputs, *arguments, **more)
    Model.explain = crashing
"""


def fatal(model: str, how: float) -> explanation_pb2.ExplainRequest:
    x = np.zeros((1, 3, FEATURES), np.float32)
    x.flat[0] = how
    return request(model, inputs=[tensor("x", x)])
