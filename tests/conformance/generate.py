# SPDX-License-Identifier: Apache-2.0
"""Writes the models, cases and golden messages next to this file: python -m tests.conformance.generate [FOLDER]."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

os.environ.setdefault("LSTM_EXPLAIN_KERNELS", "wait")

from tests.conformance import cases, golden, models

HERE = Path(__file__).resolve().parent


def generate(folder: Path) -> None:
    models.write(folder / "models")
    write_cases(folder / "cases")
    golden.write(folder / "golden")


def write_cases(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    every = list(cases.every())
    assert len({case["name"] for case in every}) == len(every), "two cases of one name"
    for case in every:
        text = json.dumps(case, ensure_ascii=False, indent=1)
        (folder / f"{case['name']}.json").write_text(_compact(text) + "\n")


def _compact(text: str) -> str:
    """Joins the innermost lists to one line each."""
    return re.sub(r"\[\n[^\[\]{}]*\]", lambda found: re.sub(r"\n *", " ", found[0]), text)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
