# SPDX-License-Identifier: Apache-2.0
"""Forms batches: requests with the same batch key that wait for a slot share one run of the engine.

The first request with a key is the leader: its thread waits for the slot, and later requests with the same key follow
it. So no request waits for others while a slot is free, unless the model's owner allows a delay.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from lstm_explain.cancellation import Cancelled, Timing
from lstm_explain.errors import Error
from lstm_explain.progress import Report
from lstm_explain.repository.batching import BatchKey
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.audit.note import RequestNote
from lstm_explain.serving.errors import TooLate
from lstm_explain.serving.scheduling.admission import AT_WORK, WAITING, CallDeadline, PendingCall, Slots
from lstm_explain.serving.security.permits import Permit


@dataclass(frozen=True)
class BatchCapacity:
    """The most that one batch may hold: samples, and each kind of cost. delay: seconds to wait for others."""

    samples: int
    costs: tuple[float, ...] = ()
    delay: float = 0.0


@dataclass(frozen=True)
class RequestLoad:
    """The size of a request. costs: those of one sample, in the order of BatchCapacity's."""

    samples: int
    costs: tuple[float, ...] = ()


ALONE = BatchCapacity(1), RequestLoad(1)


class Job:
    """One request on its way, and its answer. Once the job is done, its own thread reads `answer` or raises `error`.

    note: for the audit log. progress: receives the progress of the run. request, capacity, load: set once the message
    has been read. key: jobs with equal keys may run together; None: it runs alone. asked, began: time.time_ns().
    answer: an Explanation, a list of them for a request with several targets, or the outputs of a prediction. parts:
    the phases of the run that answered it. company: the number of requests in that run. units: units of work, see
    Limits.check. short: whether it takes very little time. heavy: whether it takes much memory. most_bytes: the most
    that a loop may save. most_samples: the most samples on which the model may be run. most_targets: the most targets.
    receipt: of the answer, where the request asks for one.
    """

    request: ModelRequest

    def __init__(
        self,
        served: ServedModel,
        call: PendingCall,
        note: RequestNote,
        most_seconds: float | None = None,
        progress: Report | None = None,
    ) -> None:
        self.served, self._call, self.note, self.progress = served, call, note, progress
        self.is_read = False
        self.key: BatchKey | None = None
        self.capacity, self.load = ALONE
        self.deadline = CallDeadline(call, most_seconds)
        self.asked, self.began = time.time_ns(), 0
        self.parts: dict[str, Timing] = {}
        self.company, self.units, self.short, self.heavy = 1, 1, False, False
        self.most_bytes: int | None = None
        self.most_samples: int | None = None
        self.most_targets: int | None = None
        self.answer: Any = None
        self.receipt = ""
        self.error: BaseException | None = None
        self._done: threading.Lock | None = None

    @property
    def permit(self) -> Permit:
        """What the caller may do."""
        return self._call.permit

    @property
    def settled(self) -> bool:
        return self.answer is not None or self.error is not None

    @property
    def request_id(self) -> str:
        return self._call.origin.request_id

    def about(self) -> str:
        """For the log."""
        named = f" of request {self.request_id}" if self.request_id else ""
        return f"the work{named} on model {self.served.name} version {self.served.version}"

    def begin(self) -> None:
        """Begins the work if somebody still waits for it; otherwise sets `error`."""
        self.deadline.begin()
        self.began, self.error = time.time_ns(), self.deadline.over(WAITING)

    def follow(self) -> None:
        """Leaves the work to another thread. Call it before that thread can begin."""
        self._done = threading.Lock()
        self._done.acquire()

    def finish(self) -> None:
        """Wakes the thread that waits for the job. The thread that does the work calls it, once or more often."""
        if self._done is not None and self._done.locked():
            self._done.release()

    def wait(self) -> None:
        """Waits until another thread has answered a job that follows. Raises TooLate."""
        assert self._done is not None
        left = self.deadline.left()
        if not self._done.acquire(timeout=-1 if left is None else left):
            raise TooLate(f"the deadline passed {AT_WORK if self.began else WAITING}")


@dataclass(eq=False)
class Group:
    """Jobs that will run together, the leader first."""

    capacity: BatchCapacity
    jobs: list[Job] = field(default_factory=list)
    samples: int = 0
    costs: tuple[float, ...] = ()
    full: threading.Event = field(default_factory=threading.Event)

    def add(self, job: Job) -> None:
        self.jobs.append(job)
        self.samples += job.load.samples
        self.costs = self._costliest(job.load)
        if self.samples >= self.capacity.samples:
            self.full.set()

    def takes(self, load: RequestLoad) -> bool:
        """Returns whether there is room. Each sample counts as the costliest: short sequences take memory like the
        longest.
        """
        samples = self.samples + load.samples
        costs = zip(self._costliest(load), self.capacity.costs, strict=True)
        return samples <= self.capacity.samples and all(samples * cost <= most for cost, most in costs)

    def _costliest(self, load: RequestLoad) -> tuple[float, ...]:
        return tuple(map(max, self.costs or load.costs, load.costs))

    def left(self) -> float | None:
        """Returns the seconds until the last caller stops waiting; None if one waits without a deadline."""
        each = [job.deadline.left() for job in self.jobs]
        return None if None in each else max((s for s in each if s is not None), default=0.0)


def check_callers_wait(jobs: Iterable[Job]) -> None:
    """The checkpoint of a batch, which goes on while at least one caller waits for it. Raises Cancelled."""
    over: Error | None = None
    for job in jobs:
        over = job.deadline.over(AT_WORK)
        if over is None:
            return
    if over is not None:
        raise Cancelled(over)


class Runs(Protocol):
    """Answers several jobs of one batch key."""

    def together(self, jobs: list[Job]) -> None: ...


@contextmanager
def slot_for(job: Job, slots: Slots) -> Iterator[bool]:
    """A context in which the job has begun and holds one of the slots. It gives whether the job is to be run: otherwise
    its `error` says why not.
    """
    taken = slots.acquire(job.deadline.left())
    try:
        job.begin()
        if not taken:
            job.error = job.error or TooLate(f"the deadline passed {WAITING}")
        yield job.error is None
    finally:
        if taken:
            slots.release()


class Batcher:
    """runs: the object that answers jobs."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._lock = threading.Lock()
        self._open: dict[Hashable, Group] = {}

    def do(self, job: Job, slots: Slots) -> None:
        """Returns when the job, which has a key, has an answer or an error. Raises TooLate. slots: the semaphore from
        which the run takes a slot, if this job leads it.
        """
        key = (id(job.served), job.key)
        group = self._join(job, key)
        if group.jobs[0] is job:
            self._lead(group, key, slots)
        else:
            job.wait()

    def _join(self, job: Job, key: Hashable) -> Group:
        with self._lock:
            group = self._open.get(key)
            if group is None or not group.takes(job.load):
                group = self._open[key] = Group(job.capacity)
            else:
                job.follow()
            group.add(job)
            return group

    def _lead(self, group: Group, key: Hashable, slots: Slots) -> None:
        if group.capacity.delay:
            left = group.jobs[0].deadline.left()
            group.full.wait(min(group.capacity.delay, math.inf if left is None else left))
        while not (taken := slots.acquire(group.left())) and group.left() != 0.0:
            pass  # a caller with a later deadline has joined meanwhile
        jobs: list[Job] = []
        try:
            jobs = self._close(group, key)
            for job in jobs:
                job.begin()
            waiting = [job for job in jobs if job.error is None]
            if waiting and taken:
                self._runs.together(waiting)
        finally:
            if taken:
                slots.release()
            for job in jobs:
                if not job.settled:
                    job.error = TooLate(f"the deadline passed {WAITING}") if not taken else RuntimeError("not answered")
                job.finish()

    def _close(self, group: Group, key: Hashable) -> list[Job]:
        """Closes the group to further jobs, and returns those in it."""
        with self._lock:
            if self._open.get(key) is group:
                del self._open[key]
            return group.jobs
