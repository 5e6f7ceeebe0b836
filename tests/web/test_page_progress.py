# SPDX-License-Identifier: Apache-2.0
"""The page shows how far long explanations are, and its errors are those of other calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.page import Page
from tests.web.test_page import begin_something_long

FRAMES = """
const { messages, envelope } = await load("envelopes.js");
const whole = args[0].flatMap(([text, flags]) => { const e = [...envelope(text)]; e[0] = flags; return e; });
const pieces = [];
for (let at = 0; at < whole.length; at += args[1]) pieces.push(Uint8Array.from(whole.slice(at, at + args[1])));
const body = new ReadableStream({ start(c) { for (const piece of pieces) c.enqueue(piece); c.close(); } });
const found = [];
for await (const { message, end } of messages(body)) found.push([message, end]);
return found;
"""


def value(page: Page) -> float:
    return float(page.driver.execute_script("return document.getElementById('progress').value"))


def test_a_bar_grows_while_a_long_method_runs_and_goes_with_it(page: Page) -> None:
    begin_something_long(page)
    page.until(lambda: page.one("#progress").is_displayed())
    before = page.until(lambda: value(page))
    page.until(lambda: value(page) > before)
    page.until(lambda: "of 730,000 runs of the model" in page.text("#elapsed"))
    page.one("#cancel").click()
    assert not page.one("#progress").is_displayed()
    assert page.text("#elapsed") == ""


def test_the_answer_comes_after_the_progress(page: Page) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys("neither funny nor suspenseful nor particularly well-drawn")
    page.tick("lrp", "shapleySampling")
    assert page.explain().startswith("Explained ")
    assert not page.one("#progress").is_displayed()
    assert page.text("article h3, article h2, article header").strip()


def test_nothing_moves_when_the_bar_comes_and_goes(page: Page) -> None:
    place = "return document.getElementById('answer').getBoundingClientRect().top"
    before = page.driver.execute_script(place)
    begin_something_long(page)
    page.until(lambda: page.one("#progress").is_displayed())
    assert page.driver.execute_script(place) == before
    page.one("#cancel").click()


def test_an_error_of_a_long_method_is_shown_where_it_belongs(page: Page) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys("good")
    page.tick("lrp", "shapleySampling")
    page.all("#method-list details:not([hidden]) summary")[0].click()
    page.one("#shapleySampling-permutations").clear()
    page.one("#shapleySampling-permutations").send_keys("99999")
    page.one("#explain").click()
    assert any("permutations is 99999" in problem for problem in page.until(page.problems))


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_messages_are_read_however_they_are_cut(page: Page, size: int) -> None:
    sent: list[list[Any]] = [["{}", 0], ["", 0], ["ça va " * 40, 0], ['{"a": 1}', 2]]
    assert page.script(FRAMES, sent, size) == [[text, flags == 2] for text, flags in sent]


def test_several_requests_make_one_bar(page: Page) -> None:
    code = """
    const { Progress } = await load("progress.js");
    const bar = document.createElement("progress");
    const progress = new Progress(bar), seen = [];
    const note = () => seen.push([bar.hidden, Number(bar.value.toFixed(3)), progress.text]);
    progress.begin(2); note();
    progress.tell(0, 50, 100); note();
    progress.tell(0, 50, 200); note();
    progress.finish(1); note();
    progress.finish(0); note();
    return seen;
    """
    assert page.script(code) == [
        [True, 0, ""],
        [False, 0.25, "0 of 2 explanations, 50 of 100 runs of the model"],
        [False, 0.25, "0 of 2 explanations, 50 of 200 runs of the model"],
        [False, 0.625, "1 of 2 explanations, 50 of 200 runs of the model"],
        [True, 1, ""],
    ]
