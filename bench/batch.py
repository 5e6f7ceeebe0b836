# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.batch rates|memory|parity [--rows N] [--json FILE]`: measures the rates of
`lstm-explain batch` and its memory as the data grows, and compares its numbers with those of the service.

The data are sequences of 20 to 200 days for the bundled discharge model. The reference is a plain loop over the engine,
row by row. Rates of Ray exclude its start, which is reported separately: they count from the first finished shard to
the last.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

import lstm_explain as lx
from bench.__main__ import machine
from lstm_explain.batch.command import JobRequest, cluster, prepare
from lstm_explain.batch.shard import Worker
from lstm_explain_client import Client
from tests.serving.running import serving

MODEL, SHORTEST, LONGEST, FEATURES = Path("models/discharge"), 20, 200, 5
LOOP_ROWS = 5000  # of the plain loop
SHARD_ROWS = 2048  # many shards, so that how the last ones fall counts little


def write(path: Path, rows: int, seed: int = 0) -> None:
    """Write row groups of 10,000 sequences, generated one at a time."""
    rng = np.random.default_rng(seed)
    kind = pa.list_(pa.list_(pa.float32()))
    with pq.ParquetWriter(path, pa.schema([("weather", kind)])) as writer:
        for start in range(0, rows, 10_000):
            lengths = rng.integers(SHORTEST, LONGEST + 1, min(10_000, rows - start))
            steps = int(lengths.sum())
            values = pa.array(rng.standard_normal(steps * FEATURES, np.float32))
            by_step = pa.ListArray.from_arrays(pa.array(np.arange(steps + 1, dtype=np.int32) * FEATURES), values)
            ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            writer.write_table(pa.table({"weather": pa.ListArray.from_arrays(pa.array(ends), by_step)}))


def loop(path: Path) -> float:
    """Return the rows per second of the engine alone, with everything in memory."""
    model = lx.load(MODEL / "1" / "model.onnx")
    table = next(pq.ParquetFile(path).iter_batches(LOOP_ROWS))
    rows = [np.array(row, np.float32)[None] for row in table["weather"].to_pylist()]
    model.explain({"weather": rows[0]})
    began = time.perf_counter()
    for row in rows:
        model.explain({"weather": row})
    return len(rows) / (time.perf_counter() - began)


def job(path: Path, workers: int) -> dict[str, float]:
    """start: seconds until the first shard finished. rate: rows per second after that."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        work, served = prepare(JobRequest(MODEL, path, Path(folder) / "out", shard_rows=SHARD_ROWS))
        shards = list(range(len(work.shards)))
        if workers == 0:
            worker = Worker(work, served)
            ended = ((worker.run(n), time.perf_counter()) for n in shards)
        else:
            ended = ((done, time.perf_counter()) for done in cluster.run(work, shards, workers, None))
        done = list(ended)
    (_, first), *others, (_, last) = done
    rows = sum(d.rows for d, _ in done[1:])
    assert len(others)
    assert sum(d.failed for d, _ in done) == 0
    worst = max(d.worst for d, _ in done)
    return {"start": first - began, "rate": rows / (last - first), "seconds": last - began, "worst": worst}


def memory(path: Path, workers: int) -> int:
    """Return the maximum memory of a worker in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--model", str(MODEL), "--input", str(path), "--output", f"{folder}/out", "--workers", str(workers)]
        flags += ["--shard-rows", "4096"]  # else a small file has small shards, whose windows are not full
        run = [sys.executable, "-m", "lstm_explain.cli", "batch", *flags, "--json"]
        return int(json.loads(subprocess.run(run, check=True, capture_output=True).stdout)["memory"])


def rates(path: Path, rows: int) -> dict[str, Any]:
    write(path, rows)
    found: dict[str, Any] = {"rows": rows, "input_bytes": path.stat().st_size, "loop": loop(path)}
    return {**found, "workers": {str(n): job(path, n) for n in (0, 1, 2)}}


def parity(path: Path, rows: int) -> dict[str, float]:
    """Return the largest difference from the relevance of the service, as a fraction of the row's largest entry."""
    write(path, rows)
    worst, compared = 0.0, 0
    with tempfile.TemporaryDirectory() as folder, serving(MODEL.parent, "--workers", "2") as server:
        out = Path(folder) / "out"
        flags = ["--model", str(MODEL), "--input", str(path), "--output", str(out), "--workers", "0"]
        run = [sys.executable, "-m", "lstm_explain.cli", "batch", *flags, "--json"]
        subprocess.run(run, check=True, capture_output=True)
        given = pq.ParquetFile(path)
        found = pq.read_table(out / "rows", columns=["row", "relevance/weather"]).sort_by("row")
        with Client(server.address) as client:
            start = 0
            for batch in given.iter_batches(10_000):
                inputs = [np.array(row, np.float32)[None] for row in batch["weather"].to_pylist()]
                ours = found["relevance/weather"][start : start + len(inputs)].to_pylist()
                asked = ({"id": str(i), "model": MODEL.name, "inputs": {"weather": x}} for i, x in enumerate(inputs))
                for answer in client.explain_stream(asked):
                    theirs = answer.get().relevance["weather"][0]
                    gap = np.abs(np.array(ours[int(answer.id)], np.float64) - theirs).max() / np.abs(theirs).max()
                    worst, compared = max(worst, float(gap)), compared + 1
                start += len(inputs)
    return {"rows": compared, "worst": worst}


def growth(path: Path, rows: int) -> dict[str, int]:
    """Measure the memory for a tenth of the rows and for all rows."""
    found = {}
    for count in (rows // 10, rows):
        write(path, count)
        found[str(count)] = memory(path, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.batch", description=__doc__)
    parser.add_argument("what", choices=("rates", "memory", "parity"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.parquet"
        found = {"rates": rates, "memory": growth, "parity": parity}[arguments.what](path, arguments.rows)
    figures = {"machine": machine(), arguments.what: found}
    Console().print_json(json.dumps(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
