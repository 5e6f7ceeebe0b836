"""Runs the conformance cases through the Python clients; see tests/conformance/README.md for what goes in and out."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

import lstm_explain_client as lx
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2

SENTENCE = "neither funny nor suspenseful nor particularly well-drawn"
WARM_UP = 20


class Wrong(Exception):  # noqa: N818 - a difference, not an error
    """The response differs from the expected one."""


class Blocking:
    """The client for ordinary code."""

    name = "python"

    def __init__(self, address: str, **options: Any) -> None:
        self._client = lx.Client(address, **options)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._client, name)(*args, **kwargs)

    def stream(self, requests: list[lx.Request]) -> list[lx.Answer]:
        return list(self._client.explain_stream(requests))

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


# --- the request of a case -------------------------------------------------------------------------------------------


def to_array(tensor: dict[str, Any]) -> Any:
    kind = object if tensor["dtype"] == "string" else np.dtype(tensor["dtype"])
    return np.array(tensor["data"], dtype=kind).reshape(tensor["shape"])


def to_method(method: dict[str, Any]) -> Any:
    parameters = dict(method.get("parameters", {}))
    if "baseline" in parameters:
        parameters["baseline"] = {name: to_array(t) for name, t in parameters["baseline"].items()}
    kind = next(k for k in lx.Method.__subclasses__() if k.name == method["name"])
    return kind(**parameters)


def to_target(target: dict[str, Any]) -> lx.Target:
    fields: dict[str, Any] = {"output": target.get("output"), "pre_activation": target.get("pre_activation")}
    for name, ours in (("indices", "index"), ("contrast_indices", "contrast")):
        if name in target:
            fields[ours] = np.array(target[name])
    if "weights" in target:
        fields["weights"] = to_array(target["weights"])
    if "batch_axis" in target:
        fields["batch_axis"] = target["batch_axis"]
    if target.get("no_batch_axis"):
        fields["batch_axis"] = None
    return lx.Target(**fields)


def given(request: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a case names; the client's defaults apply to all others."""
    build = {"method": to_method, "target": to_target, "capture": list, "version": str}
    return {name: make(request[name]) for name, make in build.items() if name in request}


def inputs_of(request: dict[str, Any]) -> dict[str, Any]:
    return {name: to_array(t) for name, t in request["inputs"].items()}


def to_request(request: dict[str, Any], identity: str = "") -> lx.Request:
    return lx.Request(model=request["model"], inputs=inputs_of(request), id=identity, **given(request))


def arguments(request: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    deadline = request.get("deadline_ms")
    return [request["model"], inputs_of(request)], {**given(request), "timeout": deadline and deadline / 1000}


# --- the expected response -------------------------------------------------------------------------------------------


def check_tensor(where: str, received: Any, expected: dict[str, Any]) -> None:
    kind = "string" if received.dtype == object else received.dtype.name
    kinds = ("float32", "float64") if expected["dtype"] == "float" else (expected["dtype"],)
    if kind not in kinds or list(received.shape) != expected["shape"]:
        raise Wrong(f"{where}: received {kind}{list(received.shape)}, expected {expected['dtype']}{expected['shape']}")
    if "tolerance" not in expected:
        if received.ravel().tolist() != expected["data"]:
            raise Wrong(f"{where}: received {received.ravel().tolist()}, expected {expected['data']}")
        return
    apart = np.abs(received.ravel().astype(np.float64) - np.array(expected["data"], np.float64))
    if not (apart <= expected["tolerance"]).all():
        raise Wrong(f"{where}: {apart.max()} apart at {int(apart.argmax())}, allowed {expected['tolerance']}")


def check_arrays(where: str, received: dict[str, Any], expected: dict[str, Any]) -> None:
    if sorted(received) != sorted(expected):
        raise Wrong(f"{where}: received {sorted(received)}, expected {sorted(expected)}")
    for name, tensor in expected.items():
        check_tensor(f"{where}.{name}", received[name], tensor)


def check_result(received: lx.Result, expected: dict[str, Any]) -> None:
    for name in ("model", "version"):
        if name in expected and getattr(received, name) != expected[name]:
            raise Wrong(f"{name}: received {getattr(received, name)}, expected {expected[name]}")
    for name in ("relevance", "outputs", "captured", "tokens"):
        if name in expected:
            check_arrays(name, getattr(received, name), expected[name])
    if "warnings" in expected:
        begins = [
            warning.startswith(part) for warning, part in zip(received.warnings, expected["warnings"], strict=False)
        ]
        if len(received.warnings) != len(expected["warnings"]) or not all(begins):
            raise Wrong(f"warnings: received {received.warnings}, expected {expected['warnings']}")
    if "explained_quantity" in expected and received.explained_quantity != expected["explained_quantity"]:
        raise Wrong(f"received {received.explained_quantity!r}, expected {expected['explained_quantity']!r}")
    if "explained" in expected:
        check_tensor("explained", received.explained, expected["explained"])
    ledger = received.ledger
    for name, value in expected.get("ledger", {}).items():
        if name != "balance":
            check_tensor(f"ledger.{name}", getattr(ledger, name), value)
            continue
        parts = (ledger.inputs, ledger.initial_states, ledger.absorbed, ledger.residual)
        gap = np.abs(received.explained.astype(np.float64) - sum(part.astype(np.float64) for part in parts)).max()
        if not gap <= value:
            raise Wrong(f"ledger: {gap} is missing, allowed {value}")


def check_detail(received: lx.ModelDetail, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        held: Any = getattr(received, name)
        if name in ("inputs", "outputs"):
            held = {k: {"dtype": spec.dtype, "shape": list(spec.shape)} for k, spec in held.items()}
        elif name == "class_names":
            held = {k: list(v) for k, v in held.items()}
        elif name in ("text_inputs", "guessed_axes"):
            held = list(held)
        elif name == "default_method":
            asked = value.get("parameters", {})
            held = {"name": held.name, "parameters": {k: held.parameters().get(k) for k in asked}}
        if held != value:
            raise Wrong(f"{name}: received {held}, expected {value}")


def check_error(received: lx.ExplainError | None, expected: dict[str, Any]) -> None:
    if received is None:
        raise Wrong(f"received an answer, expected {expected['code']}")
    if received.code.name != expected["code"]:
        raise Wrong(f"received {received.code.name} ({received.message}), expected {expected['code']}")
    if "field" in expected and received.field != expected["field"]:
        raise Wrong(f"field: received {received.field!r} ({received.message}), expected {expected['field']!r}")
    if expected.get("word", "") not in received.message:
        raise Wrong(f"the message {received.message!r} lacks {expected['word']!r}")


def hashes(received: lx.Result, prefix: str = "") -> dict[str, str]:
    """The hash of the elements, row-major and little-endian."""

    def digest(array: Any) -> str:
        return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()

    return {prefix + name: digest(array) for name, array in received.relevance.items()}


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

    def explain_stream(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        answers = face.stream([to_request(item["request"], item["id"]) for item in case["requests"]])
        if sorted(a.id for a in answers) != sorted(case["answers"]):
            raise Wrong(f"answers: received {sorted(a.id for a in answers)}, expected {sorted(case['answers'])}")
        found: dict[str, str] = {}
        for answer in answers:
            expected = case["answers"][answer.id]
            if "expect_error" in expected:
                check_error(answer.error, expected["expect_error"])
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


def golden(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the name of each case and the error, which is empty if it passes."""
    for entry in json.loads((folder / "index.json").read_text()):
        kind = entry["message"].rsplit(".", 1)[1]
        cls = getattr(explanation_pb2, kind, None) or getattr(model_pb2, kind)
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
