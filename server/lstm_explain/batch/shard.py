# SPDX-License-Identifier: Apache-2.0
"""Explains one shard into one file of rows, in this process or in a worker of a cluster."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_explain.batch.cells import Unusable
from lstm_explain.batch.explain import RowResult
from lstm_explain.batch.feed import Feed, Row
from lstm_explain.batch.job import ERRORS, ROWS, STATISTICS, Job
from lstm_explain.batch.source import DataFile, open_data
from lstm_explain.batch.stats import Stats, add_row
from lstm_explain.batch.table import Key, format_of
from lstm_explain.durable_files import atomically
from lstm_explain.errors import InputError
from lstm_explain.repository.served_model import ServedModel

WINDOW_ROWS, WINDOW_BYTES = 2048, 32 << 20  # inputs in memory at a time, which are batched by length
METADATA_KEY = b"lstm_explain"  # key of our metadata in the file


@dataclass(frozen=True)
class ShardResult:
    """A finished shard.

    rows: explained rows. worst: the largest residual as a share of the explained value. warned: rows with a warning.
    quantity: what is explained of the target's output, see Explanation; empty without rows. memory: peak memory of the
    process so far, in bytes. before: an earlier run did it. left_out: rows that a condition left
    unexplained for every target.
    """

    shard: int
    rows: int
    failed: int
    worst: float
    worst_at: str
    seconds: float
    memory: int = 0
    before: bool = False
    warned: int = 0
    quantity: str = ""
    left_out: int = 0


@dataclass
class _Tally:
    """What is added up over a shard."""

    stats: Stats = field(default_factory=Stats)
    failures: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    failed: int = 0
    worst: float = 0.0
    worst_at: str = ""
    warned: int = 0
    quantity: str = ""
    left_out: int = 0


class Worker:
    """Holds the model in memory and explains shards. Raises what `Job.load` raises."""

    def __init__(self, job: Job, served: ServedModel | None = None) -> None:
        self._job = job
        self._served = served or job.load()

    def run(self, number: int) -> ShardResult:
        """Explains the shard unless an earlier run has done so. Raises OSError, and Error where no row at all can be
        explained.
        """
        done = finished(self._job, number)
        if done is not None:
            return done
        began = time.perf_counter()
        job, tally = self._job, _Tally()
        errors = job.part(ERRORS, number)
        with atomically(job.part(ROWS, number)) as rows:
            writer = self._write(number, rows, tally)
            with atomically(job.part(STATISTICS, number)) as statistics:
                pq.write_table(tally.stats.table(), statistics)
            if tally.failures:
                with atomically(errors) as temporary:
                    pq.write_table(pa.concat_tables(tally.failures), temporary)
            else:
                errors.unlink(missing_ok=True)  # left by an attempt that was killed just before its end
            seconds = time.perf_counter() - began
            done = ShardResult(
                number,
                tally.rows,
                tally.failed,
                tally.worst,
                tally.worst_at,
                seconds,
                peak_memory(),
                warned=tally.warned,
                quantity=tally.quantity,
                left_out=tally.left_out,
            )
            writer.add_key_value_metadata({METADATA_KEY: json.dumps(asdict(done)).encode()})
            writer.close()
        return done

    def _write(self, number: int, path: Path, tally: _Tally) -> pq.ParquetWriter:
        job = self._job
        file, start, stop = job.shards[number]
        data = open_data(job.data[file])
        explainer = job.explainer(self._served, data.columns)
        table_format = format_of(explainer, None if job.key is None else data.type_of(job.key))
        writer = pq.ParquetWriter(
            path,
            table_format.answers,
            compression="zstd",
            compression_level=1,
            use_dictionary=["file"],
            write_statistics=False,
        )
        for at, values, rows in windows(data, explainer.feed, job.key, start, stop):
            key = Key(job.names[file], range(at, at + len(rows)), values)
            found = explainer.explain(rows)
            good = {i: answer for i, answer in enumerate(found) if isinstance(answer, RowResult)}
            bad = {i: answer for i, answer in enumerate(found) if isinstance(answer, Unusable)}
            writer.write_table(table_format.answer_table(key, list(good), [rows[i] for i in good], list(good.values())))
            if bad:
                tally.failures.append(table_format.failure_table(key, list(bad), list(bad.values())))
            tally.rows, tally.failed = tally.rows + len(good), tally.failed + len(bad)
            for i, answer in good.items():
                tally.warned += any(one.warning for one in answer.each)
                tally.left_out += all(one.not_explained for one in answer.each)
                for one in (one for one in answer.each if not one.not_explained):
                    add_row(tally.stats, explainer.feed, one.relevance.items())
                    tally.stats.add_explained(one.explained)
                    tally.quantity = one.quantity
                    if one.residual_share > tally.worst:
                        tally.worst, tally.worst_at = one.residual_share, f"{key.file}:{key.rows[i]}"
        return writer


def windows(
    data: DataFile, feed: Feed, key: str | None, start: int, stop: int
) -> Iterator[tuple[int, pa.Array | None, list[Row]]]:
    """Yields the rows of a range, in windows: the number of the first row, the keys, and the rows."""
    columns = list(dict.fromkeys([*feed.columns.values(), *([] if key is None else [key])]))
    rows: list[Row] = []
    keys: list[pa.Array] = []
    size = 0
    for chunk in data.read(start, stop, columns):
        more = feed.rows(chunk)
        size += sum(array.nbytes for row in more for array in row.inputs.values())
        rows += more
        if key is not None:
            keys.append(pa.array(chunk[key]))
        if len(rows) >= WINDOW_ROWS or size >= WINDOW_BYTES:
            yield start, pa.concat_arrays(keys) if keys else None, rows
            start, rows, keys, size = start + len(rows), [], [], 0
    if rows:
        yield start, pa.concat_arrays(keys) if keys else None, rows


def finished(job: Job, number: int) -> ShardResult | None:
    """Returns the result of a shard that an earlier run finished; None if there is none. Raises InputError."""
    path = job.part(ROWS, number)
    if not path.exists():
        return None
    try:
        written = pq.read_metadata(path).metadata[METADATA_KEY]
        return ShardResult(**{**json.loads(written), "before": True})
    except (pa.ArrowInvalid, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not an output file of a job: {error}", field="output") from error


def peak_memory() -> int:
    """Returns the peak memory of this process, in bytes. getrusage would include the memory of the parent before
    the fork.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
