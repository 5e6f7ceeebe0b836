# SPDX-License-Identifier: Apache-2.0
"""Cases of errors, access control, streams and models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.conformance import models
from tests.conformance.case import EXPLAINER, HEAVY, LRP, Array, Case, ask, feeds_of, refused, tensor
from tests.conformance.propagation_cases import by_lrp
from tests.reference.common import Rules
from tests.reference.textbook import one_hot

# --- errors ----------------------------------------------------------------------------------------------------------


def error_cases() -> Iterator[Case]:
    x = feeds_of("lstm", 4, 2)["x"]
    invalid = "INVALID_ARGUMENT"

    def lstm(value: Array = x, **rest: Any) -> dict[str, Any]:
        return ask("lstm", {"x": value}, **rest)

    yield refused("error-no-model", "a model that is not there", ask("nowhere", {"x": x}), "NOT_FOUND", word="nowhere")
    yield refused("error-no-version", "a version that is not there", lstm(version="7"), "NOT_FOUND", word="7")
    yield refused("error-missing-input", "no input at all", ask("lstm", {}), invalid, "inputs", "x")
    yield refused("error-unknown-input", "an input of another name", ask("lstm", {"y": x}), invalid, "inputs[0]", "y")
    yield refused("error-rank", "two axes for three", lstm(x[0]), invalid, "inputs[0].shape", "shape")
    yield refused(
        "error-extent", "three features for four", lstm(x[:, :, :3].copy()), invalid, "inputs[0].shape", "shape"
    )
    yield refused("error-empty", "no time steps", lstm(x[:, :0]), invalid, "inputs[0].shape")
    for dtype in ("int32", "int64", "bool"):
        about = f"{dtype} for float32"
        yield refused(f"error-dtype-{dtype}", about, lstm(x.astype(dtype)), invalid, "inputs[0].dtype", dtype)
    text = np.array(["a film"], dtype=object)
    yield refused("error-text", "text for numbers", lstm(text), invalid, "inputs[0]", "tokenizer")
    for name, target, field in (
        ("output", {"output": "scores"}, "target.output"),
        ("index", {"indices": [3]}, "target.indices"),
        ("contrast", {"indices": [0], "contrast_indices": [9]}, "target.contrast_indices"),
        ("weights", {"weights": tensor(np.ones(2, np.float32))}, "target.weights"),
        ("batch-axis", {"indices": [0], "batch_axis": 5}, "target.batch_axis"),
    ):
        yield refused(f"error-target-{name}", f"a bad {name}", lstm(target=target), invalid, field)
    for name, parameter, value in (
        ("lrp", "epsilon", -1.0),
        ("lrp", "bias_factor", 1.5),
        ("integrated_gradients", "steps", 0),
        ("smooth_grad", "samples", -1),
        ("occlusion", "window", 0),
        ("shapley_sampling", "permutations", 0),
    ):
        method = {"name": name, "parameters": {parameter: value}}
        wrong = f"method.{name}.{parameter}"
        title = f"error-{name}-{parameter}".replace("_", "-")
        yield refused(title, f"{parameter} {value}", lstm(method=method), invalid, wrong)
    yield refused("error-capture", "an inner value that is not there", lstm(capture=["nowhere"]), invalid, "capture")
    square = ask("determinants", {"x": np.ones((2, 2, 2), np.float32)}, method=LRP)
    yield refused("error-operator", "an operator without a rule", square, "FAILED_PRECONDITION", word="determinant")
    long = feeds_of("lstm", 30, 2)["x"]
    late = lstm(long, method=HEAVY, deadline_ms=500)  # room for an attempt that is turned away
    yield refused("error-deadline", "seconds of work in half a second", late, "DEADLINE_EXCEEDED")
    gone = lstm(long, method=HEAVY, cancel_after_ms=100)
    yield refused("error-cancelled", "the caller cancels", gone, "CANCELLED")


def access_cases() -> Iterator[Case]:
    request = ask("lstm", feeds_of("lstm", 4, 2), method=LRP)
    tls = {"over": ["tls"]}
    bare = refused("error-no-token", "no token although one is required", request, "UNAUTHENTICATED")
    yield {**bare, **tls, "token": ""}
    wrong = refused("error-wrong-token", "a token that nobody knows", request, "UNAUTHENTICATED")
    yield {**wrong, **tls, "token": "not-a-token"}
    yield {
        "name": "error-role",
        "about": "a token without the role that imports take",
        **tls,
        "token": EXPLAINER,
        "call": "import_model",
        "import": {"name": "forbidden", "model": "lstm/1/model.onnx"},
        "expect_error": {"code": "PERMISSION_DENIED"},
    }


# --- streams and models ----------------------------------------------------------------------------------------------


def stream_cases() -> Iterator[Case]:
    built = models.recurrent("lstm")
    requests, answers = [], {}
    for number in range(6):
        feeds = feeds_of("lstm", 2 + number, 2)
        requests.append({"id": f"good-{number}", "request": _item("lstm", feeds)})
        answers[f"good-{number}"] = {"expect": by_lrp(built, feeds, one_hot(number % 3, 2, 3), Rules())}
        requests[-1]["request"]["target"] = {"indices": [number % 3]}
    bad = _item("lstm", {"x": feeds_of("lstm", 4, 2)["x"][:, :, :3].copy()})
    requests.insert(2, {"id": "bad-shape", "request": bad})
    answers["bad-shape"] = {"expect_error": {"code": "INVALID_ARGUMENT", "field": "inputs[0].shape", "word": "shape"}}
    requests.insert(4, {"id": "no-model", "request": _item("nowhere", feeds_of("lstm", 4, 2))})
    answers["no-model"] = {"expect_error": {"code": "NOT_FOUND", "word": "nowhere"}}
    feeds = feeds_of("lstm", 3, 2)
    plain = {key: value for key, value in _item("lstm", feeds).items() if key != "method"}
    requests.append({"id": "defaults", "request": plain})
    answers["defaults"] = {"expect": by_lrp(built, feeds, one_hot(2, 2, 3), Rules(epsilon=0.01))}
    about = "nine requests over one stream: two are bad, and one leaves method and target to model.yaml"
    yield {"name": "stream", "about": about, "call": "explain_stream", "requests": requests, "answers": answers}


def _item(model: str, feeds: Mapping[str, Array]) -> dict[str, Any]:
    request = ask(model, feeds, method=LRP)
    del request["deadline_ms"]
    return request


def model_cases() -> Iterator[Case]:
    listed = [{"name": name, "version": "1", "state": "ready"} for name in (*models.OPTIONS, "words", "double")]
    yield {"name": "models", "about": "what is there", "call": "models", "expect": {"models": listed}}
    yield _detail("model", "lstm", {
        "description": "a small LSTM",
        "inputs": {"x": {"dtype": "float32", "shape": ["B", "T", 4]}},
        "outputs": {"logits": {"dtype": "float32", "shape": ["B", 3]}},
        "class_names": {"logits": models.CLASSES},
        "text_inputs": [],
        "batch_axes": {"x": 0},
        "time_axes": {"x": 1},
        "guessed_axes": [],
        "feature_groups": [
            {"name": "outer", "input": "x", "features": ["a", "d"]},
            {"name": "second", "input": "x", "features": ["b"]},
        ],
        "default_method": {"name": "lrp", "parameters": {"epsilon": 0.01}},
    })  # fmt: skip
    yield _detail("model-text", "words", {
        "inputs": {"tokens": {"dtype": "int64", "shape": ["B", "T"]}},
        "text_inputs": ["tokens"],
        "examples": {"tokens": ["good film", "not a film"]},
    })  # fmt: skip
    yield _detail("model-background", "sampled", {
        "background_samples": {"x": len(models.BACKGROUNDS["sampled"])},
    })  # fmt: skip
    yield _detail("model-guess", "determinants", {
        "lrp_supported": False,
        "batch_axes": {"x": 0},
        "time_axes": {"x": 1},
        "guessed_axes": ["x"],
    })  # fmt: skip
    yield {
        "name": "error-model",
        "about": "a description of what is not there",
        "call": "model",
        "model": "nowhere",
        "version": "",
        "expect_error": {"code": "NOT_FOUND", "word": "nowhere"},
    }
    yield from import_cases()
    yield from route_cases()
    yield from operation_cases()


def _detail(name: str, model: str, detail: dict[str, Any]) -> Case:
    reported = {"name": model, "version": "1", "state": "ready", "lrp_supported": True, **detail}
    about = f"the description of {model}"
    return {
        "name": name,
        "about": about,
        "call": "model",
        "model": model,
        "version": "",
        "expect": {"detail": reported},
    }


def import_cases() -> Iterator[Case]:
    built, feeds = models.recurrent("gru"), feeds_of("gru", 3, 2)
    expect = by_lrp(built, feeds, one_hot(1, 2, 3), Rules(epsilon=0.02))
    expect["detail"] = {"name": "imported", "version": "1", "state": "ready", "description": "brought along"}
    config = "description: brought along\nmethod: {name: lrp, epsilon: 0.02}\ntarget: {index: 1}\n"
    yield {
        "name": "import",
        "about": "a model is imported with its settings, explained by them, and deleted",
        "call": "import_model",
        "import": {"name": "imported", "model": "gru/1/model.onnx", "config": config},
        "request": ask("imported", feeds),
        "expect": expect,
    }
    for name, brought, error in (
        ("error-import-broken", {"name": "imported", "model": "broken/truncated.onnx"}, {"code": "INVALID_ARGUMENT"}),
        (
            "error-import-twice",
            {"name": "lstm", "version": "1", "model": "lstm/1/model.onnx"},
            {"code": "ALREADY_EXISTS"},
        ),
        (
            "error-import-name",
            {"name": "../up", "model": "lstm/1/model.onnx"},
            {"code": "INVALID_ARGUMENT", "field": "start.name"},
        ),
    ):
        yield {
            "name": name,
            "about": "an import that is refused",
            "call": "import_model",
            "import": brought,
            "expect_error": error,
        }


def route_cases() -> Iterator[Case]:
    """The answers are the same again when the next runner asks."""
    route = {"default_version": "1", "canary_version": "2", "canary_share": 0.25}
    alone = {"default_version": "1", "canary_version": "", "canary_share": 0.0, "previous_version": "2"}
    call = {"call": "route_model", "model": "routed"}
    yield {
        "name": "route",
        "about": "a default version and a canary are chosen, then the canary is taken back",
        **call,
        "route": route,
        "expect": {"route": {**route, "previous_version": "2"}, "rolled_back": alone},
    }
    for name, change, error in (
        ("version", {"default_version": "7"}, {"code": "NOT_FOUND", "word": "7"}),
        ("share", {"canary_share": 1.5}, {"code": "INVALID_ARGUMENT", "field": "canary_share"}),
    ):
        case = {**call, "route": {**route, **change}, "expect_error": error}
        yield {"name": f"error-route-{name}", "about": "a route that is refused", **case}


def operation_cases() -> Iterator[Case]:
    built, feeds = models.recurrent("gru"), feeds_of("gru", 3, 2)
    request = ask("gru", feeds, method={"name": "lrp", "parameters": {"epsilon": 0.02}}, target={"indices": [1]})
    yield {
        "name": "operation",
        "about": "an explanation is started, waited for, listed, compared with the call, and deleted",
        "call": "operation",
        "request": request,
        "expect": by_lrp(built, feeds, one_hot(1, 2, 3), Rules(epsilon=0.02)),
    }
    wrong = {name: array[..., :1].copy() for name, array in feeds.items()}
    yield {
        "name": "error-operation",
        "about": "an operation that is refused when it is started",
        "call": "operation",
        "request": ask("gru", wrong, method={"name": "lrp", "parameters": {}}),
        "expect_error": {"code": "INVALID_ARGUMENT", "field": "request.inputs[0].shape"},
    }
