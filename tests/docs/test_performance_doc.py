"""docs/performance.md shows the figures of docs/performance.json, and no others."""

from __future__ import annotations

import json

from scripts.performance_doc import FIGURES, MARKED, PAGE, PARTS, page


def test_the_page_is_current() -> None:
    text = PAGE.read_text()
    assert page(text, json.loads(FIGURES.read_text())) == text, "run python scripts/performance_doc.py"


def test_every_table_is_on_the_page() -> None:
    assert {found[2] for found in MARKED.finditer(PAGE.read_text())} == set(PARTS)
