# SPDX-License-Identifier: Apache-2.0
"""Colours, numbers and text for all pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Equally dark (relative luminance 0.10), so that greyscale shows size alone; the pair is safe for the colour-blind.
FOR = (178, 24, 43)
AGAINST = (27, 92, 168)
# From here on, white text on the colour is easier to read than dark text.
STRONG = 0.82
# Below this share of the largest, a value gets no mark.
FAINT = 0.05

MINUS = "\u2212"


def largest(*arrays: Array) -> float:
    """Return the largest finite magnitude among the arrays, which gets full colour; 1.0 if all are zero."""
    tops = [float(np.max(np.abs(a[np.isfinite(a)]))) for a in map(np.asarray, arrays) if np.isfinite(a).any()]
    top = max(tops, default=0.0)
    return top if top > 0 else 1.0


def share(value: float, scale: float) -> float:
    """Return `value` as a fraction of `scale`, in [-1, 1]; a value that is not a number counts as 0."""
    if not math.isfinite(value):
        return 0.0
    return max(-1.0, min(1.0, value / scale))


def colour(part: float) -> str:
    """Return the CSS colour for a share in [-1, 1]: red if positive, blue if negative, more opaque if larger, and
    transparent at zero.
    """
    if abs(part) < 0.005:
        return "transparent"
    return f"rgba({css_base(part > 0)},{abs(part):.3g})"


def css_base(favours: bool) -> str:
    """Return the three channels as CSS; a page with a dark background sets the variables to brighter colours."""
    red, green, blue = FOR if favours else AGAINST
    return f"var(--lx-{'for' if favours else 'against'},{red},{green},{blue})"


def rgb(part: float) -> tuple[int, int, int]:
    """Return the same colour over white, for terminals."""
    base, opacity = FOR if part > 0 else AGAINST, min(1.0, abs(part))
    red, green, blue = (round(255 + (channel - 255) * opacity) for channel in base)
    return red, green, blue


def number(value: float, *, signed: bool = True) -> str:
    """Format three significant digits, with a sign unless zero."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    size = abs(value)
    text = f"{size:.{2 - exponent}f}" if -4 <= exponent <= 2 else f"{float(f'{size:.3g}'):.0f}"
    if not -4 <= exponent <= 5:
        text = f"{size:.2e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", MINUS)
    sign = MINUS if value < 0 else ("+" if signed else "")
    return sign + text


def clean(text: str) -> str:
    """Replace control characters in `text` by visible symbols, so that it cannot control a terminal or a page."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    point = ord(character)
    if point < 0x20:
        return chr(0x2400 + point)
    if point == 0x7F:
        return "\u2421"
    steers = 0x80 <= point <= 0x9F or 0x202A <= point <= 0x202E or 0x2066 <= point <= 0x2069
    unfit = 0xD800 <= point <= 0xDFFF or point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF
    return "\ufffd" if steers or unfit else character
