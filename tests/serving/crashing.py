# SPDX-License-Identifier: Apache-2.0
"""Makes workers and trials crash, hang and exit as a fault of native code would.

The product has no such fault, so these processes get a `sitecustomize` that adds one.
"""

from __future__ import annotations

import numpy as np

from lstm_explain.serving.trials.trial_process import PROCESS_NAME
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2
from tests.serving.calling import request, tensor
from tests.serving.models import FEATURES

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

# What the process that tries models does before it loads one whose name begins like that.
IN_TRIAL = {
    "crash": "os.kill(os.getpid(), signal.SIGSEGV)",
    "sleep": "time.sleep(1000)",
    "reserve": "numpy.empty(1 << 30, numpy.uint8)",  # and touches none of it
    # As a file that is mapped: none of the process's own data, and yet memory that nothing else can have.
    "share": "a = numpy.frombuffer(mmap.mmap(-1, 1 << 29), numpy.uint8); a.fill(1); time.sleep(1000)",
    # Pages of a file, which the system may drop at any time.
    "mapped": "import llvmlite.binding.ffi as f; a = numpy.memmap(f.lib._name, mode='r'); a.max(); time.sleep(0.5)",
}
TRIAL_SITECUSTOMIZE = f"""
import os, sys
if "LSTM_EXPLAIN_WORKER" in os.environ or "lstm_explain.serving.trials.trial_process" in sys.orig_argv:
    import mmap, signal, time
    import numpy
    from lstm_explain.repository import served_model
    real = served_model.load_served
    def load_served(source):
        for name, fault in {IN_TRIAL!r}.items():
            if source.name.startswith(name) and open("/proc/self/comm").read() == "{PROCESS_NAME}\\n":
                exec(fault)
        return real(source)
    served_model.load_served = load_served
"""


def fatal(model: str, how: float) -> explanation_pb2.ExplainRequest:
    x = np.zeros((1, 3, FEATURES), np.float32)
    x.flat[0] = how
    return request(model, inputs=[tensor("x", x)])
