# SPDX-License-Identifier: Apache-2.0
"""Writes the methods of all clients: `python -m scripts.generate_methods`, a part of `make proto`."""

from __future__ import annotations

from scripts.generate_methods import generated
from scripts.generate_methods.description import ROOT

for path, text in generated().items():
    (ROOT / path).write_text(text, encoding="utf-8")
    print(path)
