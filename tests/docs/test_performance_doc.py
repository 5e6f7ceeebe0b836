# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md shows the figures of docs/performance, and no others."""

from __future__ import annotations

from scripts.performance_doc import MARKED, PAGE, PARTS, measured, page


def test_the_page_is_current() -> None:
    text = PAGE.read_text()
    assert page(text, measured()) == text, "run python scripts/performance_doc.py"


def test_every_table_is_on_the_page() -> None:
    assert {found[2] for found in MARKED.finditer(PAGE.read_text())} == set(PARTS)
