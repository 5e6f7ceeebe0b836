# SPDX-License-Identifier: Apache-2.0
"""Operations over the wire: what they answer, who sees them, what they cost, and what the end of a process does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lstm_explain_client import (
    AlreadyExists,
    AsyncClient,
    Cancelled,
    Client,
    ExplainError,
    InvalidRequest,
    Operation,
    OperationNotFound,
    Overloaded,
    Result,
    ServerFault,
    ShapleySampling,
)
from tests.serving.calling import sequence
from tests.serving.models import fill
from tests.serving.running import Running, command, serving

LIMIT = 5000  # samples of a request
LONG = ShapleySampling(permutations=10_000, seed=1, exact_players=0)
ADA, BOB, EVE = "ada-0123456789abcdef", "bob-0123456789abcdef", "eve-0123456789abcdef"
X = sequence(batch=1, time=6)
ENDLESS = sequence(batch=8, time=400)  # with LONG, this takes many times longer than any test
TOKENS = f"""
tokens:
  - {{name: ada, token: {ADA}, roles: [explain]}}
  - {{name: bob, token: {BOB}, roles: [explain]}}
  - {{name: eve, token: {EVE}, roles: [explain], quota: {{requests_per_minute: 2, cost_per_minute: 1}}}}
"""


@dataclass(frozen=True)
class Keeping:
    server: Running
    folder: Path

    def client(self, token: str = ADA) -> Client:
        return Client(self.server.address, token=token)

    def entry(self, operation: Operation) -> Path:
        return self.folder / operation.name.removeprefix("operations/")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    fill(folder)
    return folder


@pytest.fixture(scope="module")
def keeping(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    """A server that keeps operations, for callers with tokens."""
    folder = tmp_path_factory.mktemp("kept")
    tokens = folder / "tokens.yaml"
    tokens.write_text(TOKENS)
    own, audit = folder / "operations", folder / "audit.log"
    flags = ("--tokens", str(tokens), "--operations-folder", str(own), "--max-samples", str(LIMIT))
    with serving(models, *flags, "--audit", str(audit)) as server:
        yield Keeping(server, own)


def until(condition: Callable[[], Any], seconds: float = 600.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "this does not happen"
        time.sleep(0.02)
    return found


def runs(operation: Operation) -> Callable[[], bool]:
    return lambda: operation.refresh().progress is not None and operation.state == "running"


def same_bits(one: Result, other: Result) -> bool:
    parts = [(one.relevance, other.relevance), (one.outputs, other.outputs), (one.standard_error, other.standard_error)]
    arrays = [(a[name], b[name]) for a, b in parts for name in (*a, *b)]
    return all(a.tobytes() == b.tobytes() for a, b in [*arrays, (one.explained, other.explained)])


def test_an_operation_answers_what_the_call_answers(keeping: Keeping) -> None:
    with keeping.client() as client:
        method = ShapleySampling(permutations=30, seed=3)
        started = client.start("lstm", {"x": X}, method=method, target=1)
        result = started.result(timeout=600)
        assert isinstance(result, Result)
        assert same_bits(result, client.explain("lstm", {"x": X}, method=method, target=1))
        assert (started.state, started.attempts, started.model, started.version) == ("succeeded", 1, "lstm", "2")
        assert started.ended is not None
        assert started.expires is not None
        assert (started.expires - started.ended).total_seconds() == pytest.approx(86400, abs=1)

        several = client.start("lstm", {"x": X}, targets="every class").result(timeout=600)
        assert len(several) == 3
        alone = client.explain_many("lstm", {"x": X}, targets="every class")
        assert all(same_bits(a, b) for a, b in zip(several, alone, strict=True))

        listed = client.operations()
        assert started.name in {one.name for one in listed}
        kept = client.operation(started.name).result()
        assert isinstance(kept, Result)
        assert same_bits(kept, result)
        started.delete()
        with pytest.raises(OperationNotFound):
            started.refresh()


def test_a_call_that_costs_too_much_says_that_an_operation_would_do(keeping: Keeping) -> None:
    with keeping.client() as client:
        with pytest.raises(InvalidRequest, match="StartExplain computes it as an operation"):
            client.explain("lstm", {"x": X}, method=LONG)
        too_long = {"x": np.repeat(ENDLESS, 4, axis=0)}
        with pytest.raises(InvalidRequest) as refused:
            client.explain("lstm", too_long, method=LONG)
        assert "StartExplain" not in str(refused.value)
        with pytest.raises(InvalidRequest, match="128000000 samples, at most 100000000"):
            client.start("lstm", too_long, method=LONG)
        client.start("lstm", {"x": X}, method=LONG).cancel()


@pytest.mark.parametrize(
    ("arguments", "code", "field"),
    [
        ({"model": "nobody"}, grpc.StatusCode.NOT_FOUND, ""),
        ({"inputs": {"x": X[0]}}, grpc.StatusCode.INVALID_ARGUMENT, "request.inputs[0].shape"),
        (
            {"method": ShapleySampling(permutations=20_000)},
            grpc.StatusCode.INVALID_ARGUMENT,
            "request.method.shapley_sampling.permutations",
        ),
        ({"request_id": "i" * 129}, grpc.StatusCode.INVALID_ARGUMENT, "request_id"),
    ],
)
def test_what_can_be_refused_at_the_start_is(
    keeping: Keeping, arguments: dict[str, Any], code: grpc.StatusCode, field: str
) -> None:
    with keeping.client(BOB) as client:
        asked = {"model": "lstm", "inputs": {"x": X}, "method": "lrp", **arguments}
        with pytest.raises(ExplainError) as refused:
            client.start(**asked)
        assert (refused.value.code, refused.value.field) == (code, field)


def test_what_only_the_engine_finds_is_the_error_of_the_operation(keeping: Keeping) -> None:
    with keeping.client(BOB) as client:
        operation = client.start("lstm", {"x": X}, method="lrp", target=7)
        with pytest.raises(InvalidRequest) as failed:
            operation.result(timeout=600)
        assert (operation.state, failed.value.field) == ("failed", "target.indices")


def test_an_operation_does_not_exist_for_another_caller(keeping: Keeping) -> None:
    with keeping.client(ADA) as ada, keeping.client(BOB) as bob:
        hers = ada.start("lstm", {"x": X}, method="lrp", request_id="chosen")
        hers.result(timeout=600)
        with pytest.raises(OperationNotFound):
            bob.operation(hers.name)
        his = Operation(hers._message, bob._operate, bob._named)
        for call in (his.refresh, his.cancel, his.delete, lambda: his.refresh().result(1)):
            with pytest.raises(OperationNotFound):
                call()
        assert hers.name not in {one.name for one in bob.operations()}
        assert bob.start("lstm", {"x": X}, method="lrp", request_id="chosen").name != hers.name
        for odd in ("", "operations/", "operations/../x", "operations/.lock", "x" * 3000):
            with pytest.raises(OperationNotFound):
                bob.operation(odd)


def test_a_repeated_start_is_the_same_operation_and_is_charged_once(keeping: Keeping) -> None:
    with keeping.client(EVE) as eve:
        first = eve.start("lstm", {"x": X}, method="gradient", request_id="once")
        for _ in range(3):
            assert eve.start("lstm", {"x": X}, method="gradient", request_id="once").name == first.name
        first.result(timeout=600)  # the computation is not charged either: it would be over her quota
        assert len(eve.operations()) == 1
        with pytest.raises(AlreadyExists):
            eve.start("lstm", {"x": X}, method="lrp", request_id="once")
        with pytest.raises(Overloaded) as refused:
            eve.start("lstm", {"x": X}, method="gradient", request_id="twice")
        assert "cost" in str(refused.value)
        assert len(eve.operations()) == 1  # what is not paid is not kept


def test_a_cancellation_is_felt_while_it_runs_and_while_it_waits(keeping: Keeping) -> None:
    with keeping.client() as client:
        first = client.start("lstm", {"x": ENDLESS}, method=LONG)
        until(runs(first))
        second = client.start("lstm", {"x": ENDLESS}, method=LONG)
        assert second.state == "pending"
        with pytest.raises(ExplainError, match="runs; cancel it first"):
            first.delete()
        for operation in (second, first):
            operation.cancel()
            with pytest.raises(Cancelled):
                operation.result(timeout=600)
            assert operation.state == "cancelled"
            operation.cancel()  # has no effect any more
        assert client.start("lstm", {"x": X}, method="lrp").result(timeout=600)  # the place is free again


def test_damage_on_disk_is_reported_and_does_not_end_the_server(keeping: Keeping) -> None:
    with keeping.client() as client:
        kept = [client.start("lstm", {"x": X}, method="lrp") for _ in range(4)]
        for operation in kept:
            operation.result(timeout=600)
        (keeping.entry(kept[0]) / "result").write_bytes(b"something else")
        (keeping.entry(kept[1]) / "end.json").write_text('{"code": []}')
        (keeping.entry(kept[2]) / "operation.json").write_text("\x00")
        (keeping.entry(kept[3]) / "result").unlink()
        for operation in (kept[0], kept[1], kept[3]):
            with pytest.raises(ServerFault, match="is damaged"):
                client.operation(operation.name).result()
        with pytest.raises(OperationNotFound):  # nobody knows whose it is
            client.operation(kept[2].name)
        assert f"the operation {keeping.entry(kept[2]).name} in" in keeping.server.logged()
        waiting = [client.start("lstm", {"x": ENDLESS}, method=LONG) for _ in range(2)]
        until(runs(waiting[0]))
        (keeping.entry(waiting[1]) / "request").write_bytes(b"")
        waiting[0].cancel()
        with pytest.raises(ServerFault, match="request is not what was written"):
            waiting[1].result(timeout=600)
        assert client.start("lstm", {"x": X}, method="lrp").result(timeout=600)


def test_the_audit_log_says_who_started_and_ended_what(keeping: Keeping) -> None:
    with keeping.client(BOB) as bob:
        operation = bob.start("lstm", {"x": X}, method="lrp", target=2)
        operation.result(timeout=600)
    own = keeping.entry(operation).name

    def lines() -> list[dict[str, Any]]:
        text = (keeping.folder.parent / "audit.log").read_text()
        return [line for line in map(json.loads, text.splitlines()) if line.get("item") == own]

    started, ran = until(lambda: found if len(found := lines()) == 2 else None)
    for line, event in ((started, "start"), (ran, "explain")):
        assert (line["event"], line["caller"], line["model"], line["status"]) == (event, "bob", "lstm", "OK")
        assert line["target"] == "logits:2"
        assert "lrp" in line["method"]


async def test_the_client_for_asyncio_starts_and_waits(keeping: Keeping) -> None:
    async with AsyncClient(keeping.server.address, token=ADA) as client:
        operation = await client.start("lstm", {"x": X}, method="lrp")
        assert isinstance(await operation.result(timeout=600), Result)
        again = await client.operation(operation.name)
        assert again.done
        assert again.name in {one.name for one in await client.operations()}
        long = await client.start("lstm", {"x": ENDLESS}, method=LONG)
        await long.cancel()
        with pytest.raises(Cancelled):
            await long.result(timeout=600)
        await long.delete()


def test_the_command_line_shows_and_ends_operations(keeping: Keeping) -> None:
    def ask(*arguments: str, form: tuple[str, ...] = ("--json",)) -> subprocess.CompletedProcess[str]:
        called = command("operations", *arguments, "--address", keeping.server.address, *form)
        environment = {**os.environ, "LSTM_EXPLAIN_TOKEN": BOB}
        return subprocess.run(called, env=environment, capture_output=True, text=True, timeout=600, check=False)

    with keeping.client(BOB) as bob:
        endless = bob.start("lstm", {"x": ENDLESS}, method=LONG)
        failing = bob.start("lstm", {"x": X}, method="lrp", target=7)
    cancelled = json.loads(ask(endless.name, "--cancel", "--delete").stdout)
    assert (cancelled["name"], cancelled["state"]) == (endless.name, "cancelled")
    failed = ask(failing.name, "--wait")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["problem"] in failed.stderr
    assert json.loads(failed.stdout)["problem"] in ask(form=()).stdout
    listed = [json.loads(line)["name"] for line in ask().stdout.splitlines()]
    assert failing.name in listed
    assert endless.name not in listed
    assert ask("operations/unknown").returncode == 1


def test_without_a_folder_there_are_no_operations(running: Running) -> None:
    with Client(running.address) as client:
        for call in (
            lambda: client.start("lstm", {"x": X}),
            client.operations,
            lambda: client.operation("operations/a"),
        ):
            with pytest.raises(ExplainError, match="--operations-folder") as refused:
                call()
            assert refused.value.code == grpc.StatusCode.UNIMPLEMENTED


def test_operations_survive_the_end_of_their_server(models: Path, tmp_path: Path) -> None:
    long, direct = ShapleySampling(permutations=3000, seed=5), None
    x = {"x": sequence(batch=1, time=12)}  # too many players for exact values, which take no time
    flags = ("--operations-folder", str(tmp_path / "operations"))
    with serving(models, *flags) as server, Client(server.address) as client:
        direct = client.explain("lstm", x, method=long)
        ended = client.start("lstm", {"x": X}, method="lrp")
        before = ended.result(timeout=600)
        running = client.start("lstm", x, method=long)
        until(lambda: running.refresh().state != "pending")
        waiting = client.start("lstm", {"x": X}, method="gradient")
        family = server.family()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        until(lambda: not any(Path(f"/proc/{process}").exists() for process in family))
    # A machine may stop this test for so long that the operation has ended by itself.
    interrupted = not (tmp_path / running.name / "end.json").exists()
    with serving(models, *flags) as server, Client(server.address) as client:
        after = client.operation(ended.name).result()
        assert isinstance(before, Result)
        assert isinstance(after, Result)
        assert same_bits(before, after)
        again = client.operation(running.name)
        result = again.result(timeout=600)
        assert isinstance(result, Result)
        assert same_bits(result, direct)
        assert again.attempts == 1 + interrupted
        assert client.operation(waiting.name).result(timeout=600)
        assert np.isfinite(direct.relevance["x"]).all()


def test_an_operation_that_ends_two_workers_is_given_up(models: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "operations")
    with serving(models, "--operations-folder", folder) as server, Client(server.address) as client:
        operation = client.start("lstm", {"x": ENDLESS}, method=LONG)
        for attempt in (1, 2):
            until(lambda: _asked(runs(operation)) and operation.attempts == attempt)  # noqa: B023 - called at once
            (worker,) = server.workers()
            os.kill(worker, signal.SIGKILL)
        until(lambda: _asked(lambda: operation.refresh().done))
        with pytest.raises(ServerFault, match="2 worker processes ended while they computed"):
            operation.result(timeout=600)
        assert client.start("lstm", {"x": X}, method="lrp").result(timeout=600)


def _asked(question: Callable[[], Any]) -> Any:
    """The answer; None while no worker serves."""
    try:
        return question()
    except ExplainError as error:
        if error.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise
        return None
