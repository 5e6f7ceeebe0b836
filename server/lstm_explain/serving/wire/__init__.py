# SPDX-License-Identifier: Apache-2.0
"""Converts between protobuf messages and the types of the engine; nothing else knows both."""

from lstm_explain.serving.wire.explanations import from_answer, from_explanation, probe_request, to_query
from lstm_explain.serving.wire.fields import locate
from lstm_explain.serving.wire.models import (
    check_described,
    describe_or_failed,
    to_detail,
    to_parts,
    to_route,
    to_summary,
    to_upload,
    with_route,
)

__all__ = [
    "check_described",
    "describe_or_failed",
    "from_answer",
    "from_explanation",
    "locate",
    "probe_request",
    "to_detail",
    "to_parts",
    "to_query",
    "to_route",
    "to_summary",
    "to_upload",
    "with_route",
]
