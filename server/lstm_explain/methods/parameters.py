# SPDX-License-Identifier: Apache-2.0
"""Describes the parameters of methods: their bounds, and their labels on the page. Clients and page are generated from
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lstm_explain.errors import MethodError

if TYPE_CHECKING:
    from lstm_explain.methods.base import Method

_KEY = "parameter"  # in a field's metadata
_T = TypeVar("_T")


@dataclass(frozen=True)
class Parameter:
    """What is known of a parameter besides its name, type and default.

    label: its name on the page.
    least, most: bounds, both inclusive.
    absent: of a number whose default is None, the number that the server uses in its absence; None for none.
    choices: the words that it accepts, with their labels on the page; empty for a number.
    """

    label: str
    least: float = -math.inf
    most: float = math.inf
    absent: float | None = None
    choices: Mapping[str, str] = field(default_factory=dict)


def parameter(
    default: _T,
    label: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    absent: float | None = None,
    choices: Mapping[str, str] | None = None,
) -> _T:
    """Declares a field of a method: a whole number where `default` is an int, a number where it is a float or None, or
    a choice. A number whose default is None may be absent.
    """
    about = Parameter(label, least, most, absent, choices or {})
    own: _T = field(default=default, metadata={_KEY: about})
    return own


def parameter_of(own: Field[Any]) -> Parameter | None:
    """Returns the description of a field of a method; None for a field that is neither a number nor a choice."""
    return own.metadata.get(_KEY)


def check(method: Method) -> None:
    """Raises MethodError where a parameter is out of bounds."""
    for own in fields(method):
        about = parameter_of(own)
        if about is None:
            continue
        value = getattr(method, own.name)
        if value is None and own.default is None:
            continue
        if about.choices:
            valid, expected = value in tuple(about.choices), f"one of {', '.join(about.choices)}"
        elif isinstance(own.default, int):
            valid, expected = is_whole(value), f"a whole number {_bounds(about)}"
        else:
            valid, expected = is_number(value), f"a number {_bounds(about)}"
        if not valid or not (about.choices or about.least <= value <= about.most):
            message = f"{method.name}: {own.name} is {value!r}, expected {expected}"
            raise MethodError(message, field=f"method.{own.name}")


def is_whole(value: object) -> bool:
    """Returns whether a value is an integer; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Returns whether a value is a finite number; True and False are none."""
    return is_whole(value) or (isinstance(value, (float, np.floating)) and math.isfinite(value))


def _bounds(about: Parameter) -> str:
    return f"of at least {about.least}" if about.most == math.inf else f"from {about.least} to {about.most}"
