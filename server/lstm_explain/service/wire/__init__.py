"""The only place that knows both the messages of the wire and the types of the engine."""

from lstm_explain.service.wire.explanations import from_answer, from_explanation, probe_request, to_query
from lstm_explain.service.wire.fields import locate
from lstm_explain.service.wire.models import check_described, to_detail, to_parts, to_summary, to_upload, told

__all__ = [
    "check_described",
    "from_answer",
    "from_explanation",
    "locate",
    "probe_request",
    "to_detail",
    "to_parts",
    "to_query",
    "to_summary",
    "to_upload",
    "told",
]
