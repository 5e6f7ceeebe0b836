# SPDX-License-Identifier: Apache-2.0
"""Exported cells of many kinds: whether the default relevance says what matters, and warns where it diverges."""

from __future__ import annotations

from pathlib import Path

import pytest

import lstm_explain as lx
from scripts import kinds_table
from tests import zoo
from tests.engine_checks import check_same
from tests.zoo.agreement import GATES_ONLY, agreement, divergence, explained, kinds

PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"


@pytest.mark.parametrize("name", zoo.second_names())
def test_relevance_has_the_sign_of_occlusion_where_it_matters(name: str) -> None:
    assert agreement(name) >= 0.8


@pytest.mark.parametrize("name", zoo.second_names())
def test_relevance_rarely_diverges_and_then_warns(name: str) -> None:
    large, warned = divergence(name)
    assert large.mean() <= 0.05
    assert warned[large].all()
    assert warned[~large].mean() <= 0.05


@pytest.mark.parametrize("name", zoo.second_names())
def test_an_input_that_only_opens_gates_warns_and_nothing_else_does(name: str) -> None:
    e = explained(name, lx.LRP())
    silent = GATES_ONLY.intersection(e.relevance)
    assert all(any(f"'{n}'" in warning for warning in e.warnings) for n in silent)
    assert len(e.warnings) == len(e.findings) + len(silent)


@pytest.mark.parametrize("names", [pytest.param(v, id=k) for k, v in kinds().items() if len(v) > 1])
def test_both_exports_are_explained_alike(names: list[str]) -> None:
    legacy, dynamo = (explained(name, lx.LRP()) for name in sorted(names, reverse=True))
    for name, R in legacy.relevance.items():
        check_same(dynamo.relevance[name], R, 1e-4, name)


def test_the_documentation_has_a_row_for_each_kind() -> None:
    rows = PAGE.read_text("utf-8").splitlines()
    for kind, names in kinds().items():
        (row,) = (row for row in rows if row.startswith(f"| `{kind}` |"))
        assert all(kinds_table.exporter(name) in row for name in names)
