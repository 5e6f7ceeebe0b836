# SPDX-License-Identifier: Apache-2.0
"""Damaged model files: refused with lx.Error or explained, but no crash, no hang, no unbounded memory.

Each case is tried in a worker process whose address space is limited. A failure's number is its name:
`python -c "from tests.fuzzing.worker import attempt; print(attempt(NUMBER))"` shows it again,
`attempt(NUMBER, "structured")` one of the others.
"""

from __future__ import annotations

import pytest

from tests.fuzzing import structured
from tests.fuzzing.mutate import case
from tests.fuzzing.watch import MOST_OF_RUNTIME, Findings, try_all

MOST_GROWTH = 400 << 20
MOST_PEAK = 3 << 30  # what ONNX Runtime may take (see watch), as much again for copies, and the compiler


def check(found: Findings, cases: int, growth: int = MOST_GROWTH) -> None:
    early, late = found.held[cases // 5], max(found.held[-10:])
    print(dict(found.outcomes), f"held {early >> 20} to {late >> 20} MiB, peak {found.peak >> 20} MiB")
    wrong = [f"  {n}: {what}" for n, what in sorted(found.failures.items())]
    assert not wrong, f"{len(wrong)} of {cases} cases:\n" + "\n".join(wrong[:40])
    assert sum(found.outcomes.values()) == cases
    assert min(found.outcomes[stage] for stage in ("refused", "loaded", "explained")) > 0.02 * cases
    assert late < early + growth
    assert found.peak < MOST_PEAK


def test_a_number_always_makes_the_same_model() -> None:
    assert case(8) == case(8)
    assert case(9) == case(9)
    assert len({case(number) for number in range(20)}) > 15


def test_500_damaged_models_do_no_harm() -> None:
    check(try_all(range(500)), 500)


@pytest.mark.parametrize("number", [8, 15])
def test_a_number_always_makes_the_same_extreme_model(number: int) -> None:
    assert structured.case(number) == structured.case(number)


EXTREME_GROWTH = MOST_GROWTH + MOST_OF_RUNTIME  # extents of a model may ask for all of what ONNX Runtime may keep


def test_120_extreme_models_do_no_harm() -> None:
    check(try_all(range(120), family="structured", processor=10, seconds=300), 120, EXTREME_GROWTH)


@pytest.mark.slow
def test_20_000_extreme_models_do_no_harm() -> None:
    check(try_all(range(120, 20_120), family="structured", processor=20, seconds=300), 20_000, EXTREME_GROWTH)


@pytest.mark.slow
def test_20_000_damaged_models_do_no_harm() -> None:
    check(try_all(range(500, 20_500)), 20_000)
