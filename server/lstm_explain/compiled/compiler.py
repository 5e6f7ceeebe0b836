# SPDX-License-Identifier: Apache-2.0
"""Compiles a model and a method to one ONNX file that predicts and explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from lstm_explain.arithmetic import quiet_arithmetic
from lstm_explain.compiled.assembly import assemble
from lstm_explain.compiled.checks import DisagreementError, check
from lstm_explain.compiled.examples import examples_of
from lstm_explain.compiled.forward import OTHER_BRANCH, forward_part
from lstm_explain.compiled.path_gradients import PathGradients
from lstm_explain.compiled.targets import RUNTIME, TARGET_INPUT
from lstm_explain.compiled.walk import LEDGER, Aim, Walk
from lstm_explain.errors import Error, MethodError, ModelError, TargetError, UnsupportedOperator
from lstm_explain.graph.ir import Array
from lstm_explain.graph.protos import STANDARD_DOMAINS
from lstm_explain.methods import LRP, Gradient, IntegratedGradients, Method, method_from_name
from lstm_explain.model import Model
from lstm_explain.opening import load
from lstm_explain.target import Target, as_target
from lstm_explain.tracing.arrays import Trace
from lstm_explain.tracing.graph_writer import GraphWriter
from lstm_explain.tracing.namespace import Namespace

OLDEST_OPSET, NEWEST_OPSET = 18, onnx.defs.onnx_opset_version()
FIXED_STEPS = 15  # fewer than those from which on the engine looks for where the score changes


def compile(
    model: Model | str | Path | bytes | onnx.ModelProto,
    method: Method | str = LRP(),  # noqa: B008 - frozen
    target: Target | int | tuple[int, ...] | str = Target(),  # noqa: B008 - frozen
    *,
    opset: int | None = None,
    inputs: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """Returns the model with its explanation, as a model of ONNX's own operators, which needs nothing of this package
    to run.

    Outputs: the model's, then `relevance/<input>`, `explained` [batch], and [batch] each `ledger/inputs`,
    `ledger/initial_states`, `ledger/absorbed` and `ledger/residual`; they are what `Model.explain` returns, in the type
    of the explained value.

    model: or what `load` takes. method: LRP without a composite, Gradient, GradientTimesInput or IntegratedGradients,
    or the name of one.
    target: as in `Model.explain`, or "runtime" (or "<output>:runtime"): the file then has another input `target`, int64
    [batch], where -1 stands for the largest entry. opset: of the file, from 18 on; default: the model's own, or 18 if
    that is older. inputs: inputs on which the model runs, for a model that rejects made-up ones.

    The file is run by ONNX Runtime on two batches of other sizes and lengths than it was compiled with, and compared
    with the engine. Raises UnsupportedOperator where a node cannot be compiled, MethodError, TargetError, ModelError.
    """
    loaded = model if isinstance(model, Model) else load(model)
    chosen = method_from_name(method) if isinstance(method, str) else method
    output = None
    if isinstance(target, str):
        output, _, index = target.rpartition(":")
        if index == RUNTIME:
            return compile_target(loaded, chosen, Target(output or None), runtime=True, opset=opset, inputs=inputs)
    aim = target if isinstance(target, Target) else as_target(target, loaded.outputs)
    return compile_target(loaded, chosen, aim, opset=opset, inputs=inputs)


def compile_target(
    model: Model,
    method: Method,
    target: Target,
    *,
    runtime: bool = False,
    opset: int | None = None,
    inputs: Mapping[str, Array] | None = None,
    checked: bool = True,
) -> onnx.ModelProto:
    """`compile`, with a Target. runtime: whether its index is chosen when the file runs. checked: whether to compare
    the file with the engine.
    """
    path = method if isinstance(method, IntegratedGradients) else None
    if not method.propagates and path is None:
        raise MethodError(
            f"{method.name} cannot be compiled, only LRP, gradients and integrated gradients can", field="method"
        )
    if method.rules is not None and method.rules.composite is not None:
        raise MethodError("a composite cannot be compiled", field="method.composite")
    _check_names(model, runtime=runtime)
    if target.measure is not None:
        raise TargetError("a measure cannot be compiled; compile a model that computes it", field="target.measure")
    output, head = model.explained(method, target)
    number = _opset(model, opset)
    walked = method if path is None else Gradient()
    program = model.engine.program(head, walked)
    traced_with, checked_with = examples_of(model, inputs)
    with quiet_arithmetic():
        passes = [program.forward(example) for example in traced_with]
        points = None if path is None else PathGradients(model, path, head, traced_with, number)
    forward = forward_part(program, passes, number)
    further = [] if points is None else [f for f in (points.forward, points.further_nodes(number)) if f is not None]

    def written(method: Method, kind: np.dtype[Any]) -> tuple[onnx.ModelProto, Walk]:
        writer = GraphWriter([*passes[0].values, *(t.name for t in forward.initializers)])
        trace = Trace(writer, len(passes))
        Namespace(trace)
        if len(further) > 1:
            writer.add(further[1].nodes)
        with np.errstate(all="ignore"):
            walk = Walk(trace, program, passes, traced_with, Aim(target, output, runtime), kind)
            results = walk.results() if points is None else points.results(walk, method)
        parts = [forward, *further]
        return assemble(model, program, parts, writer, results, number, runtime, method, target), walk

    if not checked:
        return written(method, program.least)[0]
    if path is not None:  # on few points, which the engine does not move, both compute the same
        fixed = replace(path, steps=FIXED_STEPS, max_steps=FIXED_STEPS)
        check(written(fixed, program.least)[0], model, fixed, target, checked_with, runtime)
        return written(path, program.least)[0]
    for kind in dict.fromkeys((program.least, np.dtype(np.float64))):
        proto, walk = written(method, kind)
        try:
            check(proto, model, method, target, checked_with, runtime)
        except DisagreementError:  # float32 is not precise enough on these inputs, or something is wrong
            if walk.conditions:  # another branch answers with NaN
                raise UnsupportedOperator(next(iter(walk.conditions.values()))[0], "If", OTHER_BRANCH) from None
            if kind == np.float64:
                raise
        else:
            return proto
    raise AssertionError("the last precision either passes or raises")


def _check_names(model: Model, *, runtime: bool) -> None:
    """Raises ModelError where the model has what the file adds, as a compiled file has."""
    added = {"explained", *(f"relevance/{name}" for name in model.inputs), *(f"ledger/{name}" for name in LEDGER)}
    if runtime:
        added.add(TARGET_INPUT)
    for name in (*model.inputs, *model.outputs):
        if name in added:
            raise ModelError(f"the model already has an input or output called {name!r}: is it a compiled file?")


def why_not(model: Model, method: Method = LRP()) -> str:  # noqa: B008 - frozen
    """Why the model cannot be compiled; empty where it can, apart from the comparison with the engine."""
    try:
        compile_target(model, method, Target(), checked=False)
    except Error as error:
        return str(error)
    return ""


def _opset(model: Model, requested: int | None) -> int:
    own = [o.version for o in model.engine.graph.opsets if o.domain in STANDARD_DOMAINS]
    number = max(OLDEST_OPSET, *own) if requested is None else requested
    if not OLDEST_OPSET <= number <= NEWEST_OPSET:
        raise MethodError(f"opset is {number}, expected {OLDEST_OPSET} to {NEWEST_OPSET}", field="opset")
    if number < max(own, default=0):
        raise MethodError(f"opset is {number}, expected at least the model's own, {max(own)}", field="opset")
    return number
