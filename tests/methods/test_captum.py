# SPDX-License-Identifier: Apache-2.0
"""Our methods equal Captum's on the same model in torch; requires the extra `captum`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra captum is not installed", exc_type=ImportError)
pytest.importorskip("captum", reason="the extra captum is not installed", exc_type=ImportError)


@pytest.fixture(scope="module")
def comparison() -> Any:
    sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
    import captum_comparison

    return captum_comparison


@pytest.mark.parametrize("name", ["discharge", "addition"])
def test_relevance_equals_captums(comparison: Any, name: str) -> None:
    found = comparison.compare(name)
    assert len(found) == 6
    assert max(found.values()) < 1e-4, found


@pytest.mark.parametrize("name", ["discharge", "addition"])
def test_measures_of_the_output(comparison: Any, name: str) -> None:
    found = comparison.measures(name)
    assert len(found) == 6
    assert max(found.values()) < 1e-4, found


@pytest.mark.parametrize("name", ["discharge", "addition"])
def test_sampled_relevance_is_within_its_error(comparison: Any, name: str) -> None:
    found = comparison.sampled(name)
    assert max(found.values()) < 5, found
