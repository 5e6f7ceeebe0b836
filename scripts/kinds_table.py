# SPDX-License-Identifier: Apache-2.0
"""Measure the cells of the second zoo, and write their rows of docs/compatibility.md.

    python scripts/kinds_table.py [FOLDER…]

With folders that training/second_zoo.py wrote, print the mean and the smallest agreement of each cell over these.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import zoo  # noqa: E402
from tests.zoo.agreement import agreement, divergence, kinds  # noqa: E402

PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- begin kinds -->\n", "<!-- end kinds -->"


def exporter(name: str) -> str:
    """Return which exporter wrote the case, and the opset."""
    meta = zoo.load(name).meta
    return f"{'dynamo' if meta['exporter'].endswith('True)') else 'legacy'} {meta['opset']}"


def row(kind: str, names: list[str]) -> str:
    meta = zoo.load(names[0]).meta
    agreeing, large = min(map(agreement, names)), max(divergence(name)[0].mean() for name in names)
    by = ", ".join(map(exporter, names))
    figures = f"{100 * agreeing:.0f} % | {100 * large:.0f} %"
    return f"| `{kind}` | {meta['description']} | {meta['framework']}: {by} | {figures} |\n"


def print_means(folders: list[Path]) -> None:
    found = defaultdict(list)
    for path in sorted(path for folder in folders for path in folder.resolve().glob(f"{zoo.SECOND}*")):
        name = str(path)  # an absolute path names a case outside the zoo
        figures = agreement(name), *(float(part.mean()) for part in divergence(name))
        found[path.name.removeprefix(zoo.SECOND).rpartition("_")[0]].append(figures)
    for kind, rows in found.items():
        agreeing, large, warned = np.transpose(rows)
        print(
            f"{kind}: sign of Occlusion {agreeing.mean():.0%}, at least {agreeing.min():.0%}; above 10 times the value "
            f"{large.mean():.1%}; warned {warned.mean():.1%}"
        )


def main() -> None:
    if sys.argv[1:]:
        return print_means([Path(folder) for folder in sys.argv[1:]])
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    head = (
        "| cell | after | exporter, opset | sign of Occlusion | above 10 times the value |\n|---|---|---|---:|---:|\n"
    )
    rows = "".join(row(kind, names) for kind, names in kinds().items())
    PAGE.write_text(f"{before}{BEGIN}{head}{rows}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
