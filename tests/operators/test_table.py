"""What an entry of the table has to say, and whether what it says of the operator is so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lstm_explain.graph import recurrent_operands
from lstm_explain.methods.composite import LAYERS
from lstm_explain.operators import TABLE, Kind, Operator, Trait
from lstm_explain.operators.operator import Table, aligned, missing_fields, undeclared
from tests.operators import CASES
from tests.operators.case import Case, outputs_of

INCOMPLETE = {
    "Relu without a derivative": ("Relu", {"vjp": None}, "vjp"),
    "Softmax that does not say where samples lie": ("Softmax", {"layout": undeclared}, "layout"),
    "Softmax that does not say where axes run": ("Softmax", {"axes": undeclared}, "axes"),
    "Tile that does not say where samples lie": ("Tile", {"layout": undeclared}, "layout"),
    "Gather, whose kind depends on the node": ("Gather", {"layout": undeclared}, "layout"),
    "Add that spreads nothing": ("Add", {"spread": None}, "spread"),
    "Conv that spreads nothing": ("Conv", {"spread": None}, "spread"),
    "Conv that does not count its units": ("Conv", {"fan_in": undeclared}, "fan_in"),
    "LSTM without kernels": ("LSTM", {"cell": None}, "cell"),
    "LSTM without states": ("LSTM", {"states": ()}, "states"),
    "Range that does not say where axes run": ("Range", {"axes": undeclared}, "axes"),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_an_entry_that_lacks_what_its_kind_needs_is_refused(name: str) -> None:
    operator, without, what = INCOMPLETE[name]
    entry, table = TABLE.ops[operator], Table()
    table.add("Whole", entry)
    with pytest.raises(AssertionError, match=rf"Mine: its entry does not say .*\({what}\)"):
        table.add("Mine", replace(entry, **without))
    assert "Mine" not in table.ops


def test_element_wise_operators_need_not_say_where_anything_lies() -> None:
    table = Table()
    table.add("Mine", Operator(Kind.ACTIVATION, TABLE.ops["Relu"].vjp, Trait.ELEMENTWISE))
    assert table.ops["Mine"].layout is aligned
    with pytest.raises(AssertionError, match="Mine is there already"):
        table.add("Mine", table.ops["Mine"])


def test_every_entry_is_whole() -> None:
    assert {name: missing_fields(op) for name, op in TABLE.ops.items() if missing_fields(op)} == {}


def test_entries_agree_with_what_the_layers_below_know() -> None:
    """Reading a file comes before the table, and a composite is written without it."""
    assert recurrent_operands.CELLS.keys() == {name for name, op in TABLE.ops.items() if op.kind is Kind.RECURRENT}
    assert {op.layer for op in TABLE.ops.values()} - {""} == set(LAYERS)


# --- traits ----------------------------------------------------------------------------------------------------------


def disturbed(case: Case, slot: int) -> tuple[Any, Any]:
    """[elements of the operand, elements of the output]: which output changes with which element; and which lies in
    its place."""
    feeds, name = case.feeds(), f"x{slot}"
    x, y = feeds[name], outputs_of(case, feeds)
    changes, places = [], []
    for i in range(x.size):
        moved, mark = x.copy(), np.zeros(x.shape, bool)
        moved.flat[i] += 0.5 if x.dtype.kind == "f" else 1
        mark.flat[i] = True
        changes.append((outputs_of(case, {**feeds, name: moved}) != y).ravel())
        places.append(np.broadcast_to(mark, y.shape).ravel() if mark.ndim <= y.ndim else mark.ravel())
    return np.array(changes), np.array(places)


def entry_of(case: Case) -> Operator | None:
    return TABLE.get(f"{case.domain}::{case.op}" if case.domain else case.op)


ELEMENTWISE = [c for c in CASES if (op := entry_of(c)) is not None and Trait.ELEMENTWISE in op.traits]
MIXING = [c for c in CASES if (op := entry_of(c)) is not None and op.kind is Kind.ACTIVATION and c not in ELEMENTWISE]


@pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
def test_an_element_wise_operator_changes_in_the_same_place_only(case: Case) -> None:
    op = entry_of(case)
    assert op is not None
    for slot in case.live:
        if slot not in op.nondifferentiable:
            changes, places = disturbed(case, slot)
            assert not (changes & ~places).any()


@pytest.mark.parametrize("op", sorted({case.op for case in MIXING}))
def test_an_activation_that_is_not_called_element_wise_is_not(op: str) -> None:
    """So that no function of one element is forgotten where x * f(x) is looked for."""
    assert any(
        changes.shape[0] != changes.shape[1] or (changes & ~places).any()
        for case in MIXING
        if case.op == op
        for changes, places in [disturbed_or_reduced(case)]
    )


def disturbed_or_reduced(case: Case) -> tuple[Any, Any]:
    feeds = case.feeds()
    if outputs_of(case, feeds).size != feeds["x0"].size:
        return np.zeros((feeds["x0"].size, 0)), np.zeros(0)
    return disturbed(case, 0)


@pytest.mark.parametrize(
    "case", [c for c in CASES if (op := entry_of(c)) is not None and Trait.VIEW in op.traits], ids=str
)
def test_a_view_holds_every_element_once(case: Case) -> None:
    feeds = case.feeds()
    came = np.sort(outputs_of(case, feeds).astype(np.float64), axis=None)
    np.testing.assert_allclose(came, np.sort(feeds["x0"].astype(np.float64), axis=None), rtol=1e-3)


@pytest.mark.parametrize("case", [c for c in CASES if (op := entry_of(c)) and Trait.GATE in op.traits], ids=str)
def test_a_gate_lies_between_0_and_1(case: Case) -> None:
    y = outputs_of(case, {name: 3 * x for name, x in case.feeds().items()})
    assert y.min() >= 0
    assert y.max() <= 1


def test_a_trait_is_none_of_an_operator_that_is_not_there() -> None:
    assert TABLE.traits("Unheard") is Trait.NONE
    assert TABLE.states("Unheard") == ()
