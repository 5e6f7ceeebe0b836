# SPDX-License-Identifier: Apache-2.0
"""Runs the engine on jobs that have a slot: one run per job, or one run for several jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from lstm_explain.cancellation import FORWARD, Cancelled, CancelScope, Deferred, cancel_scope
from lstm_explain.errors import Error, drop_tracebacks
from lstm_explain.model import Explanation
from lstm_explain.progress import Report
from lstm_explain.repository.batching import BatchedOutputs, Record, RequestBatching
from lstm_explain.serving.execution.batcher import Job, check_callers_wait
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.shared_board import SharedBoard

log = logging.getLogger(__name__)

PREDICTION = "predict"  # appears next to the methods' names in the metrics


class EngineRuns:
    """Settles jobs. Jobs that fail as a batch run one by one, so that only the invalid request is refused.

    board: where active runs are marked.
    """

    def __init__(self, metrics: Metrics, board: SharedBoard) -> None:
        self.metrics = metrics
        self.board = board

    def alone(self, job: Job, *, brief: bool = False) -> None:
        """Runs the engine on one job. brief: raises Deferred if the work may take long, and leaves the job without an
        answer.
        """
        request, model = job.request, job.served.model
        with _Run(self, job, job.deadline, brief=brief) as run:
            if request.method is None:
                with FORWARD:
                    run.answer = model.predict(request.inputs)
            elif request.targets:
                run.answer = model.explain_many(
                    request.inputs, request.method, request.targets, request.capture, job.progress, request.condition,
                    request.grouping, request.through,
                )  # fmt: skip
            else:
                run.answer = model.explain(
                    request.inputs,
                    request.method,
                    request.target,
                    request.capture,
                    job.progress,
                    request.condition,
                    request.grouping,
                    request.through,
                )
        job.parts, job.company = run.scope.timings, 1
        job.answer, job.error = run.answer, run.error
        # Several targets take less time than the same number of requests, and a condition may leave most of the work.
        if run.error is None and not request.targets and request.condition is None:
            job.served.latency.record(request.method, job.units, run.seconds)

    def together(self, jobs: list[Job]) -> None:
        """Runs the engine on several jobs of one batch key, as one batch where that is known to give the same answers
        as separate runs.
        """
        request_batching, key = jobs[0].served.request_batching, jobs[0].key
        if len(jobs) == 1 or request_batching is None or key is None:
            self._one_by_one(jobs)
            return
        record = request_batching.record(key, [job.request for job in jobs])
        if record.refused:
            self._one_by_one(jobs)
        elif record.layout is None:
            self._try(jobs, request_batching, record)
        elif not self._joint(jobs, request_batching, record, record.layout):
            self._one_by_one(jobs)

    def _one_by_one(self, jobs: list[Job]) -> None:
        for job in jobs:
            self.alone(job)
            job.finish()  # wakes the caller of this job before the next one runs

    def _try(self, jobs: list[Job], request_batching: RequestBatching, record: Record) -> None:
        """Answers the callers one by one, and compares a batch with their answers."""
        self._one_by_one(jobs)
        requests, alone = [job.request for job in jobs], [job.answer for job in jobs]
        if not all(isinstance(answer, Explanation) for answer in alone):
            return
        run = self._batch(jobs, request_batching, jobs[0].deadline)
        if isinstance(run.answer, Explanation):
            request_batching.learn(record, requests, alone, run.answer)
        else:
            request_batching.count(record, won=False)

    def _joint(
        self, jobs: list[Job], request_batching: RequestBatching, record: Record, layout: BatchedOutputs
    ) -> bool:
        """Returns whether one run has answered all of them."""
        run = self._batch(jobs, request_batching, lambda: check_callers_wait(jobs), _progress_of(jobs))
        if run.error is not None and all(job.deadline.over("") for job in jobs):
            for job in jobs:
                job.error = job.deadline.over("during the work") or run.error
            return True
        if not isinstance(run.answer, Explanation):
            return False
        request_batching.count(record, won=True)
        parts = request_batching.split(run.answer, [job.request for job in jobs], layout)
        for job, answer in zip(jobs, parts, strict=True):
            job.answer, job.parts, job.company = answer, run.scope.timings, len(jobs)
        self.metrics.request_batching.observe(len(jobs))
        return True

    def _batch(
        self,
        jobs: list[Job],
        request_batching: RequestBatching,
        check: Callable[[], None],
        progress: Report | None = None,
    ) -> _Run:
        with _Run(self, jobs[0], check) as run:
            request = request_batching.merged([job.request for job in jobs])
            assert request.method is not None  # or the requests have no key
            run.answer = jobs[0].served.model.explain(request.inputs, request.method, request.target, progress=progress)
        return run


def _progress_of(jobs: list[Job]) -> Report | None:
    """Returns what receives the progress of a run that answers several jobs; None where nobody asks for it."""
    asked = [job.progress for job in jobs if job.progress is not None]

    def report(done: int, total: int) -> None:
        for each in asked:
            each(done, total)

    return report if asked else None


class _Run:
    """A context for one run of the engine, which stops between its steps where `check` raises.

    job: the first of the jobs. answer: set by the work inside. error: the reason if there is no answer. Deferred is
    passed on to the caller.
    """

    def __init__(self, runs: EngineRuns, job: Job, check: Callable[[], None], *, brief: bool = False) -> None:
        self._runs, self._job = runs, job
        self.scope = CancelScope(
            check,
            describe=job.about,
            quick_only=brief,
            max_bytes=job.most_bytes,
            max_samples=job.most_samples,
            max_targets=job.most_targets,
            on_compiled=job.deadline.extend,
        )
        self.answer: Any = None
        self.error: Exception | None = None
        self.seconds = 0.0

    def __enter__(self) -> _Run:
        self._began = time.perf_counter()
        self._place = self._runs.board.begin(self._job.served.mark)
        self._watching = cancel_scope(self.scope)
        self._watching.__enter__()
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> bool:
        self._watching.__exit__()
        self._runs.board.end(self._place)
        if isinstance(error, Deferred):
            return False
        self.seconds = time.perf_counter() - self._began
        metrics, method = self._runs.metrics, self._job.request.method
        metrics.ran(self._job.served.name, PREDICTION if method is None else method.name, self.seconds)
        for part, timing in self.scope.timings.items():
            metrics.parts[part].observe(timing.seconds)
        if isinstance(error, Cancelled):
            drop_tracebacks(error)
            self.error = error.cause
        elif isinstance(error, Error):  # raised in the thread of the caller
            drop_tracebacks(error)  # the engine's arrays must be freed before that
            self.error = error
        elif isinstance(error, Exception):  # logged there, too
            self.error = error
        return self.error is not None
