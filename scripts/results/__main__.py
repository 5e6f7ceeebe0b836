# SPDX-License-Identifier: Apache-2.0
"""Repeat the experiments of the papers and write docs/results.md."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import architectures  # noqa: E402
import attention  # noqa: E402
import backgrounds  # noqa: E402
import bundled_models  # noqa: E402
import calibrated  # noqa: E402
import conservation  # noqa: E402
import integral  # noqa: E402
import measures  # noqa: E402
import misclassified  # noqa: E402
import phrases  # noqa: E402
import recurrences  # noqa: E402
import representations  # noqa: E402
import rudder  # noqa: E402
import toy  # noqa: E402
import trust  # noqa: E402
import words  # noqa: E402
from common import BROKEN, DATA, DOCS  # noqa: E402

SECTIONS = (
    "toy", "words", "measures", "representations", "phrases", "misclassified", "kept", "conservation", "architectures",
    "recurrences", "attention", "rudder", "integral", "calibrated", "trust", "backgrounds",
)  # fmt: skip
HEAD = """# Results

This page repeats the experiments of the papers with the models in `models/`. `make results` writes it; do not edit it.

"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=DATA, help="folder with sst/")
    options.add_argument(
        "--seeds", type=Path, help="further toy models, as `training/arithmetic.py --keep` leaves them"
    )
    options.add_argument(
        "--only",
        choices=SECTIONS,
        help="print this section and write nothing",
    )
    options.add_argument("--cards", action="store_true", help="write the calibrated settings to models/*/model.yaml")
    chosen = options.parse_args()
    began = time.monotonic()

    def progress(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)

    sections = {
        "toy": lambda: toy.run(chosen.seeds, progress),
        "words": lambda: words.run(chosen.data, progress),
        "measures": lambda: measures.run(chosen.data, progress),
        "representations": lambda: representations.run(chosen.data, progress),
        "phrases": lambda: phrases.run(chosen.data, progress),
        "misclassified": lambda: misclassified.run(chosen.data, progress),
        "kept": lambda: bundled_models.run(chosen.data, progress),
        "conservation": lambda: conservation.run(chosen.data, progress),
        "architectures": lambda: architectures.run(progress),
        "recurrences": lambda: recurrences.run(progress),
        "attention": lambda: attention.run(progress),
        "rudder": lambda: rudder.run(progress),
        "integral": lambda: integral.run(chosen.data, progress),
        "calibrated": lambda: calibrated.run(chosen.data, progress, cards=chosen.cards),
        "trust": lambda: trust.run(chosen.data, progress),
        "backgrounds": lambda: backgrounds.run(chosen.data, progress),
    }
    if chosen.only:
        text = sections[chosen.only]()
        print(text)
    else:
        text = HEAD + "\n".join(make() for make in sections.values())
        (DOCS / "results.md").write_text(text, encoding="utf-8")
        progress("wrote docs/results.md")
    if BROKEN in text:
        raise SystemExit(f"some claims of the papers do not hold: search for '{BROKEN}' above")


if __name__ == "__main__":
    main()
