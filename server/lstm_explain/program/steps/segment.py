# SPDX-License-Identifier: Apache-2.0
"""Parts of a graph that run in one call: by ONNX Runtime, or by NumPy where the arrays are too small for that call."""

from __future__ import annotations

from lstm_explain.graph.session import run_session
from lstm_explain.program.compile import Segment
from lstm_explain.program.numpy_segments import fits, shaped
from lstm_explain.program.passes import ForwardPass


class SegmentForward:
    def __init__(self, segment: Segment) -> None:
        self.segment, self.small = segment, segment.small

    def __call__(self, done: ForwardPass) -> None:
        values = done.values
        if self.small is None or not fits(values, self.segment.inputs):
            self.by_runtime(done)
            return
        for function, source, output in self.small:
            values[output] = function(values[source])

    def by_runtime(self, done: ForwardPass) -> None:
        segment, values = self.segment, done.values
        feeds = {name: values[name] for name in segment.inputs}
        values.update(zip(segment.outputs, run_session(segment.session, segment.outputs, feeds), strict=True))

    def specialised(self, done: ForwardPass) -> SegmentForward | SegmentOfShapes:
        """For a small segment: merges consecutive views that keep the order of elements."""
        if self.small is None or not fits(done.values, self.segment.inputs):
            return self
        return SegmentOfShapes(self, done)


class SegmentOfShapes:
    def __init__(self, step: SegmentForward, done: ForwardPass) -> None:
        segment, values = step.segment, done.values
        assert step.small is not None
        self.otherwise = step
        self.shapes = [(name, values[name].shape) for name in segment.inputs]
        self.steps = shaped(step.small, {name: values[name] for name in segment.inputs}, segment.outputs)

    def __call__(self, done: ForwardPass) -> None:
        values = done.values
        for name, shape in self.shapes:
            if values[name].shape != shape:
                self.otherwise(done)
                return
        for function, source, output in self.steps:
            values[output] = function(values[source])
