# SPDX-License-Identifier: Apache-2.0
"""A short soak run; the long one is `python scripts/soak.py --minutes 30`."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts.soak import Look, verdict

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
FINE = Counter({"answered": 95, "refused": 5})


def looks(*rss: float, files: int = 16) -> list[Look]:
    return [Look(float(i), int(mib * MIB), files, 15) for i, mib in enumerate(rss)]


def test_a_soak_of_forty_seconds() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "soak.py"), "--seconds", "40"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_fluctuation_is_not_a_leak() -> None:
    assert verdict(looks(*[300, 420, 350, 430, 390] * 12), FINE, 9, 0) == 0


def test_growth_during_warm_up_is_not_a_leak() -> None:
    assert verdict(looks(*[100 + 20 * i for i in range(10)], *[300] * 40), FINE, 9, 0) == 0


@pytest.mark.parametrize(
    ("seen", "counts", "code", "word"),
    [
        (looks(*[300 + i for i in range(50)]), FINE, 0, "memory grew"),
        ([*looks(*[300] * 40), *[Look(40.0 + i, 300 * MIB, 20, 15) for i in range(20)]], FINE, 0, "files grew"),
        (looks(*[300] * 50), FINE + Counter({"_text failed: boom": 1}), 0, "1 x _text failed: boom"),
        (looks(*[300] * 50), FINE + Counter({"malformed, but answered": 1}), 0, "malformed"),
        (looks(*[300] * 50), FINE, -9, "exit code -9"),
        (looks(*[300] * 50), Counter(), 0, "no request"),
    ],
)
def test_leaks_and_errors_fail_the_soak(
    seen: list[Look], counts: Counter[str], code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(seen, counts, 9, code) == 1
    assert word in capsys.readouterr().out
