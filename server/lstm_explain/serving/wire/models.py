# SPDX-License-Identifier: Apache-2.0
"""Converts descriptions of models and the messages of an import, for the model service."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from lstm_explain.errors import InputError, ModelError
from lstm_explain.repository.misplaced import NO_VERSION
from lstm_explain.repository.model_folder import MODEL
from lstm_explain.repository.model_route import Route
from lstm_explain.serving.errors import NotReady, short
from lstm_explain.serving.models.imports import AnnouncedFile, Upload
from lstm_explain.serving.models.snapshot import Entry, Failed, InTrial, Snapshot, Unloaded
from lstm_explain.serving.wire.methods import default_method
from lstm_explain.serving.wire.targets import default_target
from lstm_explain.serving.wire.tensors import to_spec
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2

Message = TypeVar("Message")
log = logging.getLogger(__name__)


def describe_or_failed(describe: Callable[[Entry], Message], entry: Entry) -> Message:
    """Returns the description of an entry. One that cannot be described is listed as failed, so that others still
    are.
    """
    try:
        return describe(entry)
    except Exception as error:
        log.exception("model %s version %d cannot be described", entry.name, entry.version)
        return describe(Failed(entry.name, entry.version, f"cannot be described: unexpected {type(error).__name__}"))


def check_described(entry: Entry) -> None:
    """Raises ModelError if the entry does not fit into a message: a number beyond its field's range, for example."""
    try:
        to_detail(entry).SerializeToString()
    except (ValueError, TypeError) as error:
        raise ModelError(f"the model cannot be described in a message: {error}") from error


def to_summary(entry: Entry) -> model_pb2.ModelSummary:
    summary = model_pb2.ModelSummary(name=entry.name, version=version_of(entry))
    if isinstance(entry, Failed):
        summary.state, summary.reason = model_pb2.MODEL_STATE_FAILED, short(entry.reason)
    elif isinstance(entry, Unloaded):
        summary.state = model_pb2.MODEL_STATE_UNLOADED
    elif isinstance(entry, InTrial):
        summary.state = model_pb2.MODEL_STATE_LOADING
    else:
        summary.state, summary.reason = model_pb2.MODEL_STATE_READY, short(entry.card.problem)
        summary.description = entry.card.config.description
        summary.digest = entry.card.digest
    return summary


def with_route(summary: model_pb2.ModelSummary, snapshot: Snapshot) -> model_pb2.ModelSummary:
    """Returns the summary with the part that the version has in answering requests that name no version."""
    if summary.version:
        route, number = snapshot.route(summary.name), int(summary.version)
        try:
            summary.is_default = snapshot.entry(summary.name).version == number
        except NotReady:
            summary.is_default = False
        summary.canary_share = route.share if route.canary == number else 0.0
    return summary


def to_route(route: Route) -> model_pb2.ModelRoute:
    def text(version: int | None) -> str:
        return "" if version is None else str(version)

    return model_pb2.ModelRoute(
        default_version=text(route.default),
        canary_version=text(route.canary),
        canary_share=route.share,
        previous_version=text(route.previous),
    )


def version_of(entry: Entry) -> str:
    """Returns the version as text; empty for a model that has none."""
    return str(entry.version) if entry.version != NO_VERSION else ""


def to_detail(entry: Entry) -> model_pb2.ModelDetail:
    """Returns the full description; of a model that is not ready, the summary only."""
    if isinstance(entry, Failed | Unloaded | InTrial):
        return model_pb2.ModelDetail(summary=to_summary(entry))
    card, config = entry.card, entry.card.config
    return model_pb2.ModelDetail(
        summary=to_summary(entry),
        inputs=[to_spec(name, spec) for name, spec in card.inputs.items()],
        outputs=[to_spec(name, spec, sent=True) for name, spec in card.outputs.items()],
        lrp_supported=card.report.supported,
        nodes=[
            model_pb2.NodeReport(name=n.name, op_type=n.op, supported=n.supported, rule=n.rule)
            for n in card.report.nodes
        ],
        default_method=default_method(card.default_method, card.inputs),
        default_target=default_target(card.default_target),
        class_names=_names(config.classes),
        feature_names=_names(config.features),
        text_inputs=card.text_inputs,
        batch_axes={name: axes.batch for name, axes in card.axes.items() if axes.batch is not None},
        time_axes={name: axes.time for name, axes in card.axes.items() if axes.time is not None},
        guessed_axes=[name for name, axes in card.axes.items() if not axes.certain],
        background_samples=card.background,
        examples=_names(card.examples),
        feature_groups=[
            explanation_pb2.FeatureGroup(name=name, input=of, features=map(str, features))
            for of, groups in config.feature_groups.items()
            for name, features in groups.items()
        ],
        units=_names({name: [unit] if isinstance(unit, str) else unit for name, unit in config.units.items()}),
    )


def to_upload(requests: Iterator[model_pb2.ImportModelRequest]) -> Upload:
    """Reads the first message. Raises InputError if it is not the start of an import."""
    first = next(requests, None)
    if first is None or not first.HasField("start"):
        raise InputError("the first message of an import must carry `start`", field="start")
    start = first.start
    return Upload(start.name, start.version, AnnouncedFile(MODEL, start.sha256, start.size), start.config_yaml)


def to_parts(requests: Iterator[model_pb2.ImportModelRequest]) -> Iterator[AnnouncedFile | bytes]:
    """Reads the other messages. Raises InputError for one that is neither a chunk nor the start of a file."""
    for request in requests:
        if request.HasField("file"):
            yield AnnouncedFile(request.file.name, request.file.sha256, request.file.size)
        elif request.HasField("chunk"):
            yield request.chunk
        else:
            problem = "every message of an import after the first must carry `chunk` or `file`"
            raise InputError(problem, field="chunk")


def _names(values: Mapping[str, Sequence[str]]) -> dict[str, model_pb2.Names]:
    return {name: model_pb2.Names(values=names) for name, names in values.items()}
