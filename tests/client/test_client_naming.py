# SPDX-License-Identifier: Apache-2.0
"""Pictures show which value was explained, and the warnings of the answer."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from lstm_explain_client import Ledger, ModelDetail, Result, Target, naming, render

P = np.array([[0.432, 0.568], [0.9, 0.1]], np.float32)
ZERO = np.zeros(2, np.float32)
CLASSES = ModelDetail("m", "1", "ready", class_names={"p": ("bad", "good")}, units={"p": ("kg",)})
WARNING = "relevance diverges in sample 1 of 2: \x1b[31m<b>"


def result(quantity: str = "logit", target: Target | None = None, **fields: object) -> Result:
    relevance = {"x": np.array([[[0.25, -0.5]], [[1.0, 2.0]]], np.float32)}
    explained, index = np.array([0.556, -1.25], np.float32), np.array([[0], [1]])
    made = Result(relevance, {"p": P}, explained, {}, Ledger(explained, ZERO, ZERO, ZERO), model="m")
    return replace(made, explained_quantity=quantity, target=target or Target("p", index), **fields)


HEADINGS = {
    "output": ("p[0] = +0.556", "p[bad] = +0.556 kg"),
    "logit": ("logit of p[0] = +0.556 (p[0] = 0.432)", "logit of bad = +0.556 (p[bad] = 0.432)"),
    "score": ("score before p[0] = +0.556 (p[0] = 0.432)", "score before p[bad] = +0.556 (p[bad] = 0.432)"),
    "probability": ("probability of p[0] = +0.556 (p[0] = 0.432)", "probability of bad = +0.556 (p[bad] = 0.432)"),
    "": ("p[0] = +0.556", "p[bad] = +0.556 kg"),  # from a server that does not say
    "of a later version": ("p[0] = +0.556", "p[bad] = +0.556 kg"),
}


@pytest.mark.parametrize("quantity", HEADINGS)
def test_the_heading_names_the_explained_value(quantity: str) -> None:
    plain, named = HEADINGS[quantity]
    assert naming.heading(result(quantity), 0) == f"Sample 0: {plain}"
    assert naming.heading(result(quantity, detail=CLASSES), 0) == f"Sample 0: {named}"


def test_both_entries_of_a_contrast_are_named() -> None:
    index = np.array([[1], [1]])
    contrast = result(target=Target("p", index, contrast=np.array([[0], [0]])))
    beside = "(p[1] = 0.568, p[0] = 0.432)"
    assert naming.heading(contrast, 0) == f"Sample 0: logit of p[1] − logit of p[0] = +0.556 {beside}"
    assert "1 ◂ its logit is explained" in contrast.to_html()
    assert "0 ◂ compared with" in contrast.to_html()
    named = replace(contrast, detail=CLASSES)
    assert (
        naming.heading(named, 1) == "Sample 1: logit of good − logit of bad = −1.25 (p[good] = 0.100, p[bad] = 0.900)"
    )


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("output", "combination of p"), ("logit", "combination of the logits of p"),
     ("score", "combination of the scores before p")],
)  # fmt: skip
def test_a_combination_is_named(quantity: str, expected: str) -> None:
    weighted = result(quantity, Target("p", weights=np.ones(2)))
    assert naming.heading(weighted, 0) == f"Sample 0: {expected} = +0.556"


def test_positions_over_several_axes_and_other_batch_axes() -> None:
    steps = np.arange(12.0).reshape(3, 2, 2) / 10  # [step, sample, class]
    target = Target("p", np.array([[2, 0], [1, 1]]), batch_axis=1)
    many = result(target=target, outputs={"p": steps}, detail=CLASSES)
    assert naming.heading(many, 0) == "Sample 0: logit of p[2, bad] = +0.556 (p[2, bad] = 0.800)"
    assert naming.heading(many, 1) == "Sample 1: logit of p[1, good] = −1.25 (p[1, good] = 0.700)"


@pytest.mark.parametrize("outputs", [{}, {"p": np.array("text", object)}, {"p": P[0, 0]}, {"p": P[:, :, None]}])
def test_an_output_that_does_not_fit_is_left_out(outputs: dict[str, np.ndarray]) -> None:
    assert naming.heading(result(outputs=outputs), 0) == "Sample 0: logit of p[0] = +0.556"
    result(outputs=outputs).to_html()


def test_every_picture_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    heading = "logit of p[0] = +0.556 (p[0] = 0.432)"
    page = result().to_html()
    assert heading in page
    assert "0 ◂ its logit is explained" in page
    assert "1 ◂ its logit is explained" in page
    assert heading in result()._repr_html_()
    result().print(0)
    assert heading in capsys.readouterr().out
    assert "◂ explained" in result("output").to_html()


def test_every_picture_warns(capsys: pytest.CaptureFixture[str]) -> None:
    warned = result(warnings=(WARNING, "second"))
    for html in (warned.to_html(), warned._repr_html_(), warned.sample_html(0)):
        tree = ET.fromstring(html if html.startswith("<!DOCTYPE") else f"<div>{html}</div>")
        (box,) = [element for element in tree.iter() if element.get("class") == "lx-warnings"]
        assert [item.tag.rpartition("}")[2] for item in box] == ["li", "li"]
        reported = ["".join(item.itertext()) for item in box]
        assert reported == ["Warning: relevance diverges in sample 1 of 2: \u241b[31m<b>", "Warning: second"]
    warned.print()
    shown = capsys.readouterr().out
    assert shown.count("Warning: relevance diverges") == shown.count("Warning: second") == 1
    assert "\x1b[31m" not in shown
    assert "warnings=2" in repr(warned)


def test_without_warnings_none_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for html in (result().to_html(), result()._repr_html_(), result().sample_html(0), render.warnings(())):
        assert 'class="lx-warnings"' not in html
    result().print()
    assert "arning" not in capsys.readouterr().out
    assert "arning" not in repr(result())


def test_a_figure_warns() -> None:
    pytest.importorskip("matplotlib")
    figure = result(warnings=("relevance diverges",)).plot(0)
    assert figure.get_suptitle() == "Sample 0: logit of p[0] = +0.556 (p[0] = 0.432)"
    assert figure.get_supxlabel() == "Warning: relevance diverges"
    assert result().plot(0).get_supxlabel() == ""
