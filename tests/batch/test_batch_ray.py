# SPDX-License-Identifier: Apache-2.0
"""`lstm-explain batch` on Ray: rows equal those of the service, and the loss of nodes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_explain_client import Client
from tests.batch.data import DISCHARGE, batch, check_rows, check_same, pa, pq, results, weather, write
from tests.batch.test_batch_resume import parts
from tests.serving.running import command, serving

pytest.importorskip("ray", reason="needs the extra [ray]")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Three nodes with a core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    try:
        for _ in range(2):
            add_node(cluster, size)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any, size: dict[str, int]) -> None:
    """Ray gives a node 30 seconds to start, which may not suffice beside other work."""
    for attempts_left in (2, 1, 0):
        try:
            cluster.add_node(**size)
            return
        except Exception:  # Ray raises no class of its own
            if not attempts_left:
                raise


def test_losing_a_node_loses_no_row(tmp_path: Path, cluster: Any) -> None:
    rows = {f"{name}.parquet": weather(1500, longest=80, seed=i) for i, name in enumerate("ab")}
    (tmp_path / "data").mkdir()
    for name, of_file in rows.items():
        write(tmp_path / "data" / name, of_file, group=40)
    output = tmp_path / "out"
    flags = ("--model", DISCHARGE, "--input", tmp_path / "data", "--output", output, "--shard-rows", 40)
    job = command("batch", *map(str, (*flags, "--address", cluster.address, "--method", "lrp")))
    process = subprocess.Popen(job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 120
    while len(parts(output)) < 10 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0]
    cluster.remove_node(sorted(cluster.worker_nodes, key=id)[0], allow_graceful=False)
    at_work = len(parts(output))
    reported, _ = process.communicate(timeout=120)
    assert process.returncode == 0, reported
    assert at_work < len(parts(output)) == 76
    check_rows(output, rows)


def test_relevance_equals_the_services(tmp_path: Path) -> None:
    """The same model folder and text; rows of both lengths, some of which need float64."""
    rng = np.random.default_rng(5)
    words = ["the", "a", "film", "is", "not", "very", "great", "bad", "with", "and", "of", "heart", "plot", "acting"]
    texts = [" ".join(rng.choice(words, rng.integers(1, 60))) for _ in range(60)]
    pq.write_table(pa.table({"tokens": texts}), tmp_path / "in.parquet")
    arguments = ("--model", "models/sentiment", "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    done = batch(*arguments, "--workers", 2, "--shard-rows", 20)
    assert done.returncode == 0, done.stderr
    assert len(parts(tmp_path / "out")) == 3
    found = results(tmp_path / "out").to_pylist()
    with serving(Path("models")) as running, Client(running.address) as client:
        for row in found:
            explanation = client.explain("sentiment", {"tokens": [texts[row["row"]]]})
            check_same(np.array(row["relevance/tokens"]), explanation.relevance["tokens"][0])
            check_same(np.array(row["output/logits"]), explanation.outputs["logits"][0])
            assert row["explained"] == pytest.approx(float(explanation.explained[0]), rel=1e-6)
            assert row["ledger/absorbed"] == pytest.approx(float(explanation.ledger.absorbed[0]), rel=1e-5, abs=1e-6)
    assert len(found) == 60
