# SPDX-License-Identifier: Apache-2.0
"""LRP, gradient and gradient times input: one forward pass and one backward pass, from one target or from several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from lstm_explain.cancellation import BACKWARD, current_scope
from lstm_explain.graph.ir import Array
from lstm_explain.operators import BatchLayout, SamplesMixed
from lstm_explain.operators.formulas import in_dtype
from lstm_explain.program.account import INPUTS, add_with_largest, per_sample
from lstm_explain.program.attribution import Attribution, joined
from lstm_explain.program.inner_relevance import inner_relevance
from lstm_explain.program.passes import BackwardPass, ForwardPass, Message
from lstm_explain.program.program import Program, Specialised
from lstm_explain.program.terms import scale
from lstm_explain.program.views import inner_view
from lstm_explain.target import Selection, weights_of_sample

MOST_TOGETHER = 16  # samples of all targets: enough for a step to be a product of matrices


Walked = Callable[[BackwardPass], None]  # receives a completed pass of the whole batch


def explain_one(
    program: Program,
    done: ForwardPass,
    selection: Selection,
    batch_axis: int | None,
    known: Specialised | None = None,
    walked: Walked | None = None,
) -> Attribution:
    """Runs the backward pass from one target: once for the whole batch, or sample by sample where an operator mixes the
    positions of samples. known: the specialised program for the shapes of `done`.
    """
    straight = None if known is None else known.straight
    if straight is not None and current_scope() is None:  # no scope, whose timings would count it
        return straight(done, selection)
    with BACKWARD:
        if straight is not None:
            return straight(done, selection)
        try:
            back = _begun(program, done, selection, batch_axis)
            program.backward(back, known)
        except SamplesMixed:
            alone = [explain_one(program, done, one, None) for one in _samples(selection, batch_axis)]
            return joined(alone, selection, done.values)
        if walked is not None:
            walked(back)
        return _answer(program, back, selection, known)


def explain_together(
    program: Program,
    done: ForwardPass,
    selections: Sequence[Selection],
    batch_axes: Sequence[int | None],
    known: Specialised | None = None,
    walked: Walked | None = None,
) -> list[Attribution]:
    """Runs `explain_one` from several targets at once. walked: receives the pass from the first target."""
    most = targets_together(max(selection.batch for selection in selections), len(selections))
    starts, answers = list(zip(selections, batch_axes, strict=True)), list[Attribution]()
    with BACKWARD:
        for at in range(0, len(starts), most):
            group = starts[at : at + most]
            try:
                begun = [_begun(program, done, selection, axis) for selection, axis in group]
                program.backward_together(begun, known)
            except SamplesMixed:
                answers += [explain_one(program, done, selection, axis) for selection, axis in group]
            else:
                if walked is not None and at == 0:
                    walked(begun[0])
                answers += [_answer(program, back, start[0], known) for back, start in zip(begun, group, strict=True)]
    return answers


def targets_together(batch: int, targets: int) -> int:
    """Returns from how many targets one backward pass begins."""
    return min(targets, max(1, MOST_TOGETHER // batch))


def walked_back(
    program: Program, done: ForwardPass, selection: Selection, batch_axis: int | None = None
) -> BackwardPass:
    """Returns the completed pass from a target, with all samples as one, without a batch axis. Raises SamplesMixed."""
    whole = selection if batch_axis is not None else replace(selection, batch=1)
    with BACKWARD:
        back = _begun(program, done, whole, batch_axis)
        program.backward(back)
    return back


def layouts_of(
    program: Program, done: ForwardPass, selection: Selection, batch_axis: int, names: Sequence[str]
) -> dict[str, BatchLayout]:
    """Returns where the samples of the target lie in the values of `names` that relevance reaches. Raises
    SamplesMixed.
    """
    back = walked_back(program, done, selection, batch_axis)
    return {n: layout for n in names if (m := back.messages.get(n)) is not None and (layout := m.layout) is not None}


def _samples(selection: Selection, batch_axis: int | None) -> list[Selection]:
    """Returns one selection per sample, in which all other samples have weight zero."""
    assert batch_axis is not None  # without a batch axis there is one sample
    weights = [weights_of_sample(selection.weights, batch_axis, sample) for sample in range(selection.batch)]
    return [Selection(alone, 1, None, None) for alone in weights]


def _begun(program: Program, done: ForwardPass, selection: Selection, batch_axis: int | None) -> BackwardPass:
    """Returns a pass that is about to start at the target. batch_axis: that of the output; None where there is one
    sample.
    """
    head, values, batch, weights = program.head, done.values, selection.batch, selection.weights
    assert head is not None
    value = values[head.value]
    layout = None if batch == 1 or batch_axis is None else BatchLayout(batch_axis % weights.ndim)
    if weights.dtype is not value.dtype or value.dtype is not program.least:
        weights = in_dtype(weights, np.promote_types(value.dtype, program.least))
    if head.views:
        weights, layout = head.through(program.plan.graph, values, weights, layout, batch)
    back = BackwardPass(program.plan, done, batch, weights.dtype)
    back.weights, back.layout, seed = weights, layout, weights * value
    density = program.plan.gradient or head.value in program.plan.first_order
    back.messages[head.value] = Message(None, weights, None, layout) if density else Message(seed, None, None, layout)
    back.explained = per_sample(seed, layout, batch)
    return back


def _answer(
    program: Program, back: BackwardPass, selection: Selection, known: Specialised | None = None
) -> Attribution:
    relevance: dict[str, Array] = {}
    peaks: dict[str, Array] = {}
    layouts: dict[str, BatchLayout | None] = {}
    messages, account, names = back.messages, back.account, program.inputs
    of_inputs, largest = account.book[INPUTS], np.zeros((len(names), back.batch))
    for name, peak in zip(names, largest, strict=True):
        message = messages.get(name)
        if message is None:
            relevance[name] = np.zeros(back.done.values[name].shape, back.dtype)
            continue
        layout = layouts[name] = message.layout
        relevance[name] = array = np.asarray(program.total(message, name, back), order="C")
        peaks[name] = peak
        add_with_largest(array, layout, of_inputs, peak)
    captured: dict[str, Array] = {}
    for name in program.capture:
        captured[name], layouts[name] = _captured(program, back, name)
    ledger, usual = account.closed(back.explained, largest)
    return Attribution(
        relevance, back.explained, captured, ledger, peaks, partial(_scale, program, back, known), selection,
        back.done.values, program.quantity, back.done.tapes, layouts, {}, usual,
    )  # fmt: skip


def _scale(program: Program, back: BackwardPass, known: Specialised | None) -> Array:
    head = program.head
    assert head is not None
    terms = None if known is None else known.terms
    return scale(back.plan, back.done.values, head.value, back.weights, back.layout, back.batch, terms)


def _captured(program: Program, back: BackwardPass, name: str) -> tuple[Array, BatchLayout | None]:
    """Returns the relevance of an inner value, and where the samples lie in it."""
    view = inner_view(name, program.cells)
    if view is not None and name not in back.done.values:
        array, layout = inner_relevance(program, back, *view)
        return array.astype(back.dtype), layout
    arrived = program.arrived(back, name)
    if arrived is None:
        return np.zeros(back.done.values[name].shape, back.dtype), None
    return np.asarray(arrived, order="C"), back.messages[name].layout
