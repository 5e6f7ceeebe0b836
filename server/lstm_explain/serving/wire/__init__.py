"""The only place that knows both the messages of the wire and the types of the engine."""

from lstm_explain.serving.wire.explanations import from_answer, from_explanation, probe_request, to_query
from lstm_explain.serving.wire.fields import locate
from lstm_explain.serving.wire.models import (
    check_described,
    numbers_or_none,
    to_detail,
    to_parts,
    to_summary,
    to_upload,
)

__all__ = [
    "check_described",
    "from_answer",
    "from_explanation",
    "locate",
    "numbers_or_none",
    "probe_request",
    "to_detail",
    "to_parts",
    "to_query",
    "to_summary",
    "to_upload",
]
