# SPDX-License-Identifier: Apache-2.0
"""Defines the players of perturbation methods: time steps, features or single cells that the baseline replaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lstm_explain.errors import MethodError
from lstm_explain.graph.ir import Array
from lstm_explain.methods.base import Baseline, GroupedPlayers, Players
from lstm_explain.program.axes import Axes
from lstm_explain.runner.baselines import resolve_baselines
from lstm_explain.runner.model_runner import ExplainTask
from lstm_explain.runner.padding import padding_cells
from lstm_explain.runner.scores import Scores


@dataclass(frozen=True)
class PlayerSet:
    """The players of all inputs.

    players: by input, the number of the player that each cell belongs to; of the input's rank, with extent 1 along axes
        that do not distinguish players (such as the samples' axis where all samples play the same game; groups can
        differ between samples).
    baselines: by input, the replacing values.
    padding: by input, cells that are never replaced and get no relevance.
    """

    scores: Scores
    players: dict[str, Array]
    baselines: dict[str, Array]
    count: int
    padding: dict[str, Array] = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        """Whether the samples share an input."""
        return any(self._batch_axis(name) is None for name in self.players)

    def coalitions(self, count: int, present: Callable[[range], Array]) -> Array:
        """Returns an array [count, batch]: scores where only the `present` players keep their own cells.

        present: for the requested coalitions, which players are present: [coalitions, players], or [coalitions, batch,
        players] where samples differ.
        """
        inputs = self.scores.task.inputs

        def change(ids: range) -> dict[str, Array]:
            chosen = present(ids)
            masks = {n: self._mask(chosen, n, p) for n, p in self.players.items()}
            masks |= {n: masks[n] | cells for n, cells in self.padding.items() if n in masks}
            return {n: np.where(mask, inputs[n], self.baselines[n]) for n, mask in masks.items()}

        return self.scores.of_variants(count, change)

    def _mask(self, chosen: Array, name: str, players: Array) -> Array:
        """[coalitions, *shape], with extent 1 where nothing differs."""
        axis = self._batch_axis(name)
        if chosen.ndim == 2:
            return chosen[:, players]
        if axis is None:  # the samples share this input: a cell stays only where all of them keep it
            return np.asarray(chosen.all(axis=1))[:, players]
        return np.moveaxis(chosen[:, :, players.take(0, axis)], 1, 1 + axis)

    def totals(self, relevance: Mapping[str, Array]) -> Array:
        """Returns an array [batch, players]: the relevance of every player, summed over its cells."""
        total = np.zeros((self.scores.batch, self.count))
        for name, players in self.players.items():
            axis = self._batch_axis(name)
            array = np.asarray(relevance[name], np.float64)
            rows = array[None] if axis is None else np.moveaxis(array, axis, 0)
            one = np.broadcast_to(players, array.shape)
            numbers = (one if axis is None else one.take(0, axis)).reshape(-1)
            for row, sums in zip(rows, total if axis is not None else [total], strict=True):
                sums += np.bincount(numbers, row.reshape(-1), minlength=self.count)
        return total

    def present(self) -> Array:
        """Returns an array [batch, players]: which players have a cell outside the padding of a sample."""
        real = np.ones((self.scores.batch, self.count), bool)
        for name, padding in self.padding.items():
            axis = self._batch_axis(name)
            if axis is not None and name in self.players:
                own = np.unique(self.players[name])
                numbers = np.moveaxis(np.broadcast_to(self.players[name], padding.shape), axis, 0)
                for row, one, cells in zip(real, numbers, np.moveaxis(padding, axis, 0), strict=True):
                    row[own] = np.bincount(one.reshape(-1), ~cells.reshape(-1), minlength=self.count)[own] > 0
        return real

    def chosen(self, name: str, samples: Array, these: Array, others: Array) -> Array:
        """Returns an array of the shape of an input: `these` for some samples ([batch], of bool), `others` for the
        rest.
        """
        axis = self._batch_axis(name)
        if axis is None:
            return these if samples.any() else others
        return np.where(samples.reshape([-1 if a == axis else 1 for a in range(others.ndim)]), these, others)

    def baseline_scores(self) -> Array:
        """Returns an array [batch]: the score with everything replaced."""
        return self.coalitions(1, lambda ids: np.zeros((1, self.count), bool))[0]

    def relevance(self, values: Array) -> dict[str, Array]:
        """Returns the values [batch, players] distributed, by input: each player's value in equal parts over its cells.

        Cells that equal their baseline get nothing, unless all cells of the player do.
        """
        inputs = self.scores.task.inputs
        return {n: self._distribute(values, inputs[n], p, self.baselines[n], n) for n, p in self.players.items()}

    def _distribute(self, values: Array, x: Array, players: Array, baseline: Array, name: str) -> Array:
        axis = self._batch_axis(name)
        numbers = np.broadcast_to(players, x.shape)
        real = np.ones(x.shape) if name not in self.padding else (~self.padding[name]).astype(np.float64)
        changed = (x != baseline) * real
        if axis is None:
            return self._distribute_one(values.sum(axis=0), numbers, changed, real)
        rows = zip(values, *(np.moveaxis(a, axis, 0) for a in (numbers, changed, real)), strict=True)
        return np.moveaxis(np.stack([self._distribute_one(*row) for row in rows]), 0, axis)

    def _distribute_one(self, values: Array, numbers: Array, changed: Array, real: Array) -> Array:
        cells = np.bincount(numbers.reshape(-1), changed.reshape(-1), minlength=self.count)
        whole = np.bincount(numbers.reshape(-1), real.reshape(-1), minlength=self.count)
        share = np.where(cells > 0, values / np.maximum(cells, 1), values / np.maximum(whole, 1))
        return share[numbers] * np.where(cells[numbers] > 0, changed, real)

    def _batch_axis(self, name: str) -> int | None:
        task = self.scores.task
        axis = task.runner.axes[name].batch
        fits = axis is not None and task.inputs[name].shape[axis] == self.scores.batch
        return axis if task.target.batch_axis is not None and fits else None


def player_set(scores: Scores, baseline: Baseline, over: GroupedPlayers) -> PlayerSet:
    """Returns the players of all inputs that the explained value depends on, numbered consecutively."""
    task = scores.task
    names = task.runner.reachable(task.head.value)
    baselines = resolve_baselines(baseline, task.inputs, names)
    players, count = {}, 0
    for name in names:
        x, axes = task.inputs[name], task.runner.axes[name]
        if over == "groups":
            own = _groups(task, name)
        else:
            shape = player_shape(x.shape, axes if task.target.batch_axis is not None else Axes(None, axes.time), over)
            own = np.arange(math.prod(shape)).reshape(shape)
        players[name] = count + own
        count += int(own.max()) + 1
    baselines = {name: baselines.get(name, np.zeros_like(task.inputs[name])) for name in names}
    return PlayerSet(scores, players, baselines, count, padding_cells(task))


def _groups(task: ExplainTask, name: str) -> Array:
    """Returns the groups of an input. An input that came later, such as the reference of a measure, is one group."""
    if not task.groups:
        raise no_groups()
    return task.groups.get(name, np.zeros((1,) * task.inputs[name].ndim, np.intp))


def no_groups() -> MethodError:
    return MethodError("over is 'groups', but the request has no groups", field="method.over")


def player_shape(shape: Sequence[int], axes: Axes, over: Players) -> tuple[int, ...]:
    """Returns the extents along which players differ. An input without a time axis is a single step."""
    if over == "cells":
        return tuple(1 if axis == axes.batch else extent for axis, extent in enumerate(shape))
    last = len(shape) - 1
    chosen = axes.time if over == "steps" else (last if last not in (axes.batch, axes.time) else None)
    return tuple(extent if axis == chosen else 1 for axis, extent in enumerate(shape))
