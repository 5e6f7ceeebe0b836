# SPDX-License-Identifier: Apache-2.0
"""Distributes shards over Ray Data: a pool of actors, each with the model in memory and one core.

Ray does not retry a task that dies with its worker: it would wait for that worker to return, possibly forever if no
core is left for it. Such a task is dropped, and the remaining workers do it in the next round.
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
from lstm_explain.batch.shard import ShardResult, Worker
from lstm_explain.errors import Error
from lstm_explain.kernels import cache

ATTEMPTS = 3  # rounds without a finished shard, after which the job is given up
ONE_THREAD = ("LSTM_EXPLAIN_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PASSED_ON = ("LSTM_EXPLAIN_", "NUMBA_")
OBJECT_STORE = 100 << 20  # bytes; rows never pass through it


def run(job: Job, shards: Sequence[int], workers: int | None, address: str | None) -> Generator[ShardResult]:
    """Explains the shards. workers: None for one per core. address: of a cluster; None for a local one of our own.

    Raises Error, in particular where workers die at every attempt.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Otherwise Ray warns about how it starts actors itself.
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
                rows = f"rows {first.start} to {first.stop} of {job.names[first.file]}"
                problem = f"workers die on {len(left)} shards, the first of which is {rows}"
                raise Error(f"{problem}: is there too little memory? See Ray's log")
    finally:
        ray.shutdown()


def _connect(address: str | None, workers: int | None) -> None:
    import ray

    own = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    local_options: dict[str, Any] = {
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
    }
    ray.init(
        address=address or "local",
        runtime_env={"env_vars": {**own, **dict.fromkeys(ONE_THREAD, "1")}},
        logging_level=logging.ERROR,
        log_to_driver=False,
        **({} if address else local_options),
    )


def _round(job: Job, shards: Sequence[int], workers: int) -> Iterator[ShardResult]:
    """Runs every shard once; shards whose worker dies are missing from the result."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # We report these errors ourselves.
    data = ray.data.from_items([{"shard": number} for number in shards], override_num_blocks=len(shards))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the spelling of the last two arguments in Ray 2.64
        rows = data.map_batches(
            _Actor,
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            fn_constructor_kwargs={"job": job},
            max_restarts=-1,
            max_task_retries=0,
        )
    for row in rows.iter_rows():
        if row["error"]:
            raise Error(row["error"])
        yield ShardResult(**json.loads(row["done"]))


class _Actor:
    """Runs shards in a worker. An error of the job is returned as a row: an exception would count as the worker's
    death.
    """

    def __init__(self, job: Job) -> None:
        cache.use(wait=True)
        self._job = job
        self._worker: Worker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        try:
            self._worker = self._worker or Worker(self._job)
            return {"done": [json.dumps(asdict(self._worker.run(int(batch["shard"][0]))))], "error": [""]}
        except (Error, OSError) as error:
            return {"done": [""], "error": [str(error)]}
