# SPDX-License-Identifier: Apache-2.0
"""Pictures: safe, well-formed, honest about sign and size."""

from __future__ import annotations

import datetime as dt
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lstm_explain_client import render
from lstm_explain_client.methods import METHODS
from lstm_explain_client.render import scale, tables, terminal

NASTY = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "</style><b>",
    "&amp;",
    "\x00\x1b[31m\x07",
    "\u202eright to left",
    "\ud800",
    "' --> ]]>",
    "\n",
]
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def tree(html: str) -> ET.Element:
    """Parses a page or fragment as XML, which is stricter than HTML."""
    return ET.fromstring(html if html.startswith("<!DOCTYPE") else f"<div>{html}</div>")


def channels(css: str) -> tuple[int, int, int, float]:
    """Red, green, blue and opacity of a colour."""
    red, green, blue, alpha = re.fullmatch(r"rgba\(var\(--lx-\w+,(\d+),(\d+),(\d+)\),([\d.]+)\)", css).groups()
    return int(red), int(green), int(blue), float(alpha)


def printed(renderable, **options) -> str:
    """The output to a file, or to a terminal if `options` say so."""
    console = Console(width=120, file=io.StringIO(), **options)
    console.print(renderable)
    return console.file.getvalue()


class TestColour:
    @given(st.floats(0.01, 1))
    def test_red_and_blue_are_symmetric(self, part):
        favour, against = channels(scale.colour(part)), channels(scale.colour(-part))
        assert favour[0] > 2 * favour[2]
        assert against[2] > 2 * against[0]
        assert favour[3] == against[3] == pytest.approx(part, rel=1e-2)

    def test_zero_has_no_color(self):
        assert scale.colour(0.0) == scale.colour(-0.0) == "transparent"
        assert scale.rgb(0.0) == (255, 255, 255)

    def test_both_sides_are_equally_dark(self):
        def luminance(rgb):
            linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
            return float(np.dot([0.2126, 0.7152, 0.0722], linear))

        assert luminance(scale.FOR) == pytest.approx(luminance(scale.AGAINST), rel=0.1)

    @given(st.floats(-2, 2), st.floats(0.1, 10))
    def test_shares_are_bounded_and_antisymmetric(self, value, top):
        assert -1 <= scale.share(value, top) <= 1
        assert scale.share(-value, top) == -scale.share(value, top)

    def test_nan_is_neutral(self):
        assert scale.share(float("nan"), 1.0) == 0
        assert scale.largest(np.array([np.nan, np.inf, -2.0])) == 2
        assert scale.largest(np.zeros(3)) == scale.largest(np.array([])) == 1


class TestNumber:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.0, "0"),
            (-0.0, "0"),
            (0.41249, "+0.412"),
            (-0.0451, "−0.0451"),
            (9.996, "+10.0"),
            (12.345, "+12.3"),
            (-1234.5, "−1230"),
            (1e-9, "+1.00e−9"),
            (-3.25e12, "−3.25e12"),
            (float("nan"), "nan"),
            (float("-inf"), "−∞"),
        ],
    )
    def test_three_digits(self, value, text):
        assert scale.number(value) == text

    @given(NUMBERS.filter(bool))
    def test_formatted_numbers_parse_to_the_same_value(self, value):
        back = float(scale.number(value).replace("−", "-"))
        assert back == pytest.approx(value, rel=5.1e-3)


class TestPercent:
    @pytest.mark.parametrize(
        ("value", "whole", "text"),
        [
            (0.0, 3.0, "0.0 %"),
            (0.0, -3.0, "0.0 %"),
            (-0.0, 3.0, "0.0 %"),
            (-1e-9, 3.0, "≈ 0 %"),
            (-1.5, 3.0, "−50.0 %"),
            (1.0, 0.0, ""),
            (1.0, float("inf"), "≈ 0 %"),
        ],
    )
    def test_a_share_has_no_sign_where_it_is_zero(self, value, whole, text):
        assert tables.percent(value, whole) == text

    @given(NUMBERS, NUMBERS)
    def test_minus_zero_never_shows(self, value, whole):
        assert "−0.0 %" not in tables.percent(value, whole)


class TestWords:
    def test_every_word_shows_its_number(self):
        root = tree(render.words(["not", "bad", ""], [-1.0, 0.25, 0.0]))
        items = root.findall(".//*[@role='listitem']")
        assert [i.get("aria-label") for i in items] == ["not: −1.00, against", "bad: +0.250, for"]
        assert [i.get("title") for i in items] == [i.get("aria-label") for i in items]
        assert [i.findtext("small") for i in items] == ["−1.00", "+0.250"]
        assert "against" in items[0].get("class")
        assert "for" in items[1].get("class").split()

    def test_colours_follow_the_largest_of_the_sample(self):
        root = tree(render.words(["a", "b", "c"], [-4.0, 2.0, 0.0]))
        colours = [b.get("style").partition(":")[2] for b in root.findall(".//b")]
        assert channels(colours[0])[3] == 1
        assert channels(colours[1])[3] == 0.5
        assert colours[2] == "transparent"

    def test_nasty_tokens_stay_text(self):
        html = render.words(NASTY, np.linspace(-1, 1, len(NASTY)))
        root = tree(html)
        assert not root.findall(".//script")
        assert [b.text for b in root.findall(".//b")][:2] == NASTY[:2]
        assert {element.tag for element in root.iter()} <= {"div", "style", "span", "b", "small"}
        html.encode()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", html)

    @given(st.lists(st.tuples(st.text(), NUMBERS), min_size=1, max_size=8))
    def test_any_text_is_well_formed(self, pairs):
        tree(render.words([t for t, _ in pairs], [v for _, v in pairs]))

    def test_shapes_have_to_fit(self):
        with pytest.raises(ValueError, match="2 tokens"):
            render.words(["a", "b"], [1.0])


class TestMatrix:
    def test_cells_show_their_numbers(self):
        root = tree(render.matrix([[1.0, -2.0], [0.0, 0.5]], ["rain", "sun"], values=[[1, 2], [3, 4]]))
        titles = [t.text for t in root.iter("{http://www.w3.org/2000/svg}title") if ":" in t.text]
        assert titles == [
            "rain, step 0: +1.00",
            "rain, step 1: 0",
            "sun, step 0: −2.00",
            "sun, step 1: +0.500",
        ]

    def test_a_year_is_small_and_has_months(self):
        rng = np.random.default_rng(0)
        days = [dt.date(2010, 10, 1) + dt.timedelta(days=i) for i in range(365)]
        html = render.matrix(rng.normal(size=(365, 5)), list("abcde"), values=rng.normal(size=(365, 5)), steps=days)
        words = [t.text for t in tree(html).iter("{http://www.w3.org/2000/svg}text")]
        assert len(html) < 250_000
        assert {"Oct 2010", "Nov", "Jan 2011", "Sep"} <= set(words)

    def test_bars_point_up_for_positive_relevance(self):
        relevance = np.zeros(100)
        relevance[[10, 20]] = 1, -0.5
        root = tree(render.matrix(relevance))
        bars = {p.get("class"): p.get("d") for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("class")}
        up, down = (float(re.search(r"v(-?[\d.]+)h", bars[side]).group(1)) for side in ("for", "against"))
        assert up < 0 < down  # SVG counts downwards
        assert -up == pytest.approx(2 * down)

    def test_features_beyond_the_limit_are_summed_and_none_is_lost(self):
        relevance = np.random.default_rng(0).normal(size=(4, 30))
        label = tree(render.matrix(relevance, most_features=5)).find(".//*[@role='img']").get("aria-label")
        sums = [float(n.replace("−", "-")) for n in re.findall(r"(?:feature \d+|others) ([+−][\d.]+)[,.]", label)][:5]
        assert "26 others" in label
        assert sum(sums) == pytest.approx(relevance.sum(), abs=0.1)

    def test_long_series_are_summed(self):
        html = render.matrix(np.ones(5000))
        assert "sum of 7 steps" in html
        assert ">+5000<" in html

    @pytest.mark.parametrize("shape", [(1,), (1, 1), (60, 3), (61, 3), (2, 40), (741, 2)])
    def test_any_shape_is_well_formed(self, shape):
        tree(render.matrix(np.zeros(shape)))
        tree(render.matrix(np.full(shape, np.nan), values=np.full(shape, np.nan)))

    def test_names_are_escaped(self):
        html = render.matrix([[1.0] * len(NASTY)], NASTY, steps=["<i>"])
        assert {e.tag.rpartition("}")[2] for e in tree(html).iter()} <= {
            "div", "style", "svg", "g", "title", "rect", "text", "path", "span"
        }  # fmt: skip

    @pytest.mark.parametrize(
        "wrong",
        [
            {"relevance": np.zeros((2, 2, 2))},
            {"relevance": np.zeros((0, 2))},
            {"relevance": np.zeros((2, 2)), "features": ["a"]},
            {"relevance": np.zeros((2, 2)), "values": np.zeros((3, 2))},
            {"relevance": np.zeros((2, 2)), "steps": ["a"]},
        ],
    )
    def test_shapes_have_to_fit(self, wrong):
        with pytest.raises(ValueError, match=r"."):
            render.matrix(**wrong)


SHARES = {"inputs": 1.5, "initial_states": 0.0, "absorbed": -0.5, "residual": 1e-8}


class TestTablesAndPage:
    def test_the_ledger_adds_up_on_paper(self):
        root = tree(render.ledger(1.0, SHARES, {"fc <1>": -0.3, "lstm": -0.2, "zero": 0.0}))
        rows = {row.findtext("th"): [td.text for td in row.findall("td")][:2] for row in root.iter("tr")}
        assert rows["the inputs"] == ["+1.50", "150.0 %"]
        assert rows["kept by biases and stabilisers"] == ["−0.500", "−50.0 %"]
        assert rows["rounding"] == ["+1.00e−8", "≈ 0 %"]
        assert rows["explained value"] == ["+1.00", "100.0 %"]
        assert rows["fc <1>"][0] == "−0.300"
        assert "zero" not in rows

    @pytest.mark.parametrize("name", METHODS)
    def test_labels_of_entries_depend_on_the_method(self, name):
        for text in (
            "".join(tree(render.ledger(1.0, SHARES, method=name)).itertext()),
            printed(terminal.ledger(1.0, SHARES, method=name)),
        ):
            assert ("stabilisers" in text) == (name == "lrp")
            assert ("rounding" in text) == (name in ("lrp", "shapley_sampling"))
            assert ("convergence delta" in text) == (name == "integrated_gradients")
            against = name in ("integrated_gradients", "gradient_shap", "occlusion", "shapley_sampling")
            assert ("score of the baseline" in text) == against

    def test_a_value_of_zero_has_no_percentages(self):
        tree(render.ledger(0.0, dict.fromkeys(SHARES, 0.0)))

    def test_a_page_is_complete_safe_and_self_contained(self):
        sections = [("<h>", render.words(NASTY, np.arange(9.0))), render.ledger(1.0, SHARES), "<p>plain</p>"]
        html = render.page(sections, "</title><script>")
        root = tree(html)
        assert root.tag == "html"
        assert root.findtext("head/title") == "</title><script>"
        assert html.count(render.STYLE) == 1
        assert not re.search(r"(?:src|href)=|url\(|@import|<script", html)
        assert "default-src 'none'" in html
        assert "prefers-color-scheme:dark" in html
        assert "print-color-adjust:exact" in html

    def test_the_prediction_marks_what_is_explained(self):
        root = tree(render.prediction([1.0, -2.0], ["<bad>", "good"], 1))
        assert [row.findtext("th") for row in root.iter("tr")] == ["<bad>", "good ◂ explained"]


class TestTerminal:
    def test_signs_show_without_colour(self):
        picture = terminal.words(["not", "bad", "film", ""], [-1.0, 0.5, 0.0, 0.0])
        text = printed(picture)
        assert text.startswith("not−−− bad++ film \n")
        assert "±1.00" in text
        assert "8;2;" not in printed(picture, force_terminal=True, no_color=True)

    def test_colour_where_there_is_colour(self):
        text = printed(terminal.words(["not", "bad"], [-1.0, 1.0]), force_terminal=True, color_system="truecolor")
        assert "48;2;27;92;168m" in text
        assert "48;2;178;24;43m" in text

    def test_tokens_cannot_control_the_terminal(self):
        text = printed(terminal.words(NASTY, np.zeros(len(NASTY))))
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[31m" in text  # shown, not obeyed; and not taken for rich's own markup

    def test_a_matrix_shows_signs(self):
        text = printed(terminal.matrix([[1.0, -1.0], [0.2, 0.0]], ["rain", "sun"]))
        assert re.search(r"rain +▲▲\+\+ +\+1.20", text)
        assert re.search(r"sun +▼▼·· +−1.00", text)

    def test_a_year_fits_the_line(self):
        text = printed(terminal.matrix(np.random.default_rng(0).normal(size=(365, 5))))
        assert max(map(len, text.splitlines())) < 120
        assert "a column is 6 steps" in text

    def test_the_ledger(self):
        text = printed(terminal.ledger(1.0, SHARES, {f"n{i}": 0.1 for i in range(9)}))
        assert re.search(r"inputs +\+1.50 +150.0 %", text)
        assert re.search(r"explained value +\+1.00 +100.0 %", text)
        assert "3 others" in text
