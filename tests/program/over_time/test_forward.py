# SPDX-License-Identifier: Apache-2.0
"""Sessions are kept by the sizes that they serve, as far as their weights allow."""

from __future__ import annotations

from dataclasses import dataclass

from lstm_explain.program.over_time.forward import MOST_BYTES, MOST_KEPT, BySizes


@dataclass
class Session:
    size: int


def test_a_session_is_made_once_for_each_size() -> None:
    kept, made = BySizes[Session](), list[int]()

    def make(size: int) -> Session:
        made.append(size)
        return Session(size)

    for size in (1, 2, 1, 2):
        found = kept.get(size, lambda size=size: make(size))  # type: ignore[misc]
        assert found is not None
        assert found.size == size
    assert made == [1, 2]


def test_sizes_that_cannot_be_served_are_remembered() -> None:
    kept = BySizes[Session]()
    assert kept.get("a", lambda: None) is None
    assert kept.get("a", lambda: Session(1)) is None
    kept.get("b", lambda: Session(1))
    kept.give_up("b")
    assert kept.get("b", lambda: Session(1)) is None


def test_old_sessions_are_dropped() -> None:
    kept = BySizes[Session]()
    first = kept.get(0, lambda: Session(1))
    for key in range(1, MOST_KEPT + 1):
        kept.get(key, lambda: Session(1))
    assert kept.get(0, lambda: Session(1)) is not first
    small = kept.get("small", lambda: Session(1))
    kept.get("large", lambda: Session(MOST_BYTES))
    assert kept.get("small", lambda: Session(1)) is not small
