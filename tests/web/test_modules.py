# SPDX-License-Identifier: Apache-2.0
"""The page's tables and numbers agree with those of the protos and the Python client."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from lstm_explain.methods import method_from_name
from lstm_explain_client.render import scale
from lstm_explain_client.render.account import entries
from lstm_explain_client.render.tables import percent
from lstm_explain_proto.lstm_explain.v1 import method_pb2
from tests.web.page import Page

STATIC = Path(__file__).resolve().parents[2] / "server" / "lstm_explain" / "serving" / "web" / "static"
METHODS = method_pb2.Method.DESCRIPTOR.oneofs_by_name["method"].fields
# Composites, baselines, backgrounds and spans are written by programs.
LEFT_OUT = {"composite", "baseline", "background", "span"}


def methods_of(page: Page) -> dict[str, dict[str, Any]]:
    found = page.script("return (await load('methods.js')).METHODS")
    return {method["key"]: method for method in found}


def test_every_method_is_offered_with_its_parameters(page: Page) -> None:
    offered = methods_of(page)
    assert set(offered) == {field.json_name for field in METHODS}
    for field in METHODS:
        expected = {f.json_name: f for f in field.message_type.fields if f.name not in LEFT_OUT}
        parameters = {p["key"]: p for p in offered[field.json_name]["parameters"]}
        assert set(parameters) == set(expected)
        for key, parameter in parameters.items():
            if expected[key].type == FieldDescriptor.TYPE_ENUM:
                values = [v.name for v in expected[key].enum_type.values if not v.name.endswith("_GROUPS")]
                assert [option[0] for option in parameter["options"]] == values[1:]  # the first is UNSPECIFIED


def test_parameters_start_with_the_engines_defaults(page: Page) -> None:
    for field in METHODS:
        defaults = method_from_name(field.name, {}).parameters()
        for parameter in methods_of(page)[field.json_name]["parameters"]:
            (name,) = (f.name for f in field.message_type.fields if f.json_name == parameter["key"])
            if parameter["kind"] == "number":
                shown = parameter.get("initial", parameter.get("placeholder"))  # a placeholder is text
                assert (None if shown is None else float(shown)) == defaults[name]
            else:
                assert parameter["options"][0][0].lower().endswith(f"_{defaults[name]}")


def test_the_ledger_has_the_clients_labels(page: Page) -> None:
    code = "const m = await load('methods.js'); return m.entries(m.METHODS.find((x) => x.key === args[0]))"
    for field in METHODS:
        reported = [text for _, text in page.script(code, field.json_name)]
        assert reported == [text for _, text in entries(field.name)]


def test_numbers_are_formatted_as_by_the_client(page: Page) -> None:
    rng = np.random.default_rng(0)
    values = [float(v) for v in rng.standard_normal(2000) * 10.0 ** rng.integers(-12, 12, 2000)]
    values += [0.0, 1.0, -1.0, 999.9, 1000.0, 999999.0, 1e6, 9.999e-5, 1e-4, -0.0, 1e300, 5e-324]
    code = "const {number} = await load('scale.js'); return args[0].map((v) => [number(v), number(v, false)])"
    assert page.script(code, values) == [[scale.number(v), scale.number(v, signed=False)] for v in values]
    odd = "const {number} = await load('scale.js'); return [NaN, Infinity, -Infinity].map((v) => number(v))"
    assert page.script(odd) == [scale.number(v) for v in (float("nan"), float("inf"), float("-inf"))]
    pairs = [(a, b) for a in values[:40] for b in values[40:60] if abs(a / b) < 1e9]
    code = "const {percent} = await load('scale.js'); return args[0].map(([a, b]) => percent(a, b))"
    assert page.script(code, pairs) == [percent(a, b) for a, b in pairs]


def test_colours_equal_the_clients() -> None:
    style = (STATIC / "page.css").read_text()
    light = style[: style.index("@media")]
    for name, colour in (("for", scale.FOR), ("against", scale.AGAINST)):
        assert re.search(rf"--{name}: ([\d, ]+);", light)[1] == ", ".join(map(str, colour))


def test_tensors_are_encoded_as_by_numpy(page: Page) -> None:
    rng = np.random.default_rng(1)
    code = """
        const {encode, decode} = await load('tensor.js');
        const {data} = encode('x', args[0], [args[1].length], args[1]);
        const back = decode({dtype: args[0], shape: [String(args[1].length)], data});
        return [data, Array.from(back.values), back.shape];
    """
    import base64

    for dtype, kind in (("FLOAT32", "f4"), ("FLOAT64", "f8"), ("INT32", "i4"), ("INT64", "i8"), ("BOOL", "?")):
        array = (rng.standard_normal(70_000) * 3).astype(kind) if kind != "?" else rng.random(9) < 0.5
        data, back, shape = page.script(code, f"DATA_TYPE_{dtype}", [float(v) for v in array])
        assert base64.b64decode(data) == array.tobytes()
        assert np.array_equal(np.array(back).astype(kind), array)
        assert shape == [len(array)]
    halves = np.array([0.0, -1.5, 65504, 6e-8, 0.1, -np.inf], dtype=np.float16)
    half = "return Array.from((await load('tensor.js')).decode(args[0]).values, String)"
    messages = page.script(half, {"dtype": "DATA_TYPE_FLOAT16", "data": base64.b64encode(halves.tobytes()).decode()})
    assert [float(text.replace("Infinity", "inf")) for text in messages] == [float(v) for v in halves]


def test_axes_in_any_order(page: Page) -> None:
    """A table survives the round trip, in any order of time, samples and features."""
    code = """
        const {layout, rowsOf} = await load('inputs.js');
        const detail = {batchAxes: {x: args[1]}, timeAxes: args[2] === null ? {} : {x: args[2]}, featureNames: {}};
        const shape = args[0].map((size) => size === null ? {symbol: 't'} : {size: String(size)});
        const plan = layout(detail, {name: 'x', dtype: 'DATA_TYPE_FLOAT32', shape});
        return [plan.problem, plan.shape(3, 2), rowsOf(plan, plan.shape(3, 2), args[3]), plan.turned];
    """
    table = [[0, 1], [2, 3], [4, 5]]
    flat, turned = [0, 1, 2, 3, 4, 5], [0, 2, 4, 1, 3, 5]
    for shape, batch, time, values, sent in (
        ([None, None, 2], 0, 1, flat, [1, 3, 2]),
        ([None, None, 2], 1, 0, flat, [3, 1, 2]),
        ([None, 2, None], 0, 2, turned, [1, 2, 3]),
        ([3, None, 2], 1, None, flat, [3, 1, 2]),  # states: layers by samples by units
    ):
        problem, out, rows, _ = page.script(code, shape, batch, time, values)
        assert (problem, out, rows) == ("", sent, table)
    assert page.script(code, [None, None], 0, 1, [7, 8, 9])[1:3] == [[1, 3], [[7], [8], [9]]]
    assert page.script(code, [None, 2], 0, None, [7, 8])[1:3] == [[1, 2], [[7, 8]]]
    for shape, batch, reported in (([None, 2, 2, 2], 0, "3 axes"), ([4, None, 2], 0, "4 samples at once")):
        assert reported in page.script(code, shape, batch, None, [])[0]
