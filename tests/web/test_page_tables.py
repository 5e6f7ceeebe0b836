# SPDX-License-Identifier: Apache-2.0
"""Tables that are pasted, chosen or dropped are explained, and their errors name row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.support.select import Select

import lstm_explain_client
from lstm_explain_client.render.scale import number
from tests.serving.running import Running
from tests.web.page import Page
from tests.web.tables import WEATHER, csv, rows_of, year


@pytest.mark.parametrize("how", ["paste", "pick", "drop"])
def test_a_table_is_explained_as_the_client_explains_it(page: Page, served: Running, tmp_path: Path, how: str) -> None:
    """With columns in another order, and one that the model does not have."""
    table = year()
    header, _, body = csv(table[:, ::-1], ("VP [Pa]", "tmin", " tmax", "srad", "prcp")).partition("\n")
    lines = [f"2024-{i // 28 + 1:02d}-{i % 28 + 1:02d},{line}" for i, line in enumerate(body.splitlines())]
    text = "\n".join([f"day,{header}", *lines])
    page.choose("discharge", "weather")
    if how == "paste":
        page.paste("weather", text)
    elif how == "pick":
        (tmp_path / "year.csv").write_text(text)
        page.one("#file-weather").send_keys(str(tmp_path / "year.csv"))
    else:
        page.driver.execute_script(
            "const data = new DataTransfer(); data.items.add(new File([arguments[0]], 'year.csv'));"
            "for (const type of ['dragover', 'drop']) document.querySelector('.drop').dispatchEvent("
            "new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}))",
            text,
        )
    page.until(lambda: page.text("#seen-weather"))
    assert page.text("#seen-weather") == "90 rows of prcp, srad, tmax, tmin, vp; ignored: day."
    page.tick("integratedGradients")
    page.explain()
    with lstm_explain_client.Client(served.address) as client:
        expected = [
            client.explain("discharge", {"weather": table[None]}, method=m) for m in ("lrp", "integrated_gradients")
        ]
    sums = [[number(float(v)) for v in answer.relevance["weather"][0].sum(0, dtype=np.float64)] for answer in expected]
    shown = rows_of(page, ".beside")
    assert [row[0] for row in shown] == list(WEATHER)
    for j, column in enumerate(sums, 1):
        for row, value in zip(shown, column, strict=True):
            assert _close(row[j], value)
    page.all("article details:last-of-type summary")[-1].click()
    first = rows_of(page, 'article[data-method="integratedGradients"] .numbers')[0]
    assert first == ["2024-01-01", *(number(float(v)) for v in expected[1].relevance["weather"][0][0])]
    axis = page.text('article[data-method="lrp"] .matrix text')
    assert "Jan 2024" in axis
    assert "Mar" in axis


@pytest.mark.parametrize(("unit", "label", "cells"), [("steps", "per step", 90), ("features", "all steps", 5)])
def test_whole_steps_and_features_are_drawn_as_their_totals(
    page: Page, served: Running, unit: str, label: str, cells: int
) -> None:
    """Occlusion of a step shares its value equally over the features; the page shows the step's value once."""
    table = year()
    page.choose("discharge", "weather")
    page.paste("weather", csv(table))
    page.tick("occlusion")
    page.script('document.querySelector("#occlusion-over").closest("details").open = true')
    page.until(lambda: page.one("#occlusion-over").is_displayed())
    Select(page.one("#occlusion-over")).select_by_value(f"PLAYERS_{unit.upper()}")
    page.explain()
    with lstm_explain_client.Client(served.address) as client:
        answer = client.explain("discharge", {"weather": table[None]}, lstm_explain_client.Occlusion(over=unit))
    totals = answer.relevance["weather"][0].sum(1 if unit == "steps" else 0, dtype=np.float64)
    card = 'article[data-method="occlusion"]'
    assert label in page.text(f"{card} .matrix")
    page.all(f"{card} details:last-of-type summary")[-1].click()
    rows = rows_of(page, f"{card} .numbers")
    shown = [float(cell.replace("−", "-")) for row in rows for cell in row[1:]]
    assert len(shown) == cells
    np.testing.assert_allclose(shown, totals, rtol=1e-2, atol=1e-6)


def test_contextual_decomposition_is_drawn_as_totals_of_steps(page: Page) -> None:
    page.choose("discharge", "weather")
    page.paste("weather", csv(year()))
    page.tick("contextualDecomposition")
    page.explain()
    assert "per step" in page.text('article[data-method="contextualDecomposition"] .matrix')


def _close(shown: str, expected: str) -> bool:
    """Sums in another order may differ in the last digit that is shown."""
    a, b = (float(text.replace("−", "-")) for text in (shown, expected))
    return abs(a - b) <= 0.011 * max(abs(a), abs(b), 1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Paste a table, drop a file, or choose one."),
        ("prcp,srad,tmax,tmin,vp\n", "The table has a header but no row of numbers."),
        ("prcp,srad,tmax,tmin\n1,2,3,4", "The column vp is missing; the header has prcp, srad, tmax, tmin."),
        ("prcp,srad,tmax,tmin,vp,PRCP\n1,2,3,4,5,6", "The column prcp occurs more than once, at positions 1 and 6."),
        ("1,2,3,4\n", "The first row has 4 cells, the model requires 5 (prcp, srad, tmax, tmin, vp)."),
        ("prcp,srad,tmax,tmin,vp\n1,2,3,4,5\n\n1,2,3\n", "Row 2 (line 4) has 3 cells, the header has 5."),
        ("prcp,srad,tmax,tmin,vp\n1,2,3,4,5\n1,2,,4,5", "Row 2 (line 3), column tmax is empty; enter a number."),
        ("prcp,srad,tmax,tmin,vp\n1,2,3,4,warm", "Row 1 (line 2), column vp is “warm” instead of a number."),
        ("1,2,3,4,5\n1,nan,3,4,5", "Row 2 (line 2), column srad is “nan” instead of a number."),
        ('prcp,srad,tmax,tmin,vp\n1,2,"3,4,5', "The quotation mark in line 2 has no closing mark."),
    ],
)
def test_errors_in_a_table_name_row_and_column(page: Page, text: str, message: str) -> None:
    page.choose("discharge", "weather")
    page.paste("weather", text)
    page.one("#explain").click()
    page.until(page.problems)
    assert page.problems() == [message]
    area = page.one("#input-weather")
    assert area.get_attribute("aria-invalid") == "true"
    assert page.driver.switch_to.active_element == area
    page.paste("weather", csv(year(3)))
    assert page.problems() == []


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a;b\n1,5;2\n-3;+4e2\n", [[1.5, 2], [-3, 400]]),
        ("1\t2\r\n3\t4", [[1, 2], [3, 4]]),
        ('\ufeff"a, b",c\n"1",2\n\n3, 4 \n', [[1, 2], [3, 4]]),
        ("\u22121.5,.5", [[-1.5, 0.5]]),
    ],
)
def test_tables_are_read_as_spreadsheets_write_them(page: Page, text: str, rows: list[list[float]]) -> None:
    code = "return (await load('csv.js')).readTable(args[0], {count: 2}).rows"
    assert page.script(code, text) == rows
