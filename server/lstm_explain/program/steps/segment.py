# SPDX-License-Identifier: Apache-2.0
"""Parts of a graph that run in one call: by ONNX Runtime, or by NumPy where the arrays are too small for that call."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lstm_explain.graph.ir import Array
from lstm_explain.graph.session import run_session
from lstm_explain.program.compile import Segment
from lstm_explain.program.numpy_segments import Bound, fits, shaped
from lstm_explain.program.passes import ForwardPass


class SegmentForward:
    def __init__(self, segment: Segment) -> None:
        self.segment, self.small = segment, segment.small

    def __call__(self, done: ForwardPass) -> None:
        bound = self._bound(done)
        if bound is None:
            self.by_runtime(done)
        else:
            bound.run(done.values)

    def _bound(self, done: ForwardPass) -> Bound | None:
        """Returns the segment as NumPy evaluates it; None where ONNX Runtime does."""
        if self.small is None or not fits(done.values, self.segment.inputs):
            return None
        return self.small.bound(done.values)

    def by_runtime(self, done: ForwardPass) -> None:
        segment, values = self.segment, done.values
        feeds = {name: values[name] for name in segment.inputs}
        values.update(zip(segment.outputs, run_session(segment.session, segment.outputs, feeds), strict=True))

    def specialised(self, done: ForwardPass, _: Mapping[str, Array]) -> SegmentForward | SegmentOfShapes:
        """For a small segment: merges consecutive views that keep the order of elements."""
        bound = self._bound(done)
        return self if bound is None else SegmentOfShapes(self, bound, done)


class SegmentOfShapes:
    """fixed: the values that the shapes of its inputs determine."""

    def __init__(self, step: SegmentForward, bound: Bound, done: ForwardPass) -> None:
        segment, values = step.segment, done.values
        self.otherwise, self.fixed = step, bound.fixed
        self.shapes = [(name, values[name].shape) for name in segment.inputs]
        steps = shaped(bound, {name: values[name] for name in segment.inputs}, segment.outputs)
        self.bound = Bound(steps, bound.fixed)

    def __call__(self, done: ForwardPass) -> None:
        values = done.values
        for name, shape in self.shapes:
            if values[name].shape != shape:
                self.otherwise(done)
                return
        self.bound.run(values)

    def line(self) -> Callable[[ForwardPass], None]:
        """Returns the step for inputs that are known to have these shapes."""
        run = self.bound.run
        return lambda done: run(done.values)
