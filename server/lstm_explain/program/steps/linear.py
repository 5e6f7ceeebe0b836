# SPDX-License-Identifier: Apache-2.0
"""Sums and linear maps: the epsilon rule (Arras et al. 2017, equation 1)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import reductions
from lstm_explain.methods import LRP
from lstm_explain.operators import BatchLayout, Kind, NodeContext
from lstm_explain.operators.array_api import is_numpy
from lstm_explain.operators.formulas import At, in_dtype, settle, settle_rows, times
from lstm_explain.operators.operator import VJP
from lstm_explain.program.account import OWN_AXIS, add_per_sample, row_in
from lstm_explain.program.compile import Plan
from lstm_explain.program.constant_parts import constant_value
from lstm_explain.program.magnitudes import magnitude_value
from lstm_explain.program.passes import BackwardPass, Message, plus
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep, Line

Values = Mapping[str, Array]
MOST_WEIGHTS, MOST_ROWS = 1 << 14, 64  # elements of a linear map that is stored as a matrix
PROBES = 16  # vectors that test whether the matrix rounds alike


class DensityStep(BackwardStep):
    """A step that passes on densities: unchanged where the input is itself a sum or a logarithm, as relevance
    elsewhere.
    """

    def __init__(self, backward_node: BackwardNode, plan: Plan) -> None:
        super().__init__(backward_node)
        self.open = [
            (slot, name, name in plan.first_order or (backward_node.kind is not Kind.MAP and name in plan.linear))
            for slot, name in self.live
        ]

    def hand_on(
        self,
        back: BackwardPass,
        slot: int,
        name: str,
        is_sum: bool,
        message: Message,
        density: Array,
        amount: Array | None,
    ) -> None:
        layout = self.layout(back, slot, message, density.shape)
        if is_sum:
            back.send(name, layout, None, density, amount)
        else:
            back.send(name, layout, plus(times(density, back.value(name)), amount))

    def handing_on(self, back: BackwardPass, context: NodeContext) -> Callable[[Values, dict[str, Array], Array], None]:
        """Returns what `hand_on` does with the density at the node's output, for a straight line."""
        vjp, dtype, takers = self.backward_node.op.vjp, back.dtype, self.open
        assert vjp is not None
        rule = vjp

        def hand_on(values: Values, arrived: dict[str, Array], density: Array) -> None:
            for slot, name, is_sum in takers:
                part = rule(context, slot, density)
                arrived[name] = part if is_sum else times(part, in_dtype(values[name], dtype))

        return hand_on

    def line_by(self, back: BackwardPass, rule: VJP | None) -> Line | None:
        """Returns the line of a step that absorbs nothing. rule: moves relevance from the output to a slot."""
        context, source, takers = self.fixed, self.carrying[0], self.open
        if context is None or rule is None:
            return None
        known, move, hand_on = context, rule, self.handing_on(back, context)
        as_density = back.messages[source].density is not None

        def line(values: Values, _tapes: Values, arrived: dict[str, Array], _book: Array) -> None:
            if as_density:
                hand_on(values, arrived, arrived[source])
                return
            for slot, name, _ in takers:
                arrived[name] = move(known, slot, arrived[source])

        return line


class Neuron(DensityStep):
    """A sum or linear map. The share of its bias and stabiliser is absorbed, apart from the part that the bias factor
    gives to the inputs.
    """

    def __init__(self, backward_node: BackwardNode, plan: Plan, lrp: LRP) -> None:
        super().__init__(backward_node, plan)
        (self.out,) = self.carrying
        self.bias_factor = 0.0 if self.out in plan.first_order else lrp.bias_factor
        self.absolute = At(lrp.epsilon or 0.0)
        kind = plan.sums.get(self.name)
        self.beta = 0.0 if lrp.relative is None or kind is None else float(getattr(lrp.relative, kind))
        self.magnitude = magnitude_value(self.out)

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.out)
        if message is None:
            return
        context, vjp = self.context(back), self.backward_node.op.vjp
        assert vjp is not None
        density, amount = self._settled(back, context, message)
        units = _units(back, self.backward_node) if amount is not None else {}
        for slot, name, is_sum in self.open:
            part = None
            if amount is not None:
                assert self.backward_node.op.spread is not None
                part = self.backward_node.op.spread(context, slot, amount * (units[slot] / sum(units.values())))
            self.hand_on(back, slot, name, is_sum, message, vjp(context, slot, density), part)

    def _settled(self, back: BackwardPass, context: NodeContext, message: Message) -> tuple[Array, Array | None]:
        """Returns the density at the sum, and the amount to distribute over its units."""
        density, amount, bias = message.density, message.amount, self.backward_node.op.bias(context)
        if message.relevance is not None:
            in_rows = is_numpy(message.relevance) and (back.batch == 1 or message.layout == OWN_AXIS)
            if in_rows and density is None and amount is None and not self.bias_factor:
                settled = settle_rows(message.relevance, back.value(self.out), bias, self.at(back), back.batch)
                if settled is not None:
                    back.account.keep(self.name, settled[1])
                    return settled[0], None
            own, kept = settle(message.relevance, back.value(self.out), self.at(back))
            back.account.absorb(self.name, self._rest(kept), message.layout)
            if self.bias_factor:
                constant = back.value(constant_value(self.out))
                amount = plus(amount, self.bias_factor * (kept + times(own, constant)))
            density = own if density is None else density + own
        assert density is not None
        if bias is not None and self.bias_factor != 1:
            back.account.absorb(self.name, self._rest(times(density, bias)), message.layout)
        return density, amount

    def at(self, back: BackwardPass) -> At:
        """Returns the stabiliser at the sum."""
        return At(0.0, self.beta, back.value(self.magnitude)) if self.beta else self.absolute

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line | None:
        context, message, out, batch, dtype = self.fixed, back.messages[self.out], self.out, back.batch, back.dtype
        if context is None or self.bias_factor:
            return None
        bias, beta, magnitude, absolute = self.backward_node.op.bias(context), self.beta, self.magnitude, self.absolute
        layout, hand_on, sums = message.layout, self.handing_on(back, context), message.relevance is not None
        in_rows, row = batch == 1 or layout == OWN_AXIS, row_in(rows, self.name) if sums or bias is not None else None

        def line(values: Values, _tapes: Values, arrived: dict[str, Array], book: Array) -> None:
            density = arrived[out]
            if sums:
                at = At(0.0, beta, in_dtype(values[magnitude], dtype)) if beta else absolute
                z = in_dtype(values[out], dtype)
                settled = settle_rows(density, z, bias, at, batch) if in_rows else None
                if settled is not None:
                    density, kept = settled
                    book[row] += kept
                    hand_on(values, arrived, density)
                    return
                density, kept = settle(density, z, at)
                add_per_sample(kept, layout, book[row])
            if bias is not None:
                add_per_sample(times(density, bias), layout, book[row])
            hand_on(values, arrived, density)

        return line

    def _rest(self, kept: Array) -> Array:
        """Returns the share of bias and stabiliser that the node absorbs; the bias factor's part goes to the inputs."""
        return kept * (1 - self.bias_factor) if self.bias_factor else kept

    def specialised(self, back: BackwardPass) -> BackwardStep:
        step = self.with_fixed_context(back)
        if step is None or step.fixed is None:
            return self
        message = back.messages[self.out]
        only_relevance = message.density is None and message.amount is None and not self.bias_factor
        if only_relevance and self.backward_node.kind is Kind.MAP and len(self.live) == 1:
            return _dense(step, message, step.fixed, back.batch) or step
        return step


class Dense(BackwardStep):
    """`Neuron` for a small linear map, as one matrix that is the same for every sample.

    target, shape, layout: the value that receives the relevance of the input, its shape and where its samples lie.
    """

    def __init__(
        self,
        neuron: Neuron,
        weights: Array,
        bias: Array,
        batch: int,
        shape: tuple[int, ...],
        layout: BatchLayout | None,
    ) -> None:
        super().__init__(neuron.backward_node)
        self.out, self.weights, self.bias, self.shape, self.layout_there = neuron.out, weights, bias, shape, layout
        self.epsilon, self.beta = neuron.absolute.epsilon, neuron.beta
        self.magnitude, self.no_terms = neuron.magnitude, np.zeros((0, len(weights)), weights.dtype)
        self.of_outputs, self.of_inputs = ((batch, extent) for extent in weights.shape)
        ((_, self.source),) = self.live
        self.target = self.source

    def into(self, target: str, shape: tuple[int, ...], layout: BatchLayout | None) -> Dense:
        """Returns the step with the input's relevance in another shape, for the value that the input is a view of."""
        step = copy.copy(self)
        step.target, step.shape, step.layout_there = target, shape, layout
        return step

    def __call__(self, back: BackwardPass) -> None:
        values, dtype, rows, columns = back.done.values, back.dtype, self.of_outputs, self.of_inputs
        r, given = back.messages[self.out].relevance, np.empty(columns, dtype)
        assert r is not None
        reductions.dense_back(
            _rows(r, rows, dtype),
            _rows(values[self.out], rows, dtype),
            self.bias,
            self.epsilon,
            _rows(values[self.magnitude], rows, dtype) if self.beta else self.no_terms,
            self.beta,
            self.weights,
            _rows(values[self.source], columns, dtype),
            given,
            back.account.of_node(self.name),
        )
        back.send(self.target, self.layout_there, given.reshape(self.shape))

    @property
    def written(self) -> list[str]:
        return [self.target]

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line:
        dense_back, empty, dtype, of_outputs, of_inputs = (
            reductions.dense_back, np.empty, back.dtype, self.of_outputs, self.of_inputs
        )  # fmt: skip
        out, source, target, magnitude, shape = self.out, self.source, self.target, self.magnitude, self.shape
        bias, epsilon, no_terms, beta, weights = self.bias, self.epsilon, self.no_terms, self.beta, self.weights
        row, known = row_in(rows, self.name), back.done.values
        read = [(back.messages[out].some(), of_outputs), (known[out], of_outputs), (known[source], of_inputs)]
        read += [(known[magnitude], of_outputs)] if beta else []
        in_rows = all(array is _rows(array, rows_of_it, dtype) for array, rows_of_it in read)  # and so in every pass

        def line(values: Values, _tapes: Values, arrived: dict[str, Array], book: Array) -> None:
            r, z, x, given = arrived[out], values[out], values[source], empty(of_inputs, dtype)
            terms = values[magnitude] if beta else no_terms
            if not in_rows:
                r, z, x = _rows(r, of_outputs, dtype), _rows(z, of_outputs, dtype), _rows(x, of_inputs, dtype)
                terms = _rows(terms, of_outputs, dtype) if beta else terms
            dense_back(r, z, bias, epsilon, terms, beta, weights, x, given, book[row])
            arrived[target] = given.reshape(shape)

        return line


def _rows(array: Array, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """Returns the array as the kernel takes it."""
    array = array if array.dtype is dtype else in_dtype(array, dtype)
    return array if array.shape == shape and array.flags.c_contiguous else array.ravel().reshape(shape)


def _dense(neuron: Neuron, message: Message, context: NodeContext, batch: int) -> Dense | None:
    """Returns None where the map is large, where samples do not lie along the first axis, or where it rounds
    differently than the product with its matrix.
    """
    (slot, _), vjp, op = neuron.live[0], neuron.backward_node.op.vjp, neuron.backward_node.op
    r, there, bias, layout = message.some(), context.shape(slot), op.bias(context), None
    if batch > 1:
        assert message.layout is not None
        layout = op.layout(context, slot, message.layout, r.shape, there, batch)
        if message.layout != OWN_AXIS or layout != OWN_AXIS:
            return None
    outputs, inputs = r.size // batch, math.prod(there) // batch
    if not 0 < outputs * inputs <= MOST_WEIGHTS or outputs > MOST_ROWS:
        return None
    if bias is not None and (bias.shape != r.shape[r.ndim - bias.ndim :] or (batch > 1 and bias.ndim == r.ndim)):
        return None
    assert vjp is not None
    dtype, one = r.dtype, np.zeros((batch, outputs), r.dtype)
    weights = np.empty((outputs, inputs), dtype)
    for output in range(outputs):
        one[0] = np.arange(outputs) == output
        weights[output] = vjp(context, slot, one.reshape(r.shape)).ravel()[:inputs]
    for probe in np.random.default_rng(0).standard_normal((PROBES, batch, outputs)).astype(dtype):
        product = np.empty((batch, inputs), dtype)
        reductions.rows_times(probe, weights, product)
        if not np.array_equal(product.ravel(), vjp(context, slot, probe.reshape(r.shape)).ravel()):
            return None
    row = np.zeros(0, dtype) if bias is None else in_dtype(bias, dtype).ravel()
    return Dense(neuron, weights, row, batch, there, layout)


class Scale(DensityStep):
    """One live operand times constants of this pass: relevance is unchanged."""

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.carrying[0])
        if message is None:
            return
        context, op = self.context(back), self.backward_node.op
        ((slot, name, is_sum),) = self.open
        assert op.spread is not None
        amount = None if message.amount is None else op.spread(context, slot, message.amount)
        if message.relevance is not None:
            kept = op.spread(context, slot, message.relevance)
            back.send(name, self.layout(back, slot, message, kept.shape), kept)
        if message.density is not None:
            assert op.vjp is not None
            self.hand_on(back, slot, name, is_sum, message, op.vjp(context, slot, message.density), amount)

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line | None:
        return self.line_by(back, self.backward_node.op.spread)


# --- how many units feed a value, for the bias factor ---------------------------------------------------------------


def _units(back: BackwardPass, backward_node: BackwardNode) -> dict[int, float]:
    """Returns the number of units that feed a sum or linear map through each live slot."""
    if backward_node.kind is Kind.MAP:
        return {slot: backward_node.op.fan_in(back.context(backward_node), slot) for slot in backward_node.live}
    known = back.fan_in or _fill_fan_in(back)
    return {slot: known.get(backward_node.node.inputs[slot], 1.0) for slot in backward_node.live}


def _fill_fan_in(back: BackwardPass) -> dict[str, float]:
    for backward_node in back.plan.backward_nodes:  # inputs first, so that every operand is known before its sum
        if back.plan.linear.intersection(backward_node.node.outputs):
            back.fan_in.update(dict.fromkeys(backward_node.node.outputs, _fan_in_of(back, backward_node)))
    return back.fan_in


def _fan_in_of(back: BackwardPass, backward_node: BackwardNode) -> float:
    if backward_node.kind is Kind.MAP:
        return sum(backward_node.op.fan_in(back.context(backward_node), slot) for slot in backward_node.live)
    feeding = [back.fan_in.get(backward_node.node.inputs[slot], 1.0) for slot in backward_node.live]
    return sum(feeding) if backward_node.kind is Kind.SUM else max(feeding)
