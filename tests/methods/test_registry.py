# SPDX-License-Identifier: Apache-2.0
"""The registry of methods agrees with the package, the wire and the documentation."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.methods import METHODS
from lstm_explain.methods.base import BaselineMethod, Batching, Promise, Words
from lstm_explain.methods.parameters import parameter_of
from lstm_explain.serving.wire.methods import default_method, from_method, to_method
from lstm_explain_proto.lstm_explain.v1 import method_pb2

FIELDS = method_pb2.Method.DESCRIPTOR.oneofs_by_name["method"].fields
DOCS = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
by_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def test_the_wire_has_the_methods_of_the_registry() -> None:
    assert {field.name for field in FIELDS} == set(METHODS)


@by_method
def test_a_message_has_the_parameters_of_the_class(method: type[lx.Method]) -> None:
    (message,) = (field.message_type for field in FIELDS if field.name == method.name)
    assert {field.name for field in message.fields} == {*method().parameters(), *method.wire_names}
    assert set(method.wire_names.values()) <= set(method().parameters())


@by_method
def test_methods_survive_the_wire(method: type[lx.Method]) -> None:
    other = next(cls() for cls in METHODS.values() if cls is not method)
    assert to_method(default_method(method(), ["x"]), other) == method()
    if issubclass(method, BaselineMethod):
        given = method().with_baseline({"x": np.ones((2, 3), np.float32)})
        assert to_method(from_method(given), other) == given
        own = method().with_baseline(lx.Background(draws=7, seed=3))
        assert to_method(from_method(own), other) == own


@by_method
def test_a_method_has_a_file_and_a_public_name(method: type[lx.Method]) -> None:
    assert getattr(import_module(f"lstm_explain.methods.{method.name}"), method.__name__) is method
    assert method.__name__ in lx.__all__
    assert getattr(lx, method.__name__) is method


@by_method
def test_a_method_declares_all_required_attributes(method: type[lx.Method]) -> None:
    assert isinstance(vars(method)["batching"], Batching)
    assert vars(method)["promises"] <= set(Promise)
    assert isinstance(vars(method)["words"], Words)
    assert method.propagates or "explain" in vars(method)


@by_method
def test_a_parameter_out_of_bounds_is_an_error_that_names_it(method: type[lx.Method]) -> None:
    for own in dataclasses.fields(method):
        about = parameter_of(own)
        if about is None:
            continue
        wrong = ["neither", None] if about.choices else [about.least - 1, math.nan, True, "1"]
        wrong += [] if about.most == math.inf else [about.most + 1]
        wrong += [0.5 + own.default] if isinstance(own.default, int) else []
        for value in wrong:
            with pytest.raises(lx.MethodError, match=own.name) as caught:
                method(**{own.name: value})
            assert caught.value.field == f"method.{own.name}"
        right = list(about.choices) or [v for v in (about.least, about.most) if v != math.inf]
        for value in right:
            assert getattr(method(**{own.name: value}), own.name) == value


@by_method
def test_the_documentation_has_its_parameters(method: type[lx.Method]) -> None:
    row = next(line for line in DOCS.splitlines() if line.startswith(f"| `{method.__name__}` |"))
    assert re.findall(r"`(\w+)`", row.split("|")[2]) == list(method().parameters())


@by_method
def test_a_method_can_be_sent_to_another_process(method: type[lx.Method]) -> None:
    assert pickle.loads(pickle.dumps(method())) == method()


def test_methods_can_be_created_without_the_engine() -> None:
    code = (
        "import sys, lstm_explain as lx; lx.method_from_name('occlusion'), lx.LRP();"
        "print([m for m in ('onnx', 'onnxruntime', 'numba') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
