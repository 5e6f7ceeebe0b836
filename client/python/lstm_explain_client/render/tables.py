# SPDX-License-Identifier: Apache-2.0
"""Draws the ledger and the prediction as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lstm_explain_client.render.account import entries
from lstm_explain_client.render.html import fragment, text
from lstm_explain_client.render.scale import MINUS, colour, largest, number, share


def ledger(
    explained: float,
    shares: Mapping[str, float],
    by_node: Mapping[str, float] | None = None,
    *,
    method: str = "lrp",
    most_nodes: int = 12,
) -> str:
    """Return the ledger of one sample as an HTML fragment.

    shares: the four entries of the ledger by name; by_node: what each node absorbed; the largest are shown. method: the
    name of the method, which determines the labels of the entries.
    """
    scale = largest(np.array([explained, *shares.values()]))
    rows = [_row(label, shares[key], explained, scale) for key, label in entries(method) if key in shares]
    rows.append(_row("explained value", explained, explained, scale, kind="sum"))
    head = "<caption>Where the explained value went</caption>"
    return fragment(_table(head, rows), _nodes(by_node or {}, explained, scale, most_nodes), label="Ledger")


def _nodes(by_node: Mapping[str, float], explained: float, scale: float, most: int) -> str:
    order = sorted((name for name in by_node if by_node[name] != 0), key=lambda name: -abs(by_node[name]))
    if not order:
        return ""
    rows = [_row(name, by_node[name], explained, scale) for name in order[:most]]
    if rest := order[most:]:
        rows.append(_row(f"{len(rest)} others", float(sum(by_node[name] for name in rest)), explained, scale))
    return f"<details><summary>Kept by each node ({len(order)})</summary>{_table('', rows)}</details>"


def _table(head: str, rows: Sequence[str]) -> str:
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _row(label: str, value: float, whole: float, scale: float, kind: str = "") -> str:
    tag = f' class="{kind}"' if kind else ""
    return (
        f'<tr{tag}><th scope="row">{text(label)}</th><td>{number(value)}</td><td>{percent(value, whole)}</td>'
        f'<td class="track">{balance(value, scale)}</td></tr>'
    )


def percent(value: float, whole: float) -> str:
    """Format `value` as a percentage of `whole`; empty if that has no meaning."""
    if not whole or not np.isfinite(value / whole):
        return ""
    if not value:
        return "0.0 %"
    share_ = 100 * value / whole
    if abs(share_) < 0.05:
        return "≈ 0 %"
    return f"{share_:.1f} %".replace("-", MINUS)


def balance(value: float, scale: float) -> str:
    """Draw a bar from the middle: to the right if positive, to the left (hatched) if negative."""
    part = share(value, scale)
    width = abs(part) * 50
    left = 50.0 if part >= 0 else 50 - width
    side = "for" if part >= 0 else "against"
    fill = colour(0.8 if part > 0 else -0.8)
    bar = f'<i class="{side}" style="left:{left:.3g}%;width:{width:.3g}%;background-color:{fill}"></i>'
    return f'<span class="balance" aria-hidden="true">{bar if width else ""}<u style="left:50%"></u></span>'


def prediction(
    values: npt.ArrayLike,
    names: Sequence[str] | None = None,
    chosen: int | None = None,
    *,
    caption: str = "",
    mark: str = "explained",
    contrast: int | None = None,
) -> str:
    """Return the output of one sample as a small bar chart, as an HTML fragment.

    chosen: the entry that is explained, or that belongs to what is explained; `mark` labels it. contrast: the
    entry that it is compared with.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    labels = list(names) if names is not None and len(names) == flat.size else [str(i) for i in range(flat.size)]
    scale = largest(flat)
    marks = {contrast: " ◂ compared with", chosen: f" ◂ {text(mark)}"}
    rows = [
        f'<tr{_chosen(i == chosen)}><th scope="row">{text(label)}{marks.get(i, "")}</th>'
        f'<td>{number(float(value))}</td><td class="track">{balance(float(value), scale)}</td></tr>'
        for i, (label, value) in enumerate(zip(labels, flat, strict=True))
    ]
    head = f"<caption>{text(caption)}</caption>" if caption else ""
    return fragment(_table(head, rows), label="Prediction")


def _chosen(chosen: bool) -> str:
    return ' style="font-weight:650"' if chosen else ""
