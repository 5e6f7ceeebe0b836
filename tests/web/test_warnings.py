# SPDX-License-Identifier: Apache-2.0
"""The page names the explained value and shows the warnings of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.diverging_model import CALM, CANCELLING, diverging_model
from tests.serving.models import write_version
from tests.serving.running import Running, serving
from tests.web.page import Page

CLASSES = (
    "classes: {p: [bad, fair, good]}\ntarget: {index: 0}\nmethod: {name: lrp, product_rule: half}\ntime_axis: {x: 1}\n"
)


@pytest.fixture(scope="module")
def warning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "plain", diverging_model(), config=CLASSES.replace("p:", "logits:"))
    write_version(folder, "named", diverging_model("Softmax"), config=CLASSES)
    write_version(folder, "likely", diverging_model("Softmax"), config=CLASSES.partition("\n")[2])
    with serving(folder, "--web", "127.0.0.1:0") as server:
        yield server


@pytest.fixture
def shown(driver: webdriver.Chrome, warning: Running) -> Iterator[Page]:
    page = Page(driver, warning.page())
    page.look(1280, "light")
    page.open()
    yield page
    assert page.complaints() == []


def ask(page: Page, model: str, row: tuple[float, ...], *more: str) -> str:
    page.choose(model, "x")
    page.paste("x", f"{row[0]}\n{row[1]}\n")
    page.tick(*more)
    return page.explain()


def test_a_warning_is_shown_in_its_methods_card(shown: Page) -> None:
    ask(shown, "plain", CANCELLING, "gradient")
    (warned,) = shown.all("#answer .warnings")
    assert warned.text.startswith("Warning: relevance diverges")
    assert shown.all('article[data-method="lrp"] .warnings') == [warned]
    assert shown.problems() == []
    ask(shown, "likely", CALM)
    assert shown.all("#answer .warnings") == []


@pytest.mark.parametrize(
    ("model", "message", "mark"),
    [
        ("plain", "bad: +5.00", "bad ◂ explained"),
        ("likely", "logit of p[0]: +5.00 (p[0] = 0.924)", "0 ◂ its logit is explained"),
        ("named", "logit of bad: +5.00 (p[bad] = 0.924)", "bad ◂ its logit is explained"),
    ],
)
def test_the_explained_value_is_named(shown: Page, model: str, message: str, mark: str) -> None:
    assert ask(shown, model, CALM).startswith(f"Explained {message}, by LRP, in ")
    assert shown.text("#answer h2") == message
    assert mark in shown.text("#answer .pair > table")
    assert shown.all("#answer .explained") == []


ANSWER = {
    "target": {"output": "p", "indices": ["1"], "contrastIndices": ["0"]},
    "outputs": {"p": {"values": [0.25, 0.75]}},
    "explained": 1.5,
}
HEADINGS = [
    ("output", "p 1 − p 0: +1.50"),
    ("logit", "logit of p[1] − logit of p[0]: +1.50 (p[1] = 0.750, p[0] = 0.250)"),
    ("score", "score before p[1] − score before p[0]: +1.50 (p[1] = 0.750, p[0] = 0.250)"),
    ("probability", "probability of p[1] − probability of p[0]: +1.50 (p[1] = 0.750, p[0] = 0.250)"),
    ("", "p 1 − p 0: +1.50"),  # from a server that does not say
]


@pytest.mark.parametrize(("quantity", "message"), HEADINGS)
def test_every_quantity_of_a_contrast(shown: Page, quantity: str, message: str) -> None:
    code = "return (await load('naming.js')).headline({}, args[0])"
    assert shown.script(code, {**ANSWER, "quantity": quantity}) == message


def test_an_answer_of_an_older_server_is_understood(shown: Page) -> None:
    code = """
        const answer = (await load('results.js')).readAnswer(args[0], [], 1);
        return [answer.warnings, answer.quantity];
    """
    one = {"dtype": "DATA_TYPE_FLOAT32", "shape": ["1"], "data": "AACAPw=="}
    ledger = dict.fromkeys(("inputs", "initialStates", "absorbed", "residual"), one)
    older = {"explained": one, "ledger": ledger, "outputs": [], "target": {}, "method": {"lrp": {}}}
    assert shown.script(code, older) == [[], ""]


def test_the_words_equal_the_clients(shown: Page) -> None:
    from lstm_explain_client.naming import WORDS

    script = (Path(__file__).parents[2] / "server/lstm_explain/serving/web/static/naming.js").read_text()
    for quantity, words in WORDS.items():
        assert words.one.removesuffix(" {}") in script
        code = "return (await load('naming.js')).mark({quantity: args[0]})"
        assert shown.script(code, quantity) == words.mark
