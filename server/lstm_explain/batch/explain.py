# SPDX-License-Identifier: Apache-2.0
"""Explains rows in batches of equal shape, and isolates the rows that cannot be explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lstm_explain.batch.cells import Array, Unusable
from lstm_explain.batch.feed import Feed, Row
from lstm_explain.batch.groups import are_players, groups_of_batch, groups_of_row, relevance_of_groups
from lstm_explain.condition import Condition
from lstm_explain.errors import Error, InputError, MethodError, ModelError, UnsupportedOperator
from lstm_explain.grouping import NO_GROUPS, Grouping, GroupRelevance, Groups
from lstm_explain.methods import Method
from lstm_explain.model import Explanation, Model
from lstm_explain.repository.request_limits import estimate
from lstm_explain.target import Target
from lstm_explain.target_sets import TargetSet

MAX_ROWS = 64  # rows of a batch
MAX_BYTES = 256 << 20  # memory of one batch in bytes, by the estimate that the service uses
TOLERANCE = 1e-5  # difference between a row in a batch and alone, relative to the largest relevance


@dataclass(frozen=True)
class RowResult:
    """The part of an Explanation that belongs to one row.

    target: the explained position, if there was one. quantity: what `explained` is of the output; see Explanation.
    others: the results for further targets of the job. not_explained: why a condition left the row out; empty where it
    is explained. groups: the relevance of groups of entries by input, without a batch axis; empty where the job asks
    for none.
    """

    relevance: Mapping[str, Array]
    outputs: Mapping[str, Array]
    target: list[int] | None
    explained: float
    quantity: str
    inputs: float
    initial_states: float
    absorbed: float
    residual: float
    standard_error: Mapping[str, Array]
    warning: str = ""
    others: tuple[RowResult, ...] = ()
    not_explained: str = ""
    groups: Mapping[str, GroupRelevance] = field(default_factory=dict)

    @property
    def each(self) -> tuple[RowResult, ...]:
        """One result per target of the job."""
        return self, *self.others

    @property
    def residual_share(self) -> float:
        """The residual as a share of the explained value."""
        return abs(self.residual) / abs(self.explained) if self.explained else float(self.residual != 0)


@dataclass(frozen=True)
class Padding:
    """Whether rows of different lengths may share a batch. trims: by output, the time axis of one row's output."""

    allowed: bool = False
    trims: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Explainer:
    """targets: several at once, which take the place of `target`. outputs: those that are kept, with the axis along
    which samples lie (None: the output belongs to one sample). condition: what a row's prediction must meet to be
    explained. groups: entries whose relevance is summed. through: by inner value, the units that relevance passes
    through.
    """

    model: Model
    feed: Feed
    method: Method
    target: Target
    outputs: Mapping[str, int | None]
    padding: Padding = Padding()
    targets: tuple[TargetSet, ...] = ()
    condition: Condition | None = None
    groups: Groups | None = None
    through: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def check(self, rows: Sequence[Row]) -> None:
        """Raises Error if the groups or the units fit no row: tries rows until one can be explained."""
        for row in rows if self.groups is not None or self.through else ():
            if row.problem:
                continue
            try:
                grouped = replace(row, groups=self._groups(row))
                self._explanations([grouped] * (self.feed.fixed_batch or 1))
            except Error as error:
                if error.field.partition(".")[0] in ("groups", "through"):
                    raise
            else:
                return

    def explain(self, rows: Sequence[Row]) -> list[RowResult | Unusable]:
        """Returns an answer or a reason for each row. Raises Error where no row can be explained, whatever it
        contains.
        """
        if self.groups is not None:
            rows = [self._grouped(row) for row in rows]
        found: list[RowResult | Unusable] = [Unusable(row.problem) for row in rows]
        usable = [i for i, row in enumerate(rows) if not row.problem]
        largest_spread: tuple[int, int] = (0, -1)
        for batch in self._batches(rows, usable):
            self._explain(rows, batch, found)
            spread = sum(self.feed.steps(rows[batch[0]])) - sum(self.feed.steps(rows[batch[-1]]))
            largest_spread = max(largest_spread, (spread, batch[-1]))
        spread, i = largest_spread
        if spread and not same(found[i], self._explain_one(rows[i])):
            return replace(self, padding=Padding()).explain(rows)  # The model depends on padding after all.
        return found

    def _groups(self, row: Row) -> Grouping:
        """Raises InputError."""
        return NO_GROUPS if self.groups is None else groups_of_row(self.groups, self.model, self.feed, row)

    def _grouped(self, row: Row) -> Row:
        """Returns the row with its groups, or with the reason why they cannot be found."""
        if row.problem:
            return row
        try:
            return replace(row, groups=self._groups(row))
        except InputError as error:
            return replace(row, problem=str(error))

    def _explain_one(self, row: Row) -> RowResult | Unusable:
        found: list[RowResult | Unusable] = [Unusable("")]
        self._explain([row], [0], found)
        return found[0]

    def _batches(self, rows: Sequence[Row], usable: Sequence[int]) -> Iterator[list[int]]:
        """Yields the indices of rows that fit together, longest first."""
        kinds: dict[object, list[int]] = {}
        for i in usable:
            steps = () if self.padding.allowed else self.feed.steps(rows[i])
            kinds.setdefault((self.feed.frame(rows[i]), steps, self._players(rows[i])), []).append(i)
        for alike in kinds.values():
            alike.sort(key=lambda i: self.feed.steps(rows[i]), reverse=True)
            start = 0
            while start < len(alike):
                size = self._size(rows[alike[start]])
                yield alike[start : start + size]
                start += size

    def _size(self, longest: Row) -> int:
        fixed = self.feed.fixed_batch
        if fixed is not None:
            return fixed
        one = estimate(self.model, self.feed.stack([longest]), self.method, self.targets, self._players(longest))
        return max(1, min(MAX_ROWS, MAX_BYTES // one))

    def _players(self, row: Row) -> tuple[int, ...]:
        """Returns the number of groups of every input, where they are players."""
        return tuple(own.count for own in row.groups.values()) if are_players(self.method) else ()

    def _explain(self, rows: Sequence[Row], batch: Sequence[int], found: list[RowResult | Unusable]) -> None:
        """Fills in the answers of the batch. A batch that fails is halved until the faulty row is found."""
        batch_rows = [rows[i] for i in batch]
        batch_rows += batch_rows[-1:] * ((self.feed.fixed_batch or 0) - len(batch))
        try:
            explanations = self._explanations(batch_rows)
        except (ModelError, MethodError, UnsupportedOperator):
            raise  # Every row would fail in the same way.
        except Exception as error:
            problem = str(error) if isinstance(error, Error) else f"unexpected {type(error).__name__}: {error}"
            if len(batch) == 1:
                found[batch[0]] = Unusable(problem, type(error).__name__)
                return
        else:
            for at, i in enumerate(batch):
                first, *others = (self._part(one, at, rows[i]) for one in explanations)
                found[i] = replace(first, others=tuple(others))
            return
        middle = len(batch) // 2
        self._explain(rows, batch[:middle], found)
        self._explain(rows, batch[middle:], found)

    def _explanations(self, rows: Sequence[Row]) -> Sequence[Explanation]:
        """Returns one per target of the job."""
        inputs, grouping = self.feed.stack(rows), NO_GROUPS
        if self.groups is not None and are_players(self.method):
            grouping = groups_of_batch(self.groups, self.model, self.feed, rows)
        given = (), None, self.condition, grouping, self.through
        if self.targets:
            return self.model.explain_many(inputs, self.method, self.targets, *given)
        return [self.model.explain(inputs, self.method, self.target, *given)]

    def _part(self, of: Explanation, at: int, row: Row) -> RowResult:
        ledger, index = of.ledger, of.target.index
        relevance, error = self._inputs(of.relevance, at, row), self._inputs(of.standard_error, at, row)
        return RowResult(
            relevance,
            {name: self._output(name, of.outputs[name], at, row) for name in self.outputs},
            None if index is None else [int(n) for n in np.asarray(index)[at]],
            float(of.explained[at]),
            of.explained_quantity,
            float(ledger.inputs[at]),
            float(ledger.initial_states[at]),
            float(ledger.absorbed[at]),
            float(ledger.residual[at]),
            error,
            "" if of.why_not(at) else "; ".join(of.warnings_of(at)),
            not_explained=of.why_not(at),
            groups={} if self.groups is None else relevance_of_groups(row, self.feed, relevance, error),
        )

    def _inputs(self, arrays: Mapping[str, Array], at: int, row: Row) -> dict[str, Array]:
        """Returns the row's arrays, without padding, for the inputs that came from the data."""
        parts = {}
        for name in self.feed.columns:
            if name in arrays:
                part = _sample(arrays[name], self.feed.axes[name].batch, at)
                parts[name] = part[tuple(slice(extent) for extent in row.inputs[name].shape)]
        return parts

    def _output(self, name: str, array: Array, at: int, row: Row) -> Array:
        part, axis = _sample(array, self.outputs[name], at), (self.padding.trims or {}).get(name)
        return part if axis is None else part[(slice(None),) * axis + (slice(max(self.feed.steps(row))),)]


def _sample(array: Array, axis: int | None, at: int) -> Array:
    return array if axis is None else array.take(at, axis)


def same(a: RowResult | Unusable, b: RowResult | Unusable) -> bool:
    """Returns whether two answers to one row are equal up to rounding."""
    if isinstance(a, Unusable) or isinstance(b, Unusable):
        return type(a) is type(b)
    if len(a.others) != len(b.others) or not all(map(same, a.others, b.others)):
        return False
    if bool(a.not_explained) is not bool(b.not_explained):
        return False
    pairs: list[tuple[Any, Any]] = [(a.explained, b.explained)]
    for first, second in ((a.outputs, b.outputs), *([] if a.not_explained else [(a.relevance, b.relevance)])):
        pairs += [(first[name], second[name]) for name in first]
    return all(
        np.shape(x) == np.shape(y) and np.max(np.abs(x - y), initial=0) <= TOLERANCE * np.max(np.abs(y), initial=0)
        for x, y in pairs
    )


def find_padding(explainer: Explainer, rows: Sequence[Row]) -> Padding:
    """Returns whether padding changes nothing for this model, method and target: tried with these rows, whole and
    shortened.

    The graph alone does not show it: a model may take lengths and still average over all steps, or mask without
    lengths.
    """
    best = Padding()
    if explainer.feed.fixed_batch is not None or are_players(explainer.method):
        return best
    for row in [row for row in rows if not row.problem][:4]:
        steps = max(explainer.feed.steps(row), default=0)
        pieces = {n: explainer.feed.shorten(row, n) for n in {max(1, steps // 2), max(1, steps - 1), 1} if n < steps}
        alone = {n: explainer._explain_one(piece) for n, piece in pieces.items()}
        whole = explainer._explain_one(row)
        if not pieces or isinstance(whole, Unusable) or any(isinstance(a, Unusable) for a in alone.values()):
            continue
        trims = _time_axes(whole, steps, {n: a for n, a in alone.items() if isinstance(a, RowResult)})
        if trims is None:
            return Padding()
        padded = replace(explainer, padding=Padding(True, trims))
        found: list[RowResult | Unusable] = [Unusable("")] * (1 + len(pieces))
        padded._explain([row, *pieces.values()], range(len(found)), found)
        if not all(map(same, found, [whole, *alone.values()])):
            return Padding()
        best = Padding(True, trims)
    return best


def _time_axes(whole: RowResult, steps: int, shortened: Mapping[int, RowResult]) -> dict[str, int] | None:
    """Returns the axis that is as long as the row, by output; None where an output depends on the length in another
    way.
    """
    found = {}
    for name, output in whole.outputs.items():
        for n, answer in shortened.items():
            other = answer.outputs[name]
            differ = [a for a, (x, y) in enumerate(zip(output.shape, other.shape, strict=True)) if x != y]
            if not differ:
                continue
            (axis, *more) = differ
            if more or output.shape[axis] != steps or other.shape[axis] != n:
                return None
            found[name] = axis
    return found
