# SPDX-License-Identifier: Apache-2.0
"""What one can do with a result on the page: see that it is current, compare, download, share."""

from __future__ import annotations

import base64
import csv as csv_files
import io
import json
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.support.select import Select

import lstm_explain_client
from lstm_explain_client.render.scale import number
from tests.serving.running import Running
from tests.web.page import Page
from tests.web.tables import csv, rows_of, words_of, year
from tests.web.test_page import SENTENCE

SENTENCES = ("A warm, funny and moving film.", "The story is a mess.", "Hardly a masterpiece.")
STALE = "The form has changed since. Press Explain for a new result."


def explained(page: Page, *methods: str) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    page.tick(*methods)
    page.explain()


def in_view(page: Page, selector: str) -> bool:
    code = "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
    return bool(page.driver.execute_script(code + "return r.top >= 0 && r.bottom <= innerHeight", selector))


@pytest.fixture
def downloads(page: Page, tmp_path: Path) -> Path:
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    return tmp_path


def test_button_and_result_are_in_view_without_scrolling(page: Page) -> None:
    size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    explained(page)
    assert page.driver.execute_script("return scrollY") == 0
    for selector in ("#explain", "#answer h2", ".words", ".legend"):
        assert in_view(page, selector), selector
    page.choose("discharge", "weather")
    page.paste("weather", csv(year(365)))
    page.explain()
    page.until(lambda: page.all(".matrix svg"))
    assert in_view(page, "#explain")
    assert in_view(page, ".matrix svg")


def test_the_most_telling_models_come_first(page: Page) -> None:
    page.until(lambda: page.all("#input-tokens"))
    options = [option.text for option in Select(page.one("#model")).options]
    assert options[:3] == ["sentiment", "sentiment-mamba", "discharge"]


def test_a_result_that_no_longer_belongs_to_the_form_is_dimmed(page: Page) -> None:
    explained(page)
    assert "stale" not in page.one("#answer").get_attribute("class")
    page.one("#input-tokens").send_keys(" More.")
    assert page.text("#status") == STALE
    assert "stale" in page.one("#answer").get_attribute("class")
    page.explain()
    assert "stale" not in (page.one("#answer").get_attribute("class") or "")
    page.one("#method-lrp").click()
    assert page.text("#status") == STALE
    page.choose("discharge", "weather")
    assert page.all("#answer article") == []
    assert page.text("#answer h2").startswith("See how")


def test_a_result_before_an_error_is_dimmed(page: Page) -> None:
    explained(page)
    page.paste("tokens", " ")
    page.one("#explain").click()
    page.until(page.problems)
    assert "stale" in page.one("#answer").get_attribute("class")


def test_classes_have_probabilities(page: Page, served: Running) -> None:
    explained(page)
    with lstm_explain_client.Client(served.address) as client:
        logits = client.explain("sentiment", {"tokens": [SENTENCE]}).outputs["logits"][0].astype(np.float64)
    shares = np.exp(logits - logits.max())
    shown = [float(row[2].removesuffix(" %")) for row in rows_of(page, ".pair > table")]
    np.testing.assert_allclose(shown, 100 * shares / shares.sum(), atol=0.06)


def test_every_class_side_by_side(page: Page, served: Running) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    Select(page.one("#index")).select_by_visible_text("every class, side by side")
    assert not page.one("#contrast").is_enabled()
    page.explain()
    with lstm_explain_client.Client(served.address) as client:
        answers = client.explain_many("sentiment", {"tokens": [SENTENCE]}, targets=[0, 1, 2, 3, 4])
    columns = [element.text for element in page.all(".beside thead th")]
    assert columns == ["word", "very negative", "negative", "neutral", "positive", "very positive"]
    relevance = np.array([answer.relevance["tokens"][0] for answer in answers])
    assert [row[1:] for row in rows_of(page, ".beside")] == [[number(float(v)) for v in word] for word in relevance.T]
    assert len(page.all("article")) == 5


def test_examples_are_real(page: Page) -> None:
    page.choose("sentiment", "tokens")
    page.one("button.example").click()
    first = page.one("#input-tokens").get_attribute("value")
    page.one("button.example").click()
    assert first != page.one("#input-tokens").get_attribute("value") != ""
    page.choose("discharge", "weather")
    page.one("button.example").click()
    assert "365 rows of prcp, srad, tmax, tmin, vp; ignored: date" in page.text("#seen-weather")
    assert "Explained discharge" in page.explain()


def test_each_line_is_a_text_of_its_own(page: Page, served: Running, downloads: Path) -> None:
    page.choose("sentiment", "tokens")
    page.paste("tokens", "\n".join(SENTENCES))
    page.one("#lines-tokens").click()
    page.one("#explain").click()
    page.until(lambda: len(page.all(".line")) == len(SENTENCES))
    with lstm_explain_client.Client(served.address) as client:
        result = client.explain("sentiment", {"tokens": list(SENTENCES)})
    for i, line in enumerate(page.all(".line")):
        words = [t for t in result.tokens["tokens"][i] if t]
        assert [word.text for word in line.find_elements("css selector", ".word b")] == words
    page.all(".line summary")[1].click()
    page.until(lambda: page.all(".line article"))
    page.one("#answer .tools button").click()
    file = downloads / "sentiment.csv"
    page.until(file.exists)
    rows = list(csv_files.DictReader(io.StringIO(file.read_text())))
    assert {row["label"] for row in rows} == set(SENTENCES)
    total = sum(float(row["relevance"]) for row in rows if row["sample"] == "1")
    assert total == pytest.approx(float(result.relevance["tokens"][1].sum()), rel=1e-4)


def test_a_column_tells_the_samples_of_a_table_apart(page: Page) -> None:
    page.choose("addition", "x")
    page.paste("x", "sample,unmarked,first,second\na,0.5,0,0\na,0,2,0\na,0,0,1\nb,0,1,0\nb,0.1,0,0\nb,0,0,-3\n")
    assert "6 rows of unmarked, first, second in 2 samples" in page.text("#seen-x")
    page.one("#explain").click()
    page.until(lambda: len(page.all(".line")) == 2)
    assert [line.text.split(":")[0] for line in page.all(".line strong")] == ["sample a", "sample b"]


def test_a_link_restores_model_input_and_settings(page: Page) -> None:
    page.choose("sentiment", "tokens")
    page.paste("tokens", "Überraschend “gut” — 好看")
    page.tick("gradientTimesInput")
    page.one("#method-list details summary").click()
    Select(page.one("#lrp-productRule")).select_by_visible_text("half each")
    Select(page.one("#index")).select_by_visible_text("positive")
    Select(page.one("#contrast")).select_by_visible_text("neutral")
    page.one("#link").click()
    page.until(lambda: "settings" in page.text("#status"))
    address = page.driver.current_url
    page.driver.get("about:blank")
    page.driver.get(address)
    page.until(lambda: page.all("#input-tokens"))
    page.until(lambda: page.one("#input-tokens").get_attribute("value") == "Überraschend “gut” — 好看")
    assert page.one("#method-gradientTimesInput").is_selected()
    assert page.one("#lrp-productRule").get_attribute("value") == "PRODUCT_RULE_HALF"  # in closed settings
    assert Select(page.one("#index")).first_selected_option.text == "positive"
    assert Select(page.one("#contrast")).first_selected_option.text == "neutral"
    assert "Explained positive" in page.explain()


@pytest.mark.parametrize(
    "data", ["!!!", "e30", "bnVsbA", "W10", "eyJpbnB1dHMiOjN9", "eyJ0YXJnZXQiOnsiaW5kZXgiOiI5OSJ9fQ"]
)
def test_a_broken_link_opens_the_page(page: Page, data: str) -> None:
    page.driver.get("about:blank")
    page.driver.get(f"{page.address}#sentiment?{data}")
    page.until(lambda: page.all("#input-tokens"))
    page.one("#input-tokens").send_keys("good")
    assert "Explained" in page.explain()


def test_downloads(page: Page, served: Running, downloads: Path) -> None:
    explained(page)
    with lstm_explain_client.Client(served.address) as client:
        expected = client.explain("sentiment", {"tokens": [SENTENCE]})
    tokens, relevance = expected.tokens["tokens"][0], expected.relevance["tokens"][0]
    for button in page.all(".downloads button"):
        button.click()
    files = {kind: downloads / f"sentiment-lrp.{kind}" for kind in ("png", "csv", "json", "html")}
    page.until(lambda: all(file.exists() for file in files.values()))
    rows = list(csv_files.reader(io.StringIO(files["csv"].read_text())))
    assert rows[0] == ["token", "relevance"]
    assert [row[0] for row in rows[1:]] == list(tokens)
    np.testing.assert_allclose([float(row[1]) for row in rows[1:]], relevance, rtol=1e-6)
    data = json.loads(files["json"].read_text())
    assert data["explained"] == pytest.approx(float(expected.explained[0]))
    assert data["relevance"][0]["tokens"] == list(tokens)
    assert data["ledger"]["absorbed"] == pytest.approx(float(expected.ledger.absorbed[0]))
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    shown = words_of(page, "lrp")
    page.driver.get(files["html"].as_uri())
    assert words_of(page, "lrp") == shown
    assert page.all("script, button") == []
    assert page.one(".word b").value_of_css_property("border-bottom-style") in ("solid", "dashed")


def test_a_picture_of_a_table_is_drawn(page: Page, downloads: Path) -> None:
    page.choose("discharge", "weather")
    page.paste("weather", csv(year(60)))
    page.explain()
    page.until(lambda: page.all(".matrix svg"))
    page.one(".downloads button").click()
    file = downloads / "discharge-lrp.png"
    page.until(file.exists)
    card = page.one("article").size
    width, height = (int.from_bytes(file.read_bytes()[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == pytest.approx((2 * card["width"], 2 * card["height"]), abs=4)
    colours = page.script(
        "const image = new Image(); image.src = args[0]; await image.decode();"
        "const c = document.createElement('canvas'); c.width = image.width; c.height = image.height;"
        "const x = c.getContext('2d'); x.drawImage(image, 0, 0);"
        "return new Set(new Uint32Array(x.getImageData(0, 0, c.width, c.height).data.buffer)).size",
        f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}",
    )
    assert colours > 100


def test_terms_are_explained(page: Page) -> None:
    explained(page)
    titles = {element.text: element.get_attribute("title") for element in page.all("abbr[title]")}
    assert "stabilisers hold back" in titles["kept by biases and stabilisers"]
    page.all("#answer > .terms summary")[0].click()
    assert "Arras" in page.text(".terms dd")


def test_nothing_is_cut_on_a_phone(page: Page) -> None:
    page.look(360, "light")
    page.choose("discharge", "weather")
    page.paste("weather", csv(year(60)))
    page.explain()
    page.until(lambda: page.all(".matrix svg"))
    code = """
    const svg = document.querySelector(".matrix svg").getBoundingClientRect();
    const texts = Array.from(document.querySelectorAll(".matrix text"), (t) => t.getBoundingClientRect());
    return texts.map((box) => Math.max(box.right - svg.right, svg.left - box.left));
    """
    assert max(page.driver.execute_script(code)) <= 0.5
