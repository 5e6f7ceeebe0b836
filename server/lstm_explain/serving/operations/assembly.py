# SPDX-License-Identifier: Apache-2.0
"""Puts together what a server needs to keep operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from lstm_explain.errors import Error
from lstm_explain.repository.model_folder import Source
from lstm_explain.serving.audit.log import AuditLog
from lstm_explain.serving.execution.explainer import Explainer
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.operations.batch_work import BatchWork
from lstm_explain.serving.operations.entry import Kind
from lstm_explain.serving.operations.explain_work import ExplainWork
from lstm_explain.serving.operations.runner import OperationRunner, Work
from lstm_explain.serving.operations.store import OperationStore, StoreLimits
from lstm_explain.serving.scheduling.admission import Slots
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.settings import Settings


@dataclass(frozen=True)
class Keeping:
    """What a server needs that keeps operations. explainer: checks the requests that become operations. batches: None
    where there are no batch jobs.
    """

    store: OperationStore
    runner: OperationRunner
    explainer: Explainer
    batches: BatchWork | None


def keeping(
    settings: Settings,
    explainer_with: Callable[..., Explainer],
    background: BackgroundThreads,
    metrics: Metrics,
    audit: AuditLog | None,
    check_signature: Callable[[Source], None],
) -> Keeping | None:
    """Returns None where operations are not kept. explainer_with: takes the arguments by which an Explainer of
    operations differs from that of requests. check_signature: see BatchWork. Raises Error.
    """
    folder, most = settings.operations_folder, settings.operations_parallel
    if folder is None:
        return None
    limits = StoreLimits(settings.max_operations, settings.max_operations_bytes, settings.operations_keep_seconds)
    try:
        store = OperationStore(folder, limits, str(settings.announcements))
    except OSError as error:
        raise Error(f"--operations-folder: {folder} cannot be used: {error.strerror}") from error
    of_operations = partial(
        explainer_with,
        slots=Slots(most),
        limits=replace(settings.limits, samples=settings.max_operation_samples),
        most_seconds=settings.max_operation_seconds,
        own_samples=True,
    )
    own = BackgroundThreads(most, gently=True)  # so that requests go first where processors are scarce
    work: dict[Kind, Work] = {
        "explain": ExplainWork(of_operations(background=own), audit, settings.max_operation_seconds)
    }
    batches = None
    if settings.batch_folder is not None:
        work["batch"] = batches = BatchWork(
            settings.models,
            settings.batch_folder,
            settings.batch_ray,
            audit,
            check_signature,
            settings.max_operation_seconds,
        )
    runner = OperationRunner(store, most, work, metrics)
    return Keeping(store, runner, of_operations(background=background), batches)
