# SPDX-License-Identifier: Apache-2.0
"""Tables for the page (a year of weather, CSV), and readers of the tables that it shows."""

from __future__ import annotations

import numpy as np

from tests.web.page import Page

WEATHER = ("prcp", "srad", "tmax", "tmin", "vp")


def year(days: int = 90) -> np.ndarray:
    rng = np.random.default_rng(3)
    scale = np.array([8, 300, 15, 8, 900], dtype=np.float32)
    return np.round(np.abs(rng.standard_normal((days, 5))).astype(np.float32) * scale, 2)


def csv(table: np.ndarray, columns: tuple[str, ...] = WEATHER, delimiter: str = ",") -> str:
    lines = [delimiter.join(columns), *(delimiter.join(f"{value:.2f}" for value in row) for row in table)]
    return "\n".join(lines) + "\n"


def words_of(page: Page, method: str) -> list[tuple[str, str]]:
    card = f'article[data-method="{method}"]'
    names = [element.text for element in page.all(f"{card} .word b")]
    return list(zip(names, [element.text for element in page.all(f"{card} .word small")], strict=True))


def rows_of(page: Page, selector: str) -> list[list[str]]:
    rows = page.all(f"{selector} tbody tr")
    return [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in rows]
