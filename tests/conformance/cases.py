# SPDX-License-Identifier: Apache-2.0
"""All cases of the conformance suite, with the answers that the textbook gives."""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.case import Case
from tests.conformance.condition_cases import condition_cases
from tests.conformance.group_cases import group_cases
from tests.conformance.measure_cases import measure_cases, path_cases
from tests.conformance.method_cases import method_cases, target_cases
from tests.conformance.propagation_cases import (
    capture_cases,
    propagation_cases,
    receipt_cases,
    text_cases,
    warning_cases,
)
from tests.conformance.service_cases import access_cases, error_cases, model_cases, stream_cases
from tests.conformance.target_set_cases import target_set_cases


def every() -> Iterator[Case]:
    """All cases."""
    yield from propagation_cases()
    yield from warning_cases()
    yield from target_cases()
    yield from method_cases()
    yield from target_set_cases()
    yield from measure_cases()
    yield from path_cases()
    yield from group_cases()
    yield from text_cases()
    yield from capture_cases()
    yield from receipt_cases()
    yield from condition_cases()
    yield from error_cases()
    yield from access_cases()
    yield from stream_cases()
    yield from model_cases()
