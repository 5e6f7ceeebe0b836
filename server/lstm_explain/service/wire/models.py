"""Models as the model service describes them."""

from __future__ import annotations

from lstm_explain.service.repository import Entry, Failed
from lstm_explain.service.wire.methods import from_method
from lstm_explain.service.wire.targets import default_target
from lstm_explain.service.wire.tensors import to_spec
from lstm_explain_proto.lstm_explain.v1 import model_pb2


def to_summary(entry: Entry) -> model_pb2.ModelSummary:
    summary = model_pb2.ModelSummary(name=entry.name, version=str(entry.version))
    if isinstance(entry, Failed):
        summary.state, summary.reason = model_pb2.MODEL_STATE_FAILED, entry.reason
    else:
        summary.state, summary.description = model_pb2.MODEL_STATE_READY, entry.config.description
    return summary


def to_detail(entry: Entry) -> model_pb2.ModelDetail:
    """Of a model that failed to load, the summary only."""
    if isinstance(entry, Failed):
        return model_pb2.ModelDetail(summary=to_summary(entry))
    return model_pb2.ModelDetail(
        summary=to_summary(entry),
        inputs=[to_spec(name, spec) for name, spec in entry.model.inputs.items()],
        outputs=[to_spec(name, spec) for name, spec in entry.model.outputs.items()],
        lrp_supported=entry.report.supported,
        nodes=[
            model_pb2.NodeReport(name=n.name, op_type=n.op, supported=n.supported, rule=n.rule)
            for n in entry.report.nodes
        ],
        default_method=from_method(entry.default_method),
        default_target=default_target(entry.default_target),
        class_names={name: model_pb2.Names(values=values) for name, values in entry.config.classes.items()},
        feature_names={name: model_pb2.Names(values=values) for name, values in entry.config.features.items()},
        text_inputs=list(entry.text_inputs),
    )
