# SPDX-License-Identifier: Apache-2.0
"""Charts: well-formed, with every line and label, ticks that enclose the values."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import pytest

from lstm_explain.evaluate.plot import line_chart, nice_ticks

SVG = "{http://www.w3.org/2000/svg}"


def test_every_line_is_drawn_and_named() -> None:
    lines = {f"a < {k}": [float(k), math.nan, 2.0 * k] for k in range(10)}
    root = ElementTree.fromstring(line_chart([0, 1, 2], lines, "t & t", "x", "y"))
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert {*lines, "t & t", "x", "y"} <= set(texts)
    drawn = [p for p in root.iter(f"{SVG}polyline") if p.get("stroke-width") == "2"]
    assert len(drawn) == 10
    assert sum(p.get("stroke-dasharray") is not None for p in drawn) == 2
    heights = sorted(float(t.get("y", "0")) for t in root.iter(f"{SVG}text") if t.text in lines)
    assert min(b - a for a, b in itertools.pairwise(heights)) > 12
    ends = [float(p.get("points", "").split(",")[-1]) for p in drawn]
    assert sum(heights) - 4 * len(heights) == pytest.approx(sum(ends), abs=1.0)  # moved up as much as down


def test_intervals_are_bands_around_their_lines() -> None:
    root = ElementTree.fromstring(line_chart([0, 1], {"a": [1.0, 2.0], "b": [3.0, 3.0]}, intervals={"b": [0.5, 1.0]}))
    (band,) = root.iter(f"{SVG}polygon")
    *_, line = [p for p in root.iter(f"{SVG}polyline") if p.get("stroke-width") == "2"]
    assert band.get("fill") == line.get("stroke")
    heights = [float(point.split(",")[1]) for point in band.get("points", "").split()]
    middle = float(line.get("points", "").split(",")[-1])
    assert heights[3] - middle == pytest.approx(middle - heights[0])
    assert heights[2] - middle == pytest.approx(2 * (heights[3] - middle))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 7.9), (1e-6, 2e-6), (5.0, 5.0), (0.0, 1234.0)])
def test_ticks_enclose_the_range(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 8
