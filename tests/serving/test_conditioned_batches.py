# SPDX-License-Identifier: Apache-2.0
"""Batch jobs over the wire with conditions on predictions, groups of entries, and chosen units."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_client import Client, ExplainError, InvalidRequest
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, operation_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import operation_pb2 as pb
from tests.batch.data import pq, weather, write
from tests.serving.calling import refusal
from tests.serving.running import Running, serving

ROWS = weather(12, longest=10)
LRP = lx.LRP(epsilon=1e-3)
METHOD: dict[str, Any] = {"method": "lrp", "parameters": {"epsilon": 1e-3}}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = tmp_path_factory.mktemp("files")
    write(files / "rows.parquet", ROWS)
    return files


@pytest.fixture(scope="module")
def server(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    kept = tmp_path_factory.mktemp("operations")
    with serving(Path("models"), "--operations-folder", str(kept), "--batch-folder", str(files)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def test_groups_and_units_of_a_job(client: Client, files: Path) -> None:
    through = {"final_states": [3, 5, 60], "lstm.cell": [3, 60]}
    job = client.start_batch("discharge", "rows.parquet", "both", groups="window=4", through=through, **METHOD)
    job.result(timeout=600)
    model = lx.load("models/discharge")
    for row, x in zip(pq.read_table(files / "both" / "rows").to_pylist(), ROWS, strict=True):
        alone = model.explain({"weather": x[None]}, LRP, through=through).relevance["weather"][0]
        np.testing.assert_allclose(row["relevance/weather"], alone, atol=1e-6 * np.abs(alone).max())
        sums = np.add.reduceat(alone.astype(np.float64).sum(axis=1), range(0, len(x), 4))
        np.testing.assert_allclose(row["groups/weather/relevance"], sums, atol=1e-6)


def test_a_condition_of_a_job(client: Client, files: Path) -> None:
    model = lx.load("models/discharge")
    predicted = [float(model.explain({"weather": x[None]}, LRP).explained[0]) for x in ROWS]
    limit = float(np.median(predicted))
    client.start_batch("discharge", "rows.parquet", "some", condition=f"explained > {limit}", **METHOD).result(
        timeout=600
    )
    reasons = pq.read_table(files / "some" / "rows")["not_explained"].to_pylist()
    assert [reason is None for reason in reasons] == [value > limit for value in predicted]


@pytest.mark.parametrize(
    ("fields", "field", "problem"),
    [
        ({"condition": "sometimes"}, "condition", "condition is 'sometimes', expected"),
        ({"groups": "days"}, "groups", "'days' is none of window=24"),
        ({"groups": "window=3", "condition": "explained > 0"}, "groups", "groups and a condition exclude each other"),
        ({"through": [("lstm.cell", [])]}, "through", "the units of 'lstm.cell' are .*, expected whole numbers"),
        ({"through": [("lstm.cell", [1]), ("lstm.cell", [2])]}, "through[1].value", "'lstm.cell' occurs twice"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(
    server: Running, files: Path, fields: dict[str, Any], field: str, problem: str
) -> None:
    given = fields.pop("through", ())
    through = [explanation_pb2.Through(value=value, units=units) for value, units in given]
    request = pb.StartBatchRequest(model="discharge", input="rows.parquet", output="no", through=through, **fields)
    with server.channel() as channel, pytest.raises(grpc.RpcError, match=problem) as refused:
        operation_pb2_grpc.OperationServiceStub(channel).StartBatch(request)
    found = refusal(refused.value)
    assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert not (files / "no").exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"groups": "features.wet=rain"}, "has no feature 'rain', expected prcp, srad, tmax, tmin, vp"),
        ({"through": {"nowhere": [1]}}, "no value 'nowhere' that depends on an input; expected .*'lstm.cell'"),
        ({"through": {"lstm.cell": [64]}}, "'lstm.cell' has the units 0 to 63, not 64"),
    ],
)
def test_what_the_model_does_not_have_fails_before_the_job_starts(
    client: Client, files: Path, fields: dict[str, Any], problem: str
) -> None:
    job = client.start_batch("discharge", "rows.parquet", "none", **METHOD, **fields)
    with pytest.raises(ExplainError, match=problem) as failed:
        job.result(timeout=600)
    assert failed.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert not (files / "none").exists()


def test_the_client_takes_groups_as_text(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="expected text such as 'window=24"):
        client.start_batch("discharge", "rows.parquet", "x", groups={"window": 3})
