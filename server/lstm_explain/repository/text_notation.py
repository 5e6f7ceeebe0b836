# SPDX-License-Identifier: Apache-2.0
"""Parses targets, methods and parameters that are given as text, on the command line or in a request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import MethodError
from lstm_explain.methods import Method, method_from_name, override
from lstm_explain.methods.background import Background
from lstm_explain.methods.composite import Composite, rule_from_name


def parse_value(text: str) -> int | float | bool | str:
    """Returns the value of a parameter: an int, a float, true or false, or else the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


def method_from_text(name: str, parameters: Mapping[str, Any]) -> Method:
    """Returns the method with these parameters, any of which may be text.

    A baseline may also be `[0, 0.5, 1]`, a mapping by input, or a background set as `parse_background` takes it; a
    composite is as `parse_composite` takes it; a stabiliser may be a pair, `0.1,0.01`; a span is `2:5`. Raises
    MethodError.
    """
    return method_from_name(name, {key: _parameter(key, value) for key, value in parameters.items()})


def override_from_text(default: Method, name: str | None, parameters: Mapping[str, Any]) -> Method:
    """Does the same as `override`, with parameters that may be text. Raises MethodError."""
    return override(default, name, {key: _parameter(key, value) for key, value in parameters.items()})


def parse_composite(text: str) -> Composite:
    """Parses `dense=gamma(0.25); Conv=alpha_beta(2, 1); first=z_box(-1, 1)`, one rule per layer. Raises MethodError."""
    rules = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        found = re.fullmatch(r"(.+?)\s*=\s*(\w+)\s*(?:\(([^()]*)\))?", part)
        if found is None:
            raise MethodError(f"composite: {part!r} is not layer=rule(numbers)", field="method.composite")
        layer, rule, numbers = found.groups()
        rules[layer] = rule_from_name(rule, *[parse_value(n.strip()) for n in (numbers or "").split(",") if n.strip()])
    first = rules.pop("first", None)
    return Composite(rules, first)


def parse_background(text: str) -> Background:
    """Parses `background` or `background(draws=20, seed=0)`, the background set of the model. Raises MethodError."""
    found = re.fullmatch(r"background\s*(?:\((.*)\))?", text.strip())
    given = {}
    for part in filter(None, map(str.strip, (found[1] or "").split(","))) if found else ():
        name, _, value = map(str.strip, part.partition("="))
        given[name] = parse_value(value)
    if found is None or not set(given) <= {"draws", "seed"}:
        expected = "a number, a list of numbers, or background(draws=20, seed=0)"
        raise MethodError(f"baseline is {text!r}, expected {expected}", field="method.baseline")
    return Background(**given)  # type: ignore[arg-type]


def split_parameters(text: str) -> list[str]:
    """Splits at commas outside brackets."""
    return [part for part in re.split(r",(?![^(\[]*[)\]])", text) if part]


def _parameter(key: str, value: Any) -> Any:
    if key == "composite" and isinstance(value, str):
        return parse_composite(value)
    if key == "baseline" and isinstance(value, Mapping):  # by input
        return {name: _parameter(key, one) for name, one in value.items()}
    if key == "baseline" and isinstance(value, str) and value.lstrip().startswith("background"):
        return parse_background(value)
    if key == "baseline" and (isinstance(value, list) or (isinstance(value, str) and value.startswith("["))):
        return _numbers(value)
    if key == "stabiliser" and isinstance(value, str) and "," in value:
        return _pair(value)
    if key == "span" and isinstance(value, str):
        return _span(value)
    return parse_value(value) if isinstance(value, str) else value


def _span(text: str) -> tuple[int, ...]:
    """Returns the numbers of `2:5`, or of a list."""
    try:
        return tuple(int(part) for part in re.split("[:,]", text.strip().strip("[]()")))
    except ValueError:
        raise MethodError(f"span is {text!r}, expected start:end, such as 2:5", field="method.span") from None


def _pair(text: str) -> tuple[float, ...]:
    """Returns the numbers of `0.1,0.01`, which may stand in brackets."""
    try:
        return tuple(float(part) for part in text.strip().strip("[]()").split(","))
    except ValueError:
        raise MethodError(
            f"stabiliser {text!r} is neither a number nor a pair such as 0.1,0.01", field="method.stabiliser"
        ) from None


def _numbers(value: str | list[Any]) -> npt.NDArray[Any]:
    try:
        return np.array(json.loads(value) if isinstance(value, str) else value)
    except ValueError:
        raise MethodError(f"baseline {value!r} is not a list of numbers", field="method.baseline") from None
