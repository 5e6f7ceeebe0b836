"""One model twice: loaded by us, and by ONNX Runtime. Needs nothing of the engine that only later commits have."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort

import lstm_explain as lx
from bench.models import Shape, model_of
from bench.timing import Ratio, compare

TARGET = lx.Target(index=2)


def session_of(shape: Shape, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(model_of(shape).SerializeToString(), options, providers=["CPUExecutionProvider"])


class Pair:
    """One model, loaded by us and by ONNX Runtime."""

    def __init__(self, shape: Shape) -> None:
        self.session, self.model = session_of(shape, threads=1), lx.load(model_of(shape))

    def measure(
        self,
        x: np.ndarray,
        method: lx.Method,
        seconds: float,
        least: int = 5,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Ratio:
        """Measure one case, after checking that the output equals ONNX Runtime's and that all relevance is finite."""
        feeds, began = {"x": x}, time.perf_counter()
        explanation = self.model.explain(feeds, method, TARGET)
        np.testing.assert_allclose(explanation.outputs["y"], self.session.run(None, feeds)[0], atol=1e-5)
        assert np.isfinite(explanation.relevance["x"]).all(), "relevance that is not finite"
        return compare(
            lambda: self.model.explain(feeds, method, TARGET),
            lambda: self.session.run(None, feeds),
            seconds,
            least,
            warm=time.perf_counter() - began > 1,
            clock=clock,
        )
