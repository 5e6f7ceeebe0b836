# SPDX-License-Identifier: Apache-2.0
"""Finds the value that is explained for a target, and refuses targets and captures that the model does not have."""

from __future__ import annotations

from collections.abc import Sequence

from lstm_explain.errors import InputError, MethodError, TargetError
from lstm_explain.methods import Method
from lstm_explain.program.engine import Engine
from lstm_explain.program.head import Head, default_output, explainable, head_of
from lstm_explain.program.lstm_walk import VIEWS
from lstm_explain.program.through import Through
from lstm_explain.target import Target


class ExplainedValues:
    """The outputs of one model and the values before their activations.

    default_output: the output of a target that names none. heads: by output.
    """

    def __init__(self, engine: Engine) -> None:
        graph, producers = engine.graph, engine.graph.producers()
        self._graph, self._views = graph, engine.views
        self.default_output = default_output(graph)
        self.heads = {name: head_of(graph, name, producers) for name in graph.outputs}
        self._values = set(graph.inputs).union(o for n in graph.nodes for o in n.outputs if o)
        self._values |= graph.repeats.values if graph.repeats is not None else frozenset()

    def of(
        self, method: Method, target: Target, capture: Sequence[str] = (), through: Through = ()
    ) -> tuple[str, Head]:
        """Returns the output that the target names, and the value that the method explains for it.

        capture, through: names of inner values, which are checked. Raises TargetError, MethodError, InputError.
        """
        if not isinstance(target, Target):
            raise TargetError(f"target is {target!r}, expected a Target", field="target")
        output = self.default_output if target.output is None else target.output
        if output not in self.heads:
            raise TargetError(f"no output {output!r}, there are {', '.join(self.heads)}", field="target.output")
        if not explainable(self._graph, output):
            dtype = self._graph.type_of(output).dtype
            problem = f"output {output!r} is of type {dtype}, expected floating-point numbers"
            raise TargetError(problem, field="target.output")
        for name in capture:
            if name in self._views and not method.gates:
                raise MethodError(f"capture: only LRP says something of {name!r}", field="capture")
            if name not in self._values and name not in self._views:
                raise self._unknown("capture", name)
        for name, _ in through:
            if name in self._graph.inputs:
                raise InputError(f"through: {name!r} is an input, expected a value inside the model", field="through")
            if not method.propagates:
                problem = f"through: {method.name} does not pass relevance through units; lrp and gradients do"
                raise MethodError(problem, field="through")
            if name in self._views and not method.gates:
                raise MethodError(f"through: only LRP passes relevance through {name!r}", field="through")
            if name not in self._values and name not in self._views:
                raise self._unknown("through", name)
        head = self.heads[output]
        if target.pre_activation or head.value == output:
            return output, head
        if method.before_activation:
            raise MethodError(
                f"{method.name} explains the value before the activation that output {output!r} ends in, and has no "
                "rule for the activation itself; set pre_activation to true, or use a gradient or perturbation method "
                "such as integrated_gradients or occlusion",
                field="target.pre_activation",
            )
        return output, Head(output, ())

    def _unknown(self, field: str, name: str) -> InputError:
        views = ", ".join(map(repr, sorted(self._views)[: len(VIEWS)]))  # of the first node
        expected = f"; expected an inner value of the graph, or such as {views}" if views else ""
        return InputError(f"{field}: the model has no value {name!r} that depends on an input{expected}", field=field)
