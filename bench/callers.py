# SPDX-License-Identifier: Apache-2.0
"""Measures what the audit log, quotas and the search for drift cost a small request: `python -m bench --part callers`.

Servers that differ in these settings only run at the same time, and one caller calls them in turn, each round in
another order. The request is a sentence of 16 words under LRP, which takes a millisecond or two.
"""

from __future__ import annotations

import random
import shutil
import socket
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console

from bench.load import OWN_CONNECTION
from bench.service import EXPLAIN, ROOT, works
from lstm_explain.repository.drift_reference import files_digest, reference_of, reference_text
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.relevance_shares import shares
from lstm_explain.repository.served_model import load_served
from scripts.soak import server

TOKEN = "bench-0123456789abcdef"
SAMPLES = 'lstm_explain_relevance_drift_samples_total{model="sentiment",version="1"}'
QUOTAS = "quota: {requests_per_minute: 1000000000, cost_per_minute: 1000000000}"
ENTRY = f"tokens:\n  - {{name: bench, token: {TOKEN}, roles: [explain], models: [sentiment], {QUOTAS}}}\n"
WARM_UP = 300  # calls
TARGET = 1  # of the request
WORDS = ["not", "a", "bad", "film", "the", "plot", "is", "thin", "funny", "suspenseful", "well", "drawn", "and"]


def run(console: Console, *, quick: bool) -> list[dict[str, Any]]:
    message, rounds = works()[0].explain()[0], 500 if quick else 3000
    with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        (folder / "quotas.yaml").write_text(ENTRY)
        (folder / "tokens").write_text(f"{TOKEN} explain bench\n")
        audit, quotas = ["--audit", str(folder / "audit")], ["--tokens", str(folder / "quotas.yaml")]
        tokens = ["--tokens", str(folder / "tokens")]
        flags = {"tokens": tokens, "and an audit log": tokens + audit, "and quotas": quotas, "and both": quotas + audit}
        flags = {name: [*words, "--drift-share", "0"] for name, words in flags.items()} | {"and drift": tokens}
        with socket.create_server(("127.0.0.1", 0)) as free:
            metrics = f"127.0.0.1:{free.getsockname()[1]}"
        flags["and drift"] = [*tokens, "--metrics-listen", metrics]
        models = folder / "models"
        _write_models(models)
        calls: dict[str, Any] = {}
        for name, words in flags.items():
            _, address = stack.enter_context(server(folder, ["--models", str(models), "--no-spare", *words]))
            channel = stack.enter_context(grpc.insecure_channel(address, options=OWN_CONNECTION))
            calls[name] = channel.unary_unary(EXPLAIN)
        metadata = (("authorization", f"Bearer {TOKEN}"),)
        order, times = list(flags), np.zeros((rounds, len(flags)))
        for at in range(-WARM_UP, rounds):
            random.shuffle(order)
            for name in order:
                start = time.perf_counter()
                calls[name](message, metadata=metadata)
                times[max(at, 0), list(flags).index(name)] = time.perf_counter() - start
        lines = len((folder / "audit").read_text().splitlines())
        read = urllib.request.urlopen(f"http://{metrics}/metrics", timeout=20).read().decode()
        assert f"{SAMPLES} {float(WARM_UP + rounds)}" in read, "not every answer was compared with the reference"
        assert lines == 2 * (WARM_UP + rounds), f"{lines} lines in the audit log"
    rows = []
    for i, name in enumerate(flags):
        # The machine may be busy with other work: the fastest tenth shows the work itself, the median what callers see.
        fast, median = np.percentile(times[:, i], [10, 50]) * 1e3
        row = {"server": name, "p10_ms": fast, "p50_ms": median}
        rows.append(row)
        least, usual = (row[key] / rows[0][key] for key in ("p10_ms", "p50_ms"))
        console.print(
            f"{name}: fastest tenth {fast:.3f} ms ({least:.3f} of tokens alone), median {median:.3f} ms ({usual:.3f})"
        )
    return rows


def _write_models(models: Path) -> None:
    """Copies the model, and gives it a reference."""
    shutil.copytree(ROOT / "models" / "sentiment", models / "sentiment")
    served = load_served(find_model(models / "sentiment"))
    method, target = served.default_method, replace(served.default_target, index=TARGET)
    texts = np.array([" ".join(random.choices(WORDS, k=16)) for _ in range(200)], dtype=object)
    relevance = served.model.explain({"tokens": texts}, method, target).relevance["tokens"]
    files = files_digest(served.card.file_digests)
    found = (shares({"tokens": row}, {"tokens": 0}) for row in relevance)
    reference = reference_of(found, files, method, target, served.model.default_output)
    (models / "sentiment" / "1" / "drift.json").write_text(reference_text(reference))
