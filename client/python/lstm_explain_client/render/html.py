# SPDX-License-Identifier: Apache-2.0
"""Draws words with relevance, the legend, and whole pages as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client.render.scale import FAINT, STRONG, clean, colour, css_base, largest, number, share

# Every fragment carries it; `page` keeps one copy. Text takes the colour of its surroundings, and the colours of
# relevance are translucent, so that a fragment is readable on light and on dark ground.
STYLE = """<style>
.lx{font:15px/1.45 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;margin:.6em 0;max-width:60rem}
.lx *{box-sizing:border-box;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.lx-words{display:flex;flex-wrap:wrap;gap:.45em .32em;align-items:flex-start;padding:0;margin:.4em 0}
.lx-w{display:inline-flex;flex-direction:column;align-items:center;unicode-bidi:isolate;max-width:100%}
.lx-w b{font-weight:400;font-size:1.08em;line-height:1.3;padding:.12em .34em .08em;border-radius:.25em;
 overflow-wrap:anywhere;white-space:pre-wrap;border-bottom:3px solid transparent}
.lx-w.for b{border-bottom:3px solid rgb(FOR)}
.lx-w.against b{border-bottom:3px dashed rgb(AGAINST)}
.lx-w.strong b{color:#fff}
.lx-w.heavy b{font-weight:650}
.lx-w small{font-size:.68em;line-height:1.35;font-variant-numeric:tabular-nums;opacity:.85;white-space:nowrap}
.lx-w.faint small{opacity:.45}
.lx-legend{display:flex;flex-wrap:wrap;align-items:center;gap:.2em .6em;font-size:.8em;margin:.5em 0 0}
.lx-bar{display:inline-block;width:11em;height:.85em;border-radius:.2em;border:1px solid rgba(128,128,128,.5);
 background:linear-gradient(to right,rgba(AGAINST,1),rgba(AGAINST,0) 50%,rgba(FOR,0) 50%,rgba(FOR,1))}
.lx svg .for{fill:rgb(FOR)}.lx svg .against{fill:rgb(AGAINST)}
.lx-legend span{white-space:nowrap;font-variant-numeric:tabular-nums}
.lx svg{display:block;max-width:100%;height:auto;font-family:inherit;overflow:visible}
.lx svg text{fill:currentColor;font-variant-numeric:tabular-nums}
.lx table{border-collapse:collapse;font-size:.9em;font-variant-numeric:tabular-nums}
.lx th,.lx td{padding:.2em .7em .2em 0;text-align:right;font-weight:400;border-bottom:1px solid rgba(128,128,128,.28);
 color:inherit;background:none}
.lx td{white-space:nowrap}
.lx th{text-align:left}
.lx tr.sum th,.lx tr.sum td{font-weight:650;border-top:2px solid rgba(128,128,128,.7);border-bottom:0}
.lx td.track{width:10.5em;min-width:7em;padding-right:0}
.lx .balance{position:relative;display:block;height:.95em;background:rgba(128,128,128,.1)}
.lx .balance i{position:absolute;top:0;bottom:0}
.lx .balance u{position:absolute;top:-2px;bottom:-2px;width:1px;background:currentColor;opacity:.55}
.lx .balance i.against{
 background-image:repeating-linear-gradient(135deg,rgba(255,255,255,.5) 0 2px,transparent 2px 6px)}
.lx caption,.lx .note{font-size:.82em;opacity:.8;text-align:left;margin:.3em 0}
.lx-side{display:flex;flex-wrap:wrap;gap:0 3rem;align-items:flex-start}
.lx-warnings{list-style:none;margin:.4em 0;padding:.45em .8em;border-left:4px solid rgb(196,116,0);
 background:rgba(240,150,0,.14);overflow-wrap:anywhere}
.lx-left-out{margin:.4em 0;padding:.45em .8em;border-left:4px solid rgba(128,128,128,.6);
 background:rgba(128,128,128,.1);overflow-wrap:anywhere}
.lx details{margin:.5em 0;font-size:.95em}
.lx summary{cursor:pointer;font-size:.86em}
@media (forced-colors:active){.lx *{forced-color-adjust:none}}
@media print{.lx{break-inside:avoid}.lx details>summary{list-style:none}}
</style>""".replace("AGAINST", css_base(False)).replace("FOR", css_base(True))

_PAGE_STYLE = """<style>
:root{color-scheme:light dark;--ground:#fdfdfc;--ink:#16181d;--rule:#d9dade}
@media (prefers-color-scheme:dark){:root{--ground:#15181d;--ink:#e9ebef;--rule:#3a3f48;
 --lx-for:214,58,72;--lx-against:52,116,206}}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:62rem;background:var(--ground);color:var(--ink);
 font:16px/1.5 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 1rem}
h2{font-size:1.15rem;line-height:1.3;margin:0 0 .4rem}
section{border-top:1px solid var(--rule);padding:1.3rem 0 1rem}
@media print{:root{color-scheme:light;--ground:#fff;--ink:#000;--rule:#bbb;--lx-for:178,24,43;--lx-against:27,92,168}
 body{padding:0;max-width:none}
 section{break-inside:avoid-page}}
</style>"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def text(value: Any) -> str:
    """Escape text for elements and attributes of HTML and XML."""
    return escape(clean(str(value)), quote=True)


def fragment(*parts: str, label: str = "") -> str:
    """Wrap parts in a fragment that works in any page."""
    named = f' role="group" aria-label="{text(label)}"' if label else ""
    return f'{STYLE}<div class="lx"{named}>{"".join(parts)}</div>'


def beside(*fragments: str) -> str:
    """Place fragments next to each other if the page is wide enough."""
    inner = "".join(fragments).replace(STYLE, "")
    return f'{STYLE}<div class="lx"><div class="lx-side">{inner}</div></div>'


def words(
    tokens: Sequence[str],
    relevance: npt.ArrayLike,
    *,
    scale: float | None = None,
    legend: bool = True,
    struck: bool = False,
) -> str:
    """Return a sentence with the relevance of each word, as an HTML fragment.

    tokens: [words]; empty ones (padding) are omitted. relevance: [words]. scale: the magnitude with full colour;
    default the largest. struck: whether to strike through the words whose relevance is not 0. Raises ValueError if the
    two do not match.
    """
    values = np.asarray(relevance, dtype=np.float64)
    if values.shape != (len(tokens),):
        raise ValueError(f"{len(tokens)} tokens and relevance of shape {values.shape}")
    top = scale or largest(values)
    items = "".join(
        _word(token, float(value), top, struck=struck) for token, value in zip(tokens, values, strict=True) if token
    )
    sentence = f'<div class="lx-words" role="list">{items}</div>'
    return fragment(sentence, legend_bar(top) if legend else "", label="Relevance of each word")


def _word(token: str, value: float, scale: float, *, struck: bool = False) -> str:
    part = share(value, scale)
    classes = " ".join(["lx-w", *_marks(part)])
    shown = number(value)
    label = f"{text(token)}: {shown}, {_side(part)}"
    written = f"<s>{text(token)}</s>" if struck and value else text(token)
    return (
        f'<span class="{classes}" role="listitem" title="{label}" aria-label="{label}">'
        f'<b style="background-color:{colour(part)}">{written}</b><small>{shown}</small></span>'
    )


def _marks(part: float) -> Iterable[str]:
    if abs(part) < FAINT:
        yield "faint"
        return
    yield "for" if part > 0 else "against"
    if abs(part) >= 0.5:
        yield "heavy"
    if abs(part) >= STRONG:
        yield "strong"


def _side(part: float) -> str:
    if part == 0:
        return "neutral"
    return "for" if part > 0 else "against"


def warnings(messages: Iterable[str]) -> str:
    """Return the warnings of an answer as an HTML fragment, or an empty string if there are none."""
    items = "".join(f"<li><b>Warning:</b> {text(message)}</li>" for message in messages)
    return fragment(f'<ul class="lx-warnings">{items}</ul>', label="Warnings") if items else ""


def legend_bar(scale: float) -> str:
    """Draw the scale: the meaning of the colours, and the value of the full colours."""
    return (
        '<div class="lx-legend">'
        f'<span>against {number(-scale)}</span><span class="lx-bar" role="img" '
        f'aria-label="Scale: blue is against, down to {number(-scale)}; no colour is zero; '
        f'red is for, up to {number(scale)}"></span><span>{number(scale)} for</span></div>'
    )


def page(sections: Iterable[str | tuple[str, str]], title: str) -> str:
    """Return a complete HTML document, readable on light and dark backgrounds, that loads no other files.

    sections: fragments, or pairs of a heading (plain text) and a fragment (HTML). title: plain text.
    """
    body = "\n".join(_section(*(("", s) if isinstance(s, str) else s)) for s in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"/>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
        f"<title>{text(title)}</title>\n{_PAGE_STYLE}\n{STYLE}</head>\n"
        f"<body><main><h1>{text(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def _section(heading: str, body: str) -> str:
    named = f"<h2>{text(heading)}</h2>" if heading else ""
    return f"<section>{named}{body.replace(STYLE, '')}</section>"
