"""What happens in a slot: jobs are answered by the engine, each by a run of its own or several by one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from lstm_explain.cancellation import FORWARD, Cancelled, CancelScope, Deferred, Timing, cancel_scope
from lstm_explain.errors import Error, drop_tracebacks
from lstm_explain.model import Explanation
from lstm_explain.repository.batching import BatchableRequest, BatchedInputs, Record, RequestBatching
from lstm_explain.serving.execution.batcher import Job, check_callers_wait
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.shared_board import SharedBoard

log = logging.getLogger(__name__)

PREDICTION = "predict"  # beside the methods' names in the metrics


class EngineRuns:
    """Call it with jobs, several only if they are of one kind; each is settled then. What fails as a batch is run one
    by one, so a request that is wrong is told so, and the others are answered.

    board: where runs are marked while they go on.
    """

    def __init__(self, metrics: Metrics, board: SharedBoard) -> None:
        self._metrics = metrics
        self._board = board

    def brief(self, job: Job) -> None:
        """One job that is to be over in next to no time. Raises watch.Later, the job not settled, if it is not."""
        self._alone(job, brief=True)

    def __call__(self, jobs: list[Job]) -> None:
        request_batching, kind = jobs[0].served.request_batching, jobs[0].kind
        if len(jobs) == 1 or request_batching is None or kind is None:
            self._one_by_one(jobs)
            return
        requests = [job.request for job in jobs]
        record = request_batching.record(kind, requests)
        if record.refused or (
            record.layout is not None and not self._joint(jobs, request_batching, record, record.layout)
        ):
            self._one_by_one(jobs)
        elif record.layout is None:
            self._try(jobs, request_batching, record)

    def _try(self, jobs: list[Job], request_batching: RequestBatching, record: Record) -> None:
        """Both ways; the callers get what their requests gave alone."""
        self._one_by_one(jobs)
        requests, alone = [job.request for job in jobs], [job.answer for job in jobs]
        if not all(isinstance(answer, Explanation) for answer in alone):
            return
        whole, _ = self._run(jobs[0], lambda: request_batching.merged(requests), jobs[0].deadline)
        if isinstance(whole, Explanation):
            request_batching.learn(record, requests, alone, whole)
        else:
            request_batching.count(record, won=False)

    def _one_by_one(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._alone(job)
            job.finish()  # nobody waits for what is left to do, but the thread that does it

    def _alone(self, job: Job, *, brief: bool = False) -> None:
        request = job.request
        began = time.perf_counter()
        came, job.parts = self._run(job, lambda: request, job.deadline, brief=brief)
        job.company = 1
        if isinstance(came, BaseException):
            job.error = came
        else:
            job.answer = came
            job.served.latency.saw(request.method, job.units, time.perf_counter() - began)

    def _joint(self, jobs: list[Job], request_batching: RequestBatching, record: Record, layout: BatchedInputs) -> bool:
        """Whether one run has answered all of them."""
        requests = [job.request for job in jobs]
        whole, parts = self._run(jobs[0], lambda: request_batching.merged(requests), lambda: check_callers_wait(jobs))
        if isinstance(whole, Exception) and all(job.deadline.over("") for job in jobs):
            for job in jobs:
                job.error = job.deadline.over("during the work") or whole
            return True
        if not isinstance(whole, Explanation):
            return False
        request_batching.count(record, won=True)
        for job, answer in zip(jobs, request_batching.parted(whole, requests, layout), strict=True):
            job.answer, job.parts, job.company = answer, parts, len(jobs)
        self._metrics.request_batching.observe(len(jobs))
        return True

    def _run(
        self, job: Job, request: Callable[[], BatchableRequest], check: Callable[[], None], *, brief: bool = False
    ) -> tuple[Any, dict[str, Timing]]:
        """What the engine says, or the error, and where its time went. Stops between its steps where `check` raises.

        job: the first of those that are answered. Raises watch.Later if the work is not as `brief` as it should be.
        """
        served, name, began, later = job.served, PREDICTION, time.perf_counter(), False
        watch = CancelScope(
            check,
            about=job.about,
            brief=brief,
            most_bytes=job.most_bytes,
            most_samples=job.most_samples,
            compiled=job.deadline.extend,
        )
        place = self._board.begin(served.mark)
        try:
            wanted = request()
            name = PREDICTION if wanted.method is None else wanted.method.name
            with cancel_scope(watch):
                if wanted.method is None:
                    with FORWARD:
                        answer: Any = served.model.predict(wanted.inputs)
                else:
                    answer = served.model.explain(wanted.inputs, wanted.method, wanted.target, wanted.capture)
            return answer, watch.parts
        except Deferred:
            later = True
            raise
        except Cancelled as stopped:
            drop_tracebacks(stopped)
            return stopped.cause, watch.parts
        except Error as error:  # raised in the thread of whoever asked
            drop_tracebacks(error)  # the engine's arrays must not wait for that
            return error, watch.parts
        except Exception as error:  # logged there, too
            return error, watch.parts
        finally:
            self._board.end(place)
            if not later:
                self._metrics.engine[served.name, name].observe(time.perf_counter() - began)
                for kind, done in watch.parts.items():
                    self._metrics.parts[kind].observe(done.seconds)
