# SPDX-License-Identifier: Apache-2.0
"""Runs the conformance cases through the Python clients; see tests/conformance/README.md for what goes in and out."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from case import (
    Wrong,
    arguments,
    check_detail,
    check_error,
    check_result,
    check_results,
    hashes,
    to_request,
    to_target,
)

import lstm_explain_client as lx
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2, operation_pb2

SENTENCE = "neither funny nor suspenseful nor particularly well-drawn"
STUBS = (explanation_pb2, model_pb2, operation_pb2)
WARM_UP = 20


def note_progress(reported: set[str], identity: str, done: int, total: int) -> None:
    reported.add(identity)
    if not 0 <= done <= total:
        raise Wrong(f"{identity}: progress {done} of {total}")


class Blocking:
    """The client for ordinary code."""

    name = "python"

    def __init__(self, address: str, **options: Any) -> None:
        self._client = lx.Client(address, **options)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._client, name)(*args, **kwargs)

    def stream(self, requests: list[lx.Request]) -> list[lx.Answer]:
        return list(self._client.explain_stream(requests))

    def finished(self, called: Any) -> Any:
        """What a method of an operation returns."""
        return called

    def cancelled_after(self, seconds: float, *args: Any, **kwargs: Any) -> Any:
        """To cancel its calls, another thread closes the client."""
        timer = threading.Timer(seconds, self._client.close)
        timer.start()
        try:
            return self._client.explain(*args, **kwargs)
        finally:
            timer.cancel()

    def close(self) -> None:
        self._client.close()


class Asyncio:
    """The client for asyncio. One event loop for all cases, because gRPC stays bound to the first loop."""

    name = "python-asyncio"
    _runner = asyncio.Runner()

    def __init__(self, address: str, **options: Any) -> None:
        async def make() -> lx.AsyncClient:
            return lx.AsyncClient(address, **options)

        self._client = self._runner.run(make())

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._runner.run(getattr(self._client, name)(*args, **kwargs))

    def stream(self, requests: list[lx.Request]) -> list[lx.Answer]:
        async def collect() -> list[lx.Answer]:
            return [answer async for answer in self._client.explain_stream(requests)]

        return self._runner.run(collect())

    def finished(self, called: Any) -> Any:
        return self._runner.run(called)

    def cancelled_after(self, seconds: float, *args: Any, **kwargs: Any) -> Any:
        async def run() -> Any:
            task = asyncio.ensure_future(self._client.explain(*args, **kwargs))
            asyncio.get_running_loop().call_later(seconds, task.cancel)
            try:
                return await task
            except asyncio.CancelledError:
                raise lx.Cancelled("the task was cancelled") from None

        return self._runner.run(run())

    def close(self) -> None:
        self._runner.run(self._client.close())


# --- cases -----------------------------------------------------------------------------------------------------------


class Run:
    """One pass over the cases on one connection."""

    def __init__(self, connect: Callable[..., Any], token: str | None, models: Path) -> None:
        self._connect, self._token, self._models = connect, token, models

    def case(self, case: dict[str, Any]) -> dict[str, str]:
        """Hashes of the relevance; raises Wrong."""
        face = self._connect(case.get("token", self._token) or None)
        try:
            expected = case.get("expect_error")
            if expected is None:
                return getattr(self, case["call"])(face, case)
            try:
                getattr(self, case["call"])(face, case)
            except lx.ExplainError as error:
                check_error(error, expected)
            else:
                check_error(None, expected)
            return {}
        finally:
            face.close()

    def explain(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        args, kwargs = arguments(case["request"])
        if "cancel_after_ms" in case["request"]:
            return hashes(face.cancelled_after(case["request"]["cancel_after_ms"] / 1000, *args, **kwargs))
        received = face.call("explain", *args, **kwargs)
        check_result(received, case.get("expect", {}))
        return hashes(received)

    def explain_many(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        args, kwargs = arguments(case["request"])
        received = face.call("explain_many", *args, **kwargs)
        found = check_results(received, case["expect"])
        del kwargs["targets"]
        for one, single in zip(received, case["expect"]["singles"], strict=False):
            alone = face.call("explain", *args, **kwargs, target=to_target(single))
            if hashes(alone) != hashes(one):
                raise Wrong(f"target {single} alone has another relevance")
        return found

    def explain_stream(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        requests = [to_request(item["request"], item["id"]) for item in case["requests"]]
        reported: set[str] = set()
        if "progress" in case:
            requests = [replace(r, progress=partial(note_progress, reported, r.id)) for r in requests]
        answers = face.stream(requests)
        if reported != set(case.get("progress", ())):
            raise Wrong(f"progress of {sorted(reported)}, expected of {case.get('progress')}")
        if sorted(a.id for a in answers) != sorted(case["answers"]):
            raise Wrong(f"answers: received {sorted(a.id for a in answers)}, expected {sorted(case['answers'])}")
        found: dict[str, str] = {}
        for answer in answers:
            expected = case["answers"][answer.id]
            if "expect_error" in expected:
                check_error(answer.error, expected["expect_error"])
            elif "results" in expected["expect"]:
                found |= check_results(answer.get_many(), expected["expect"], f"{answer.id}/")
            else:
                check_result(answer.get(), expected["expect"])
                found |= hashes(answer.get(), f"{answer.id}/")
        return found

    def models(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        received = [{"name": m.name, "version": m.version, "state": m.state} for m in face.call("models")]
        for expected in case["expect"]["models"]:
            if expected not in received:
                raise Wrong(f"{expected} is not among {received}")
        return {}

    def model(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        received = face.call("model", case["model"], case.get("version", ""))
        check_detail(received, case.get("expect", {}).get("detail", {}))
        return {}

    def import_model(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        brought = case["import"]
        path = self._models / brought["model"]
        received = face.call("import_model", brought["name"], path, brought.get("version"), brought.get("config"))
        try:
            check_detail(received, case["expect"].get("detail", {}))
            found = self.explain(face, case)
        finally:
            face.call("delete_model", brought["name"])
        try:
            self.explain(face, {"request": case["request"]})
        except lx.ModelNotFound:
            return found
        raise Wrong("the model answers after it was deleted")

    def route_model(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        received = {"route": face.call("route_model", case["model"], **case["route"])}
        received["rolled_back"] = face.call("roll_back_model", case["model"])
        for part, route in received.items():
            if asdict(route) != case["expect"][part]:
                raise Wrong(f"{part}: received {route}, expected {case['expect'][part]}")
        return {}

    def operation(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        args, kwargs = arguments(case["request"])
        started = face.call("start", *args, **kwargs)
        result = face.finished(started.result(timeout=600))
        check_result(result, case["expect"])
        if started.name not in {one.name for one in face.call("operations")}:
            raise Wrong("the operation is not listed")
        if hashes(face.call("explain", *args, **kwargs)) != hashes(result):
            raise Wrong("the call has another relevance")
        face.finished(started.cancel())
        face.finished(started.delete())
        try:
            face.call("operation", started.name)
        except lx.OperationNotFound:
            return hashes(result)
        raise Wrong("the operation is there after it was deleted")


def golden(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the name of each case and the error, which is empty if it passes."""
    for entry in json.loads((folder / "index.json").read_text()):
        kind = entry["message"].rsplit(".", 1)[1]
        cls = next(getattr(stubs, kind) for stubs in STUBS if hasattr(stubs, kind))
        encoded = (folder / f"{entry['name']}.bin").read_bytes()
        again = cls.FromString(encoded).SerializeToString(deterministic=True)
        yield f"golden/{entry['name']}", "" if again == encoded else f"{encoded.hex()} became {again.hex()}"


def run_cases(options: argparse.Namespace, connect: Callable[..., Any]) -> bool:
    over = "tls" if options.ca else "plain"
    run, good = Run(connect, options.token, options.models), True

    def say(case: str, detail: str, relevance: dict[str, str]) -> None:
        print(json.dumps({"case": case, "ok": not detail, "detail": detail, "relevance": relevance}), flush=True)

    for path in sorted(options.cases.glob("*.json")):
        case = json.loads(path.read_text())
        if over not in case.get("over", [over]):
            continue
        detail, relevance = "", {}
        try:
            relevance = run.case(case)
        except (Wrong, lx.ExplainError) as error:
            detail = f"{type(error).__name__}: {error}"
        good = good and not detail
        say(case["name"], detail, relevance)
    for name, detail in golden(options.golden):
        good = good and not detail
        say(name, detail, {})
    return good


def run_latency(options: argparse.Namespace, face: Any) -> None:
    taken = []
    for number in range(WARM_UP + options.calls):
        began = time.perf_counter()
        face.call("explain", options.model, {"tokens": SENTENCE})
        if number >= WARM_UP:
            taken.append((time.perf_counter() - began) * 1000)
    p50, p99 = np.percentile(taken, [50, 99])
    print(json.dumps({"client": face.name, "calls": options.calls, "p50_ms": round(p50, 3), "p99_ms": round(p99, 3)}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asyncio", action="store_true", help="the client for asyncio")
    commands = parser.add_subparsers(dest="command", required=True)
    conformance, latency = commands.add_parser("conformance"), commands.add_parser("latency")
    for name in ("cases", "golden", "models"):
        conformance.add_argument(f"--{name}", type=Path, required=True)
    latency.add_argument("--model", default="sentiment")
    latency.add_argument("--calls", type=int, default=200)
    for command in (conformance, latency):
        command.add_argument("--address", required=True)
        for name in ("ca", "cert", "key", "token"):
            command.add_argument(f"--{name}")
    options = parser.parse_args()
    tls = lx.TLS(options.ca, options.cert, options.key) if options.ca else False
    kind = Asyncio if options.asyncio else Blocking

    def connect(token: str | None) -> Any:
        return kind(options.address, tls=tls, token=token)

    if options.command == "conformance":
        return 0 if run_cases(options, connect) else 1
    face = connect(options.token)
    run_latency(options, face)
    face.close()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, grpc.RpcError, lx.ExplainError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
