# SPDX-License-Identifier: Apache-2.0
"""Builds the request of a conformance case, and compares the response with the expected one."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

import lstm_explain_client as lx


class Wrong(Exception):  # noqa: N818 - a difference, not an error
    """The response differs from the expected one."""


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
    if "measure" in target:
        said = target["measure"]
        reference = to_array(said["tensor"]) if "tensor" in said else said.get("input")
        fields["measure"] = lx.Measure(said["kind"], reference, said.get("ahead", 0), said.get("blank"))
    return lx.Target(**fields)


def to_targets(targets: list[dict[str, Any]]) -> list[Any]:
    return [to_target_set(one) for one in targets]


def to_target_set(said: dict[str, Any]) -> Any:
    if "every" not in said:
        return to_target(said["target"]) if "target" in said else None
    every = said["every"]
    shared = {"target": to_target(every["target"])} if "target" in every else {}
    return lx.Every(**{name: every[name] for name in ("axis", "entries") if name in every}, **shared)


def to_groups(said: dict[str, Any]) -> lx.Groups:
    cuts = lx.ChangePoints(**said["change_points"]) if "change_points" in said else None
    features: dict[str, Any] = {}
    for group in said.get("features", ()):
        features.setdefault(group["input"], {})[group["name"]] = group["features"]
    return lx.Groups(said.get("window"), said.get("words", False), cuts, features.get("", features))


def given(request: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a case names; the client's defaults apply to all others."""
    build = {
        "method": to_method,
        "target": to_target,
        "targets": to_targets,
        "capture": list,
        "version": str,
        "receipt": bool,
        "condition": str,
        "groups": to_groups,
        "through": dict,
    }
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
    for part, tensors in expected.get("groups", {}).items():
        held = {name: getattr(own, part) for name, own in received.groups.items()}
        check_arrays(f"groups.{part}", {name: array for name, array in held.items() if array is not None}, tensors)
    if "warnings" in expected:
        begins = [
            warning.startswith(part) for warning, part in zip(received.warnings, expected["warnings"], strict=False)
        ]
        if len(received.warnings) != len(expected["warnings"]) or not all(begins):
            raise Wrong(f"warnings: received {received.warnings}, expected {expected['warnings']}")
    if "explained_quantity" in expected and received.explained_quantity != expected["explained_quantity"]:
        raise Wrong(f"received {received.explained_quantity!r}, expected {expected['explained_quantity']!r}")
    if "not_explained" in expected and list(received.not_explained) != expected["not_explained"]:
        raise Wrong(f"received not_explained {received.not_explained}, expected {expected['not_explained']}")
    if "receipt" in expected:
        part = expected["receipt"]
        if bool(received.receipt) != bool(part) or part not in received.receipt:
            raise Wrong(f"received the receipt {received.receipt!r}, expected {part!r}")
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


def check_results(received: list[lx.Result], expected: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Check a result per target; the number of the target precedes the names of the hashes."""
    if len(received) != len(expected["results"]):
        raise Wrong(f"{len(received)} results, expected {len(expected['results'])}")
    found: dict[str, str] = {}
    for number, (one, wanted) in enumerate(zip(received, expected["results"], strict=True)):
        check_result(one, wanted)
        found |= hashes(one, f"{prefix}{number}/")
    return found


def check_detail(received: lx.ModelDetail, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        held: Any = getattr(received, name)
        if name in ("inputs", "outputs"):
            held = {k: {"dtype": spec.dtype, "shape": list(spec.shape)} for k, spec in held.items()}
        elif name in ("class_names", "examples"):
            held = {k: list(v) for k, v in held.items()}
        elif name in ("text_inputs", "guessed_axes"):
            held = list(held)
        elif name == "feature_groups":
            groups = [(of, group, list(features)) for of, own in held.items() for group, features in own.items()]
            held = [{"name": group, "input": of, "features": features} for of, group, features in groups]
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
    """Return the hash of the elements, row-major and little-endian."""

    def digest(array: Any) -> str:
        return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()

    return {prefix + name: digest(array) for name, array in received.relevance.items()}
