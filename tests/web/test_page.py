# SPDX-License-Identifier: Apache-2.0
"""The page shows what the server answers, and shows errors where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

import lstm_explain_client
from lstm_explain_client.render.scale import number
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, serving
from tests.web.page import MOST_STEPS, Page
from tests.web.tables import csv, rows_of, words_of, year

SENTENCE = "The jokes are not funny and the story is a mess, yet I enjoyed it."

TOKEN = "reader-0123456789ab"


def test_a_sentence_is_explained_as_the_client_explains_it(page: Page, served: Running) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    status = page.explain()
    with lstm_explain_client.Client(served.address) as client:
        expected = client.explain("sentiment", {"tokens": [SENTENCE]})
    tokens, relevance = expected.tokens["tokens"][0], expected.relevance["tokens"][0]
    assert words_of(page, "lrp") == [(t, number(float(r))) for t, r in zip(tokens, relevance, strict=True)]
    logits = expected.outputs["logits"][0]
    shown = rows_of(page, ".pair > table")
    assert [row[1] for row in shown] == [number(float(value)) for value in logits]
    assert shown[int(logits.argmax())][0] == "negative ◂ explained"
    shares = ("inputs", "initial_states", "absorbed", "residual")
    sums = [*(float(getattr(expected.ledger, name)[0]) for name in shares), float(expected.explained[0])]
    assert [row[1] for row in rows_of(page, ".pair > div > table")] == [number(value) for value in sums]
    assert status.startswith(f"Explained negative: {number(sums[-1])}, by LRP, in ")


def test_methods_are_shown_side_by_side(page: Page, served: Running) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    page.tick("occlusion", "gradientTimesInput")
    page.explain()
    columns = [element.text for element in page.all(".beside thead th")]
    assert columns == ["word", "LRP", "Gradient × input", "Occlusion"]
    with lstm_explain_client.Client(served.address) as client:
        answers = [
            client.explain("sentiment", {"tokens": [SENTENCE]}, method=m)
            for m in ("lrp", "gradient_times_input", "occlusion")
        ]
    relevance = np.array([answer.relevance["tokens"][0] for answer in answers])
    assert [row[1:] for row in rows_of(page, ".beside")] == [[number(float(v)) for v in word] for word in relevance.T]
    reported = np.corrcoef(relevance)[0]
    assert f"Gradient × input {number(reported[1])}, Occlusion {number(reported[2])}" in page.text("#answer .note")


def test_a_class_and_a_contrast_are_chosen(page: Page, served: Running) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    Select(page.one("#index")).select_by_visible_text("very positive")
    Select(page.one("#contrast")).select_by_visible_text("negative")
    page.explain()
    with lstm_explain_client.Client(served.address) as client:
        target = lstm_explain_client.Target(index=4, contrast=1)
        expected = client.explain("sentiment", {"tokens": [SENTENCE]}, target=target)
    assert [number for _, number in words_of(page, "lrp")] == [
        number(float(r)) for r in expected.relevance["tokens"][0]
    ]
    assert "very positive ◂ explained" in page.text(".pair > table")
    assert "negative ◂ compared with" in page.text(".pair > table")


def test_parameters_reach_the_server(page: Page, served: Running) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    page.one("#method-list details summary").click()
    Select(page.one("#lrp-productRule")).select_by_visible_text("half each")
    page.one("#lrp-epsilon").clear()
    page.one("#lrp-epsilon").send_keys("0.01")
    page.explain()
    with lstm_explain_client.Client(served.address) as client:
        parameters = {"product_rule": "half", "epsilon": 0.01}
        expected = client.explain("sentiment", {"tokens": [SENTENCE]}, method="lrp", parameters=parameters)
    assert expected.method.stabiliser is None  # the model's own, which epsilon excludes
    assert [number for _, number in words_of(page, "lrp")] == [
        number(float(r)) for r in expected.relevance["tokens"][0]
    ]


@pytest.mark.parametrize("model", ["addition", "subtraction"])
def test_the_form_starts_with_the_models_parameters(page: Page, model: str) -> None:
    """The model.yaml of these models sets a stabiliser with which the relevance is the two numbers."""
    page.choose(model, "x")
    page.paste("x", "0.6,0,0\n0,2.5,0\n-0.7,0,0\n0,0,1.1\n")
    page.explain()
    message = page.one(".matrix svg").get_attribute("aria-label")
    assert "first +2.5" in message  # what a screen reader says of the picture
    assert f"second {'+' if model == 'addition' else '−'}1.1" in message


def test_made_up_numbers(page: Page) -> None:
    page.choose("corridor", "x")
    page.one("#inputs .tools button").click()
    assert "30 rows of cell 0, cell 1" in page.text("#seen-x")
    assert "Explained return" in page.explain()


# What the server refuses


def test_a_refusal_is_shown_at_the_field(page: Page) -> None:
    page.choose("discharge", "weather")
    page.paste("weather", csv(year(MOST_STEPS + 1)))
    page.one("#explain").click()
    page.until(page.problems)
    assert page.problems() == [f"Input 'weather': {MOST_STEPS + 1} time steps, at most {MOST_STEPS} are allowed."]
    assert page.one("#input-weather").get_attribute("aria-invalid") == "true"
    assert page.driver.switch_to.active_element == page.one("#input-weather")


def test_a_method_that_fails_leaves_the_others(page: Page) -> None:
    """SmoothGrad exceeds the limit of samples; LRP still explains."""
    page.choose("discharge", "weather")
    page.paste("weather", csv(year(30)))
    page.tick("smoothGrad")
    page.one("#method-list details:has(#smoothGrad-samples) > summary").click()
    page.one("#smoothGrad-samples").clear()
    page.one("#smoothGrad-samples").send_keys("2000000")
    status = page.explain()
    assert "by 1 of 2 methods" in status
    assert "2000000" in page.text("article .problem")
    page.one("#smoothGrad-samples").clear()
    page.one("#smoothGrad-samples").send_keys("0")
    page.one("#explain").click()
    assert any("SmoothGrad: Noisy copies" in problem for problem in page.until(page.problems))
    assert page.driver.switch_to.active_element == page.one("#smoothGrad-samples")


def test_an_empty_form_is_not_sent(page: Page) -> None:
    page.choose("sentiment", "tokens")
    page.one("#explain").click()
    assert page.problems() == ["Type a sentence first."]
    page.one("#input-tokens").send_keys("good")
    page.tick("lrp")
    page.one("#explain").click()
    assert page.problems() == ["Choose at least one method."]


def begin_something_long(page: Page) -> None:
    page.choose("discharge", "weather")
    page.paste("weather", csv(year(365)))
    page.tick("lrp", "shapleySampling")
    page.all("#method-list details:not([hidden]) summary")[0].click()
    page.one("#shapleySampling-permutations").clear()
    page.one("#shapleySampling-permutations").send_keys("2000")
    page.one("#explain").click()
    page.until(lambda: page.one("#cancel").is_displayed())


def test_work_is_cancelled(page: Page) -> None:
    begin_something_long(page)
    page.one("#cancel").click()
    assert page.text("#status") == "Cancelled."
    assert page.one("#explain").is_enabled()
    assert not page.one("#cancel").is_displayed()
    assert page.driver.switch_to.active_element == page.one("#explain")


def test_choosing_another_model_cancels_the_work(page: Page) -> None:
    begin_something_long(page)
    page.choose("sentiment", "tokens")
    assert page.text("#status") == ""
    page.one("#input-tokens").send_keys("good")
    assert page.explain().startswith("Explained positive")


# Tokens


def test_a_token_is_required(driver: webdriver.Chrome, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    write_version(tmp_path / "models", "lstm", lstm())
    (tmp_path / "tokens").write_text(f"{TOKEN} explain\nmanager-0123456789a manage\n")
    with serving(tmp_path / "models", "--web", "127.0.0.1:0", "--tokens", str(tmp_path / "tokens")) as server:
        page = Page(driver, server.page())
        page.open()
        page.until(lambda: page.one("#token").is_displayed())
        assert not page.one("#ask").is_displayed()
        assert page.problems() == []
        assert driver.switch_to.active_element == page.one("#token")
        page.one("#token").send_keys("wrong", Keys.ENTER)
        page.until(lambda: page.problems() == ["The server does not know this token."])
        page.one("#token").clear()
        page.one("#token").send_keys("manager-0123456789a", Keys.ENTER)
        page.until(lambda: page.all("#input-x"))
        page.paste("x", "1,2,3,4")
        page.one("#explain").click()
        page.until(page.problems)
        assert "role 'explain'" in page.problems()[0]
        page.open()
        page.until(lambda: page.one("#token").is_displayed())
        page.one("#token").send_keys(TOKEN, Keys.ENTER)
        page.until(lambda: page.all("#input-x"))
        page.paste("x", "1,2,3,4")
        assert "Explained" in page.explain()
        kept = page.script("return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert TOKEN not in kept
        assert json.loads(kept) == [{}, {}, ""]


# What others wrote


def test_names_and_texts_are_never_html(driver: webdriver.Chrome, tmp_path: Path) -> None:
    """HTML and scripts in names, in a table and in the name of a file are shown as text."""
    evil = "<img src=x onerror=document.title='pwned'>"
    names = {"classes": {"logits": [f"{evil}{i}" for i in range(3)]}, "description": evil}
    write_version(tmp_path, "lstm", lstm(), config=json.dumps(names))
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"<script>")
    with serving(tmp_path, "--web", "127.0.0.1:0") as server:
        page = Page(driver, server.page())
        page.open()
        page.until(lambda: page.all("#input-x"))
        page.one("#unready summary").click()
        assert page.text("#unready li").startswith("broken, version 1: ")
        page.paste("x", f'{evil},"</textarea><script>document.title=1</script>",c,d\n1,2,3,4\n')
        page.tick("occlusion")
        page.explain()
        page.until(lambda: page.all(".matrix svg"))
        assert evil in page.text("#answer h2")
        assert evil in page.text("#model-note")
        assert page.all("main img, main script") == []
        assert driver.title.startswith("lstm-explain")
        assert page.complaints() == []


# Without a mouse


def tab_to(page: Page, selector: str) -> None:
    for _ in range(40):
        if page.driver.switch_to.active_element == page.one(selector):
            return
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
    raise AssertionError(f"40 times Tab do not lead to {selector}")


def test_the_page_works_by_keyboard(page: Page) -> None:
    """Uses Tab, arrows, Space and Enter from the top of the page."""
    page.until(lambda: page.all("#model option"))
    page.one("body").send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element.get_attribute("textContent") == "Skip to the result"
    keys = ActionChains(page.driver)
    keys.send_keys(Keys.TAB, Keys.DOWN, Keys.DOWN).perform()  # past the other model of sentiment
    page.until(lambda: page.all("#input-weather"))
    ActionChains(page.driver).send_keys(Keys.UP, Keys.UP).perform()
    page.until(lambda: page.all("#input-tokens"))
    ActionChains(page.driver).send_keys(Keys.TAB, Keys.TAB, "good but long").perform()
    assert page.one("#input-tokens").get_attribute("value") == "good but long"
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.until(lambda: page.all("#answer article"))
    # On to the second method, which Space ticks, and from there to the button.
    tab_to(page, "#method-gradientTimesInput")
    ActionChains(page.driver).send_keys(Keys.SPACE).perform()
    assert page.one("#method-gradientTimesInput").is_selected()
    tab_to(page, "#explain")
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.until(lambda: page.all(".beside"))
    assert page.one("#status").get_attribute("aria-live") == "polite"


def test_the_address_remembers_the_model(page: Page) -> None:
    page.choose("discharge", "weather")
    assert page.driver.current_url.endswith("#discharge")
    page.driver.refresh()
    page.until(lambda: page.all("#input-weather"))


def test_everything_is_loaded_from_the_server(page: Page) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys("good")
    page.explain()
    loaded = page.script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(loaded) > 8
    assert all(address.startswith(page.address) for address in loaded)
