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


def to_method(said: dict[str, Any]) -> Any:
    parameters = dict(said.get("parameters", {}))
    if "baseline" in parameters:
        parameters["baseline"] = {name: to_array(t) for name, t in parameters["baseline"].items()}
    kind = next(k for k in lx.Method.__subclasses__() if k.name == said["name"])
    return kind(**parameters)


def to_target(said: dict[str, Any]) -> lx.Target:
    fields: dict[str, Any] = {"output": said.get("output"), "pre_activation": said.get("pre_activation")}
    for name, ours in (("indices", "index"), ("contrast_indices", "contrast")):
        if name in said:
            fields[ours] = np.array(said[name])
    if "weights" in said:
        fields["weights"] = to_array(said["weights"])
    if "batch_axis" in said:
        fields["batch_axis"] = said["batch_axis"]
    if said.get("no_batch_axis"):
        fields["batch_axis"] = None
    return lx.Target(**fields)


def given(said: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a case names; the client's defaults apply to all others."""
    build = {"method": to_method, "target": to_target, "capture": list, "version": str}
    return {name: make(said[name]) for name, make in build.items() if name in said}


def inputs_of(said: dict[str, Any]) -> dict[str, Any]:
    return {name: to_array(t) for name, t in said["inputs"].items()}


def to_request(said: dict[str, Any], identity: str = "") -> lx.Request:
    return lx.Request(model=said["model"], inputs=inputs_of(said), id=identity, **given(said))


def arguments(said: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    deadline = said.get("deadline_ms")
    return [said["model"], inputs_of(said)], {**given(said), "timeout": deadline and deadline / 1000}


# --- the expected response -------------------------------------------------------------------------------------------


def check_tensor(where: str, came: Any, wanted: dict[str, Any]) -> None:
    kind = "string" if came.dtype == object else came.dtype.name
    kinds = ("float32", "float64") if wanted["dtype"] == "float" else (wanted["dtype"],)
    if kind not in kinds or list(came.shape) != wanted["shape"]:
        raise Wrong(f"{where}: {kind}{list(came.shape)} came, wanted {wanted['dtype']}{wanted['shape']}")
    if "tolerance" not in wanted:
        if came.ravel().tolist() != wanted["data"]:
            raise Wrong(f"{where}: {came.ravel().tolist()} came, wanted {wanted['data']}")
        return
    apart = np.abs(came.ravel().astype(np.float64) - np.array(wanted["data"], np.float64))
    if not (apart <= wanted["tolerance"]).all():
        raise Wrong(f"{where}: {apart.max()} apart at {int(apart.argmax())}, allowed {wanted['tolerance']}")


def check_arrays(where: str, came: dict[str, Any], wanted: dict[str, Any]) -> None:
    if sorted(came) != sorted(wanted):
        raise Wrong(f"{where}: {sorted(came)} came, wanted {sorted(wanted)}")
    for name, tensor in wanted.items():
        check_tensor(f"{where}.{name}", came[name], tensor)


def check_result(came: lx.Result, wanted: dict[str, Any]) -> None:
    for name in ("model", "version"):
        if name in wanted and getattr(came, name) != wanted[name]:
            raise Wrong(f"{name}: {getattr(came, name)} came, wanted {wanted[name]}")
    for name in ("relevance", "outputs", "captured", "tokens"):
        if name in wanted:
            check_arrays(name, getattr(came, name), wanted[name])
    if "warnings" in wanted:
        begins = [warning.startswith(part) for warning, part in zip(came.warnings, wanted["warnings"], strict=False)]
        if len(came.warnings) != len(wanted["warnings"]) or not all(begins):
            raise Wrong(f"the warnings {came.warnings} came, wanted {wanted['warnings']}")
    if "explained_quantity" in wanted and came.explained_quantity != wanted["explained_quantity"]:
        raise Wrong(f"{came.explained_quantity!r} came, wanted {wanted['explained_quantity']!r}")
    if "explained" in wanted:
        check_tensor("explained", came.explained, wanted["explained"])
    ledger = came.ledger
    for name, value in wanted.get("ledger", {}).items():
        if name != "balance":
            check_tensor(f"ledger.{name}", getattr(ledger, name), value)
            continue
        parts = (ledger.inputs, ledger.initial_states, ledger.absorbed, ledger.residual)
        gap = np.abs(came.explained.astype(np.float64) - sum(part.astype(np.float64) for part in parts)).max()
        if not gap <= value:
            raise Wrong(f"ledger: {gap} is missing, allowed {value}")


def check_detail(came: lx.ModelDetail, wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        held: Any = getattr(came, name)
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
            raise Wrong(f"{name}: {held} came, wanted {value}")


def check_error(came: lx.ExplainError | None, wanted: dict[str, Any]) -> None:
    if came is None:
        raise Wrong(f"an answer came, wanted {wanted['code']}")
    if came.code.name != wanted["code"]:
        raise Wrong(f"{came.code.name} came ({came.message}), wanted {wanted['code']}")
    if "field" in wanted and came.field != wanted["field"]:
        raise Wrong(f"the field {came.field!r} came ({came.message}), wanted {wanted['field']!r}")
    if wanted.get("word", "") not in came.message:
        raise Wrong(f"the message {came.message!r} lacks {wanted['word']!r}")


def hashes(came: lx.Result, prefix: str = "") -> dict[str, str]:
    """The hash of the elements, row-major and little-endian."""

    def digest(array: Any) -> str:
        return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()

    return {prefix + name: digest(array) for name, array in came.relevance.items()}


# --- cases -----------------------------------------------------------------------------------------------------------


class Run:
    """One pass over the cases on one connection."""

    def __init__(self, connect: Callable[..., Any], token: str | None, models: Path) -> None:
        self._connect, self._token, self._models = connect, token, models

    def case(self, case: dict[str, Any]) -> dict[str, str]:
        """Hashes of the relevance; raises Wrong."""
        face = self._connect(case.get("token", self._token) or None)
        try:
            wanted = case.get("expect_error")
            if wanted is None:
                return getattr(self, case["call"])(face, case)
            try:
                getattr(self, case["call"])(face, case)
            except lx.ExplainError as error:
                check_error(error, wanted)
            else:
                check_error(None, wanted)
            return {}
        finally:
            face.close()

    def explain(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        args, kwargs = arguments(case["request"])
        if "cancel_after_ms" in case["request"]:
            return hashes(face.cancelled_after(case["request"]["cancel_after_ms"] / 1000, *args, **kwargs))
        came = face.call("explain", *args, **kwargs)
        check_result(came, case.get("expect", {}))
        return hashes(came)

    def explain_stream(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        answers = face.stream([to_request(item["request"], item["id"]) for item in case["requests"]])
        if sorted(a.id for a in answers) != sorted(case["answers"]):
            raise Wrong(f"answers to {sorted(a.id for a in answers)} came, wanted {sorted(case['answers'])}")
        found: dict[str, str] = {}
        for answer in answers:
            wanted = case["answers"][answer.id]
            if "expect_error" in wanted:
                check_error(answer.error, wanted["expect_error"])
            else:
                check_result(answer.get(), wanted["expect"])
                found |= hashes(answer.get(), f"{answer.id}/")
        return found

    def models(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        came = [{"name": m.name, "version": m.version, "state": m.state} for m in face.call("models")]
        for wanted in case["expect"]["models"]:
            if wanted not in came:
                raise Wrong(f"{wanted} is not among {came}")
        return {}

    def model(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        came = face.call("model", case["model"], case.get("version", ""))
        check_detail(came, case.get("expect", {}).get("detail", {}))
        return {}

    def import_model(self, face: Any, case: dict[str, Any]) -> dict[str, str]:
        brought = case["import"]
        path = self._models / brought["model"]
        came = face.call("import_model", brought["name"], path, brought.get("version"), brought.get("config"))
        try:
            check_detail(came, case["expect"].get("detail", {}))
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
