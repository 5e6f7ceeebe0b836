# SPDX-License-Identifier: Apache-2.0
"""One model twice: loaded by us, and by ONNX Runtime. Needs nothing of the engine that only later commits have."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime as ort

import lstm_explain as lx
from bench.models import Shape, model_of
from bench.timing import Ratio, compare, ratio_of, rounds

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
        """Measure one case, after checking its answer."""
        began = time.perf_counter()
        self._check(x, method)
        return compare(
            lambda: self.model.explain({"x": x}, method, TARGET),
            lambda: self.session.run(None, {"x": x}),
            seconds,
            least,
            warm=time.perf_counter() - began > 1,
            clock=clock,
        )

    def alternate(
        self,
        x: np.ndarray,
        methods: Sequence[lx.Method],
        seconds: float,
        clock: Callable[[], float],
        others: Sequence[Callable[[], object]] = (),
    ) -> tuple[list[Ratio], Ratio]:
        """Measure several methods in the same rounds, so that their differences are as sure as their ratios.

        Returns a ratio per method and per call in `others`, and what the first method costs more than the second, in
        forward passes.
        """
        for method in methods:
            self._check(x, method)
        calls: list[Callable[[], object]] = [
            functools.partial(self.model.explain, {"x": x}, method, TARGET) for method in methods
        ]
        calls = [lambda: self.session.run(None, {"x": x}), *calls, *others]
        times = rounds(calls, seconds * (len(calls) - 1), 5, clock=clock)
        theirs = times[:, 0]
        return [ratio_of(ours, theirs) for ours in times[:, 1:].T], ratio_of(times[:, 1] - times[:, 2], theirs)

    def _check(self, x: np.ndarray, method: lx.Method) -> None:
        """The output equals ONNX Runtime's, and all relevance is finite."""
        explanation = self.model.explain({"x": x}, method, TARGET)
        np.testing.assert_allclose(explanation.outputs["y"], self.session.run(None, {"x": x})[0], atol=1e-5)
        assert np.isfinite(explanation.relevance["x"]).all(), "relevance that is not finite"
