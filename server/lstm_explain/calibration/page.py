# SPDX-License-Identifier: Apache-2.0
"""Shows a calibration as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape

from lstm_explain.calibration.measure import POINTS, finite_mean
from lstm_explain.calibration.result import Calibration, Row
from lstm_explain.evaluate.plot import line_chart

HEADINGS = (
    "method",
    "samples",
    "fall under deletion",
    "rise under insertion",
    "untrusted answers",
    "rank correlation with Shapley values",
    "sensitivity to noise",
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th { text-align: left; font-weight: 500; vertical-align: bottom }
th, td { padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ddd } td { font-variant-numeric: tabular-nums }
tr.chosen { background: #eef5fb } pre { background: #f5f5f5; padding: .6rem 1rem; white-space: pre-wrap }
svg { max-width: 100%; height: auto }
"""


def page(title: str, found: Calibration, about: Mapping[str, str]) -> str:
    """about: facts to list, such as the data's name."""
    facts = {
        **about,
        "samples": f"{found.race.samples} to choose, {found.samples} others to measure",
        "deleted and inserted": found.over,
        "seed": str(found.seed),
        "took": f"{found.seconds:.0f} s",
    }
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
    head = "".join(f"<th>{escape(h)}</th>" for h in HEADINGS)
    measured = "".join(_row(row, chosen=row.name == found.label) for row in found.rows())
    fates = "".join(f"<tr><th>{escape(name)}</th><td>{escape(fate)}</td></tr>" for name, fate in found.fates().items())
    common = min(len(m.trusted) for m in found.held_out.values())
    curves = "".join(
        line_chart(
            range(1, POINTS + 1),
            {
                name: [finite_mean(point) for point in getattr(m, curve)[:common].T]
                for name, m in found.held_out.items()
            },
            title,
            f"players {how}: from one (1) to half of them ({POINTS}), in geometric steps",
            "change of the explained value",
        )
        for title, how, curve in (
            ("Fall under deletion, most relevant first", "deleted", "deletion"),
            ("Rise under insertion into the baseline, most relevant first", "inserted", "insertion"),
        )
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>
<h1>{escape(title)}</h1>
<p>Chosen: <b>{escape(found.label)}</b>. On samples without a part in the choice, {escape(found.verdict())}.</p>
<pre>method: {escape(json.dumps(found.entry()))}</pre>
<table>{rows}</table>
<h2>Measured on held-out samples</h2>
<table><tr>{head}</tr>{measured}</table>
<p>Fall and rise are means over the points of the curves, in units of the explained value; larger is better. Agreement
with Shapley values and sensitivity are measured on samples of the first half. The curves are means over the {common}
samples on which every method ran.</p>
{curves}
<h2>Candidates</h2><table>{fates}</table></html>
"""


def _row(row: Row, *, chosen: bool) -> str:
    numbers = [f"{row.deletion:.4g}", f"{row.insertion:.4g}", f"{100 * row.untrusted:.1f} %"]
    numbers += ["" if v is None else f"{v:.2f}" for v in (row.shapley, row.sensitivity)]
    cells = "".join(f"<td>{cell}</td>" for cell in (str(row.samples), *numbers))
    return f"<tr{' class=chosen' if chosen else ''}><th>{escape(row.name)}</th>{cells}</tr>"
