"""Shards on Ray Data: a pool of actors, each with the model in memory and one core.

A task that dies with its worker is not tried again by Ray, which would wait for that very worker to come back, for ever
where no core is left for it. It is counted out, and done in the next round by those that are there.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from lstm_explain.batch.job import Job
from lstm_explain.batch.shard import Done, Worker
from lstm_explain.errors import Error
from lstm_explain.kernels import cache

ATTEMPTS = 3  # rounds without a single shard done, before it is taken for hopeless
ONE_THREAD = ("LSTM_EXPLAIN_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PASSED_ON = ("LSTM_EXPLAIN_", "NUMBA_")
OBJECT_STORE = 100 << 20  # bytes; rows never go through it


def run(job: Job, shards: Sequence[int], workers: int | None, address: str | None) -> Generator[Done]:
    """workers: None for as many as there are cores. address: of a cluster; None for one of our own, in this machine.

    Raises Error, also where workers die at every attempt.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it warns of its own way to start actors
    import ray

    _connect(address, workers)
    try:
        left, attempts = dict.fromkeys(shards), 0
        while left:
            before = len(left)
            cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
            for done in _round(job, list(left), min(workers or cores, cores, len(left))):
                left.pop(done.shard, None)
                yield done
            attempts = attempts + 1 if len(left) == before else 0
            if attempts == ATTEMPTS:
                first = job.shards[next(iter(left))]
                told = (
                    f"{len(left)} shards, the first being rows {first.start} to {first.stop} of {job.names[first.file]}"
                )
                raise Error(f"workers die of {told}: is there too little memory? Ray's log has more")
    finally:
        ray.shutdown()


def _connect(address: str | None, workers: int | None) -> None:
    import ray

    own = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    alone: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    ray.init(
        address=address or "local",
        runtime_env={"env_vars": {**own, **dict.fromkeys(ONE_THREAD, "1")}},
        logging_level=logging.ERROR,
        log_to_driver=False,
        **({} if address else alone),
    )


def _round(job: Job, shards: Sequence[int], workers: int) -> Iterator[Done]:
    """Every shard once; those whose worker dies do not come back."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it tells of errors that we tell of
    data = ray.data.from_items([{"shard": number} for number in shards], override_num_blocks=len(shards))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how Ray 2.64 will spell the last two
        made = data.map_batches(
            _Actor,
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            fn_constructor_kwargs={"job": job},
            max_restarts=-1,
            max_task_retries=0,
        )
    for row in made.iter_rows():
        if row["error"]:
            raise Error(row["error"])
        yield Done(**json.loads(row["done"]))


class _Actor:
    """What is wrong with the job comes back as a row: an exception would be taken for a worker's death."""

    def __init__(self, job: Job) -> None:
        cache.use()
        self._job = job
        self._worker: Worker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        try:
            self._worker = self._worker or Worker(self._job)
            return {"done": [json.dumps(asdict(self._worker.run(int(batch["shard"][0]))))], "error": [""]}
        except (Error, OSError) as error:
            return {"done": [""], "error": [str(error)]}
