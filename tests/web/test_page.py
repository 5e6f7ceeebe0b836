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

SENTENCE = "The jokes are not funny and the story is a mess, yet I enjoyed it."
WEATHER = ("prcp", "srad", "tmax", "tmin", "vp")
TOKEN = "reader-0123456789ab"


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


def test_a_sentence_is_explained_as_the_client_explains_it(page: Page, served: Running) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    status = page.explain()
    with lstm_explain_client.Client(served.address) as client:
        wanted = client.explain("sentiment", {"tokens": [SENTENCE]})
    tokens, relevance = wanted.tokens["tokens"][0], wanted.relevance["tokens"][0]
    assert words_of(page, "lrp") == [(t, number(float(r))) for t, r in zip(tokens, relevance, strict=True)]
    logits = wanted.outputs["logits"][0]
    shown = rows_of(page, ".pair > table")
    assert [row[1] for row in shown] == [number(float(value)) for value in logits]
    assert shown[int(logits.argmax())][0] == "negative ◂ explained"
    shares = ("inputs", "initial_states", "absorbed", "residual")
    sums = [*(float(getattr(wanted.ledger, name)[0]) for name in shares), float(wanted.explained[0])]
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
    told = np.corrcoef(relevance)[0]
    assert f"Gradient × input {number(told[1])}, Occlusion {number(told[2])}" in page.text("#answer .note")


def test_a_class_and_a_contrast_are_chosen(page: Page, served: Running) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    Select(page.one("#index")).select_by_visible_text("very positive")
    Select(page.one("#contrast")).select_by_visible_text("negative")
    page.explain()
    with lstm_explain_client.Client(served.address) as client:
        target = lstm_explain_client.Target(index=4, contrast=1)
        wanted = client.explain("sentiment", {"tokens": [SENTENCE]}, target=target)
    assert [number for _, number in words_of(page, "lrp")] == [number(float(r)) for r in wanted.relevance["tokens"][0]]
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
        wanted = client.explain("sentiment", {"tokens": [SENTENCE]}, method="lrp", parameters=parameters)
    assert wanted.method.stabiliser is None  # the model's own, which epsilon excludes
    assert [number for _, number in words_of(page, "lrp")] == [number(float(r)) for r in wanted.relevance["tokens"][0]]


@pytest.mark.parametrize("model", ["addition", "subtraction"])
def test_the_form_starts_with_the_models_parameters(page: Page, model: str) -> None:
    """The model.yaml of these models sets a stabiliser with which the relevance is the two numbers."""
    page.choose(model, "x")
    page.paste("x", "0.6,0,0\n0,2.5,0\n-0.7,0,0\n0,0,1.1\n")
    page.explain()
    told = page.one(".matrix svg").get_attribute("aria-label")
    assert "first +2.5" in told  # what a screen reader says of the picture
    assert f"second {'+' if model == 'addition' else '−'}1.1" in told


# Tables


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
        wanted = [
            client.explain("discharge", {"weather": table[None]}, method=m) for m in ("lrp", "integrated_gradients")
        ]
    sums = [[number(float(v)) for v in answer.relevance["weather"][0].sum(0, dtype=np.float64)] for answer in wanted]
    shown = rows_of(page, ".beside")
    assert [row[0] for row in shown] == list(WEATHER)
    for j, column in enumerate(sums, 1):
        for row, value in zip(shown, column, strict=True):
            assert _close(row[j], value)
    page.all("article details:last-of-type summary")[-1].click()
    first = rows_of(page, 'article[data-method="integratedGradients"] .numbers')[0]
    assert first == ["2024-01-01", *(number(float(v)) for v in wanted[1].relevance["weather"][0][0])]
    axis = page.text('article[data-method="lrp"] .matrix text')
    assert "Jan 2024" in axis
    assert "Mar" in axis


def _close(shown: str, wanted: str) -> bool:
    """Sums in another order may differ in the last digit that is shown."""
    a, b = (float(text.replace("−", "-")) for text in (shown, wanted))
    return abs(a - b) <= 0.011 * max(abs(a), abs(b), 1e-6)


@pytest.mark.parametrize(
    ("text", "told"),
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
def test_errors_in_a_table_name_row_and_column(page: Page, text: str, told: str) -> None:
    page.choose("discharge", "weather")
    page.paste("weather", text)
    page.one("#explain").click()
    page.until(page.problems)
    assert page.problems() == [told]
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
    page.all("#method-list details summary")[-1].click()
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


def test_the_page_works_by_keyboard(page: Page) -> None:
    """Uses Tab, arrows, Space and Enter from the top of the page."""
    page.until(lambda: page.all("#model option"))
    page.one("body").send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element.get_attribute("textContent") == "Skip to the result"
    keys = ActionChains(page.driver)
    keys.send_keys(Keys.TAB).send_keys("sen").perform()
    page.until(lambda: page.all("#input-tokens"))
    ActionChains(page.driver).send_keys(Keys.TAB, Keys.TAB, "good but long").perform()
    assert page.one("#input-tokens").get_attribute("value") == "good but long"
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.until(lambda: page.all("#answer article"))
    # On to the second method, which Space ticks, and from there to the button.
    ActionChains(page.driver).send_keys(Keys.TAB, Keys.TAB, Keys.TAB, Keys.SPACE).perform()
    assert page.one("#method-gradientTimesInput").is_selected()
    for _ in range(30):
        if page.driver.switch_to.active_element == page.one("#explain"):
            break
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
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
