# SPDX-License-Identifier: Apache-2.0
"""The page's part for groups of entries, a condition on the prediction, and units that relevance passes through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.support.select import Select

import lstm_explain_client as client
from lstm_explain_client.render.scale import number
from lstm_explain_client.render.tables import percent
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving
from tests.web.page import Page
from tests.web.tables import csv, rows_of, words_of, year
from tests.web.test_accessibility import violations

SENTENCE = "A warm, funny film, if far too long."
WATER = "water=prcp,vp; heat=tmax,tmin"


def fill(page: Page, **fields: str) -> None:
    """Opens the part and fills it in, by the ids of its fields."""
    if not page.one("#more").get_attribute("open"):
        page.one("#more summary").click()
    for name, value in fields.items():
        field = page.one(f"#{name.replace('_', '-')}")
        if field.tag_name == "select":
            Select(field).select_by_value(value)
        else:
            field.clear()
            field.send_keys(value)


def discharge(page: Page) -> np.ndarray[Any, Any]:
    table = year()
    page.choose("discharge", "weather")
    page.paste("weather", csv(table))
    return table[None].astype(np.float32)


def bars(own: client.GroupRelevance, explained: float) -> list[list[str]]:
    one = own.of(0)
    return [
        [name, number(float(r)), percent(float(r), explained), ""]
        for name, r in zip(one.names, one.relevance, strict=True)
    ]


@pytest.mark.parametrize(("method", "key"), [("lrp", "lrp"), ("shapley_sampling", "shapleySampling")])
def test_every_group_has_a_bar(page: Page, served: Running, method: str, key: str) -> None:
    """Where groups are players, the entries share their value equally, so the bars take the place of the picture."""
    x = discharge(page)
    fill(page, group_steps="window", group_count="40", group_features="own", group_names=WATER)
    if key != "lrp":
        page.tick("lrp", key)
    page.explain()
    features = {"water": ["prcp", "vp"], "heat": ["tmax", "tmin"]}
    with client.Client(served.address) as calls:
        e = calls.explain("discharge", {"weather": x}, method, groups=client.Groups(window=40, features=features))
    expected = bars(e.groups["weather"], float(e.explained[0]))
    assert len(expected) == 9
    assert rows_of(page, "table.groups") == expected
    assert bool(page.all("article .matrix")) is (key == "lrp")
    assert "PLAYERS" not in page.text("article .note")


def test_segments_and_words(page: Page, served: Running) -> None:
    x = discharge(page)
    x[0, 30:, 2] += 400
    page.paste("weather", csv(x[0]))
    fill(page, group_steps="changePoints", group_count="2")
    page.explain()
    with client.Client(served.address) as calls:
        cuts = client.Groups(change_points=client.ChangePoints(segments=2))
        e = calls.explain("discharge", {"weather": x}, groups=cuts)
        assert [row[0] for row in rows_of(page, "table.groups")] == ["steps 0-29", "steps 30-89"]
        assert rows_of(page, "table.groups") == bars(e.groups["weather"], float(e.explained[0]))
        page.choose("sentiment", "tokens")
        assert "changePoints" not in [o.get_attribute("value") for o in page.all("#group-steps option")]
        page.one("#input-tokens").send_keys(SENTENCE)
        page.tick("occlusion")
        fill(page, group_steps="words")
        page.explain()
        of = [
            calls.explain("sentiment", {"tokens": [SENTENCE]}, m, groups=client.Groups(words=True))
            .groups["tokens"]
            .of(0)
            for m in ("lrp", "occlusion")
        ]
    shown = [[name, *(number(float(one.relevance[i])) for one in of)] for i, name in enumerate(of[0].names)]
    assert rows_of(page, ".beside") == shown
    correlation = np.corrcoef(of[0].relevance, of[1].relevance)[0, 1]
    assert f"over all groups: Occlusion {number(float(correlation))}." in page.text("#answer .note")


def test_a_condition_says_why_there_is_no_explanation(page: Page, served: Running) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    fill(page, condition="probability > 0.999")
    assert page.explain().startswith("Predicted ")
    with client.Client(served.address) as calls:
        e = calls.explain("sentiment", {"tokens": [SENTENCE]}, condition="probability > 0.999")
    assert f"Not explained, by the condition: {e.not_explained[0]}." in page.text("article")
    assert page.all("article .word, article .downloads") == []
    assert [row[1] for row in rows_of(page, ".pair > table")] == [number(float(v)) for v in e.outputs["logits"][0]]
    fill(page, condition="probability > 0.001")
    assert page.explain().startswith("Explained ")
    assert page.all("article .word")


def test_relevance_through_units_is_called_that(page: Page, served: Running) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    fill(page, through="lstm.cell=72, 86; final_states=72,86,3")
    page.explain()
    with client.Client(served.address) as calls:
        through = {"lstm.cell": [72, 86], "final_states": [72, 86, 3]}
        e = calls.explain("sentiment", {"tokens": [SENTENCE]}, through=through)
    assert words_of(page, "lrp") == [
        (t, number(float(r))) for t, r in zip(e.tokens["tokens"][0], e.relevance["tokens"][0], strict=True)
    ]
    assert "Only the relevance that passes through lstm.cell=72,86; final_states=72,86,3." in page.text("article .note")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"group_steps": "window", "group_count": "0"}, "Steps per window: "),
        ({"group_features": "own"}, "Enter names, such as both=0,1."),
        ({"group_features": "own", "group_names": "rain"}, "“rain” is not of the form both=0,1."),
        ({"group_features": "own", "group_names": "wet=rain"}, "has no feature 'rain', expected prcp, srad"),
        ({"condition": "sometimes"}, "Condition is 'sometimes', expected conditions such as"),
        ({"through": "lstm.cell"}, "“lstm.cell” is not of the form lstm.cell=72,86."),
        ({"through": "lstm.cell=1,b"}, "“b” is no unit; enter whole numbers"),
        ({"through": "lstm.cell=64"}, "'lstm.cell' has the units 0 to 63, not 64."),
        ({"through": "a=1; a=2"}, "Through: 'a' occurs twice."),
        ({"through": "lstm.cell=1", "condition": "explained > 0"}, "through and a condition exclude each other."),
    ],
)
def test_a_problem_is_shown_in_this_part(page: Page, fields: dict[str, str], problem: str) -> None:
    discharge(page)
    fill(page, **fields)
    page.one("#explain").click()
    said = page.until(lambda: page.problems())
    assert len(said) == 1
    assert problem.lower() in said[0].lower()
    assert page.one("#more-problem").is_displayed()
    page.one("#through").send_keys(" ")
    assert page.problems() == []


def test_groups_of_the_model_are_offered_by_name(driver: webdriver.Chrome, tmp_path: Path) -> None:
    config = "features: {x: [rain, wind, sun, snow]}\nfeature_groups: {x: {wet: [rain, snow], air: [wind]}}\n"
    write_version(tmp_path, "grouped", lstm(1), 1, config)
    write_version(tmp_path, "plain", lstm(1))
    x = np.round(np.random.default_rng(5).standard_normal((1, 6, 4)), 2).astype(np.float32)
    with serving(tmp_path, "--web", "127.0.0.1:0") as server:
        page = Page(driver, server.page())
        page.look(1280, "light")
        page.open()
        page.choose("grouped", "x")
        page.paste("x", csv(x[0], ("rain", "wind", "sun", "snow")))
        assert [o.text for o in page.all("#group-features option")] == ["none", "of the model: wet, air", "your own"]
        fill(page, group_features="model")  # which is open already
        page.explain()
        with client.Client(server.address) as calls:
            detail = calls.model("grouped")
            e = calls.explain("grouped", {"x": x}, groups=client.Groups(features=True))
        assert detail.feature_groups == {"x": {"wet": ("rain", "snow"), "air": ("wind",)}}
        own = e.groups["x"].of(0)
        assert own.names.tolist() == ["wet", "air", "other features"]
        np.testing.assert_allclose(own.relevance[0], e.relevance["x"][0][:, [0, 3]].sum(), rtol=1e-5)
        assert rows_of(page, "table.groups") == bars(e.groups["x"], float(e.explained[0]))
        page.choose("plain", "x")
        assert [o.text for o in page.all("#group-features option")] == ["none", "your own"]
        assert page.complaints() == []


def test_a_link_restores_this_part(page: Page) -> None:
    discharge(page)
    fill(page, group_steps="window", group_count="40", group_features="own", group_names=WATER, through="lstm.cell=1")
    page.one("#link").click()
    address = page.until(lambda: "?" in page.driver.current_url and page.driver.current_url)
    page.driver.get("about:blank")
    page.driver.get(address)
    page.until(lambda: page.all("#group-count") and page.one("#group-count").get_attribute("value") == "40")
    values = {name: page.one(f"#{name}").get_attribute("value") for name in ("group-steps", "group-features")}
    assert values == {"group-steps": "window", "group-features": "own"}
    assert page.one("#group-names").get_attribute("value") == WATER
    assert page.one("#through").is_displayed()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_this_part_is_accessible(page: Page, width: int, scheme: str) -> None:
    page.look(width, scheme)
    discharge(page)
    fill(page, group_steps="window", group_count="10", group_features="own", group_names=WATER)
    page.explain()
    assert violations(page) == []
