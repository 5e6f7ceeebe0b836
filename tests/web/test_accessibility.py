# SPDX-License-Identifier: Apache-2.0
"""axe-core finds no problem, light and dark, wide and narrow; further checks cover what axe cannot see."""

from __future__ import annotations

from pathlib import Path

import axe_core_python
import pytest

from tests.web.page import Page
from tests.web.tables import csv, year
from tests.web.test_page import SENTENCE

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
# All rules that axe has but those of the newest and strictest level, which asks for sevenfold contrast.
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
}
LOOKS = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]


def violations(page: Page) -> list[str]:
    page.driver.execute_script(AXE)
    found = page.script("return (await axe.run(document, args[0])).violations", RULES)
    return [f"{v['id']}: {node['html']} {node['failureSummary']}" for v in found for node in v["nodes"]]


@pytest.fixture(params=LOOKS, ids=[f"{width}-{scheme}" for width, scheme in LOOKS])
def looked_at(page: Page, request: pytest.FixtureRequest) -> Page:
    width, scheme = request.param
    page.look(width, scheme, still=True)  # axe would measure the contrast of what is half faded in
    return page


def too_wide(page: Page) -> bool:
    return bool(page.driver.execute_script("return document.documentElement.scrollWidth > innerWidth"))


def test_sentences(looked_at: Page) -> None:
    page = looked_at
    page.choose("sentiment", "tokens")
    assert violations(page) == []
    page.one("#explain").click()
    assert page.problems()
    assert violations(page) == []
    page.one("#input-tokens").send_keys(SENTENCE)
    page.tick("occlusion", "integratedGradients")
    page.explain()
    for details in page.all("details"):
        page.driver.execute_script("arguments[0].open = true", details)
    assert violations(page) == []
    assert not too_wide(page)


def test_tables(looked_at: Page) -> None:
    page = looked_at
    page.choose("discharge", "weather")
    page.paste("weather", csv(year(80)))
    page.tick("gradientTimesInput")
    page.explain()
    page.until(lambda: page.all(".matrix svg"))
    for details in page.all("details"):
        page.driver.execute_script("arguments[0].open = true", details)
    assert violations(page) == []
    assert not too_wide(page)
    page.choose("addition", "x")
    page.paste("x", "1,0,0\n0,2,0\n0,0,-3\n")
    page.explain()
    page.until(lambda: page.all(".matrix rect"))
    assert violations(page) == []
    assert not too_wide(page)


def test_nothing_depends_on_colour_alone(page: Page) -> None:
    """Without colour, sign and size are still visible: numbers, lines, hatching."""
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    page.tick("occlusion")
    page.explain()
    for word in page.all("article[data-method=lrp] .word"):
        value = word.find_element("css selector", "small").text
        style = word.find_element("css selector", "b").value_of_css_property("border-bottom-style")
        kind = (word.get_attribute("class") or "").split()
        if "faint" not in kind:
            assert style == ("solid" if value.startswith("+") else "dashed")
    for cell in page.all(".beside td"):
        line = cell.value_of_css_property("text-decoration-line")
        assert ("underline" in line) == cell.text.startswith("−") or abs(float(cell.text.replace("−", "-"))) < 0.03
    against, for_ = page.all(".balance i.against"), page.all(".balance i.for")
    assert against
    assert all("gradient" in bar.value_of_css_property("background-image") for bar in against)
    assert all("gradient" not in bar.value_of_css_property("background-image") for bar in for_)


def test_reduced_motion_is_respected(page: Page) -> None:
    code = "return [...document.querySelectorAll('*')].map((e) => getComputedStyle(e).transitionDuration)"
    assert any(set(d.split(", ")) != {"0s"} for d in page.script(code))
    page.look(1280, "light", still=True)
    assert all(set(d.split(", ")) == {"0s"} for d in page.script(code))


def test_controls_have_names_and_messages_are_announced(page: Page) -> None:
    page.choose("sentiment", "tokens")
    for control in page.all("#ask select, #ask input, #ask textarea, #ask button"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    page.one("#explain").click()
    area = page.one("#input-tokens")
    described = (area.get_attribute("aria-describedby") or "").split()
    assert any(page.one(f"#{name}").text.endswith("Type a sentence first.") for name in described)
    assert page.one("#problem-tokens").get_attribute("role") == "alert"
