# SPDX-License-Identifier: Apache-2.0
"""Calls of tritonclient work unchanged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import numpy as np
import pytest

import lstm_explain as lx
from tests.serving.calling import sequence
from tests.serving.models import WORDS
from tests.serving.running import Running

triton = pytest.importorskip("tritonclient.grpc")
utils = pytest.importorskip("tritonclient.utils")


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator:
    with triton.InferenceServerClient(running.address) as client:
        yield client


@pytest.fixture(scope="module")
def engine(models_folder: Path) -> lx.Model:
    """The newest version of `lstm`."""
    return lx.load(models_folder / "lstm" / "2" / "model.onnx")


def given(array: np.ndarray, name: str = "x") -> list:
    value = triton.InferInput(name, list(array.shape), utils.np_to_triton_dtype(array.dtype))
    value.set_data_from_numpy(array)
    return [value]


def names(result) -> list[str]:
    return [output.name for output in result.get_response().outputs]


def test_the_server_is_live_and_ready(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name == "lstm-explain"
    assert "model_repository" in metadata.extensions


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("lstm", "", True), ("lstm", "1", True), ("lstm", "9", False), ("nothing", "", False), ("truncated", "", False)],
)
def test_models_that_are_ready(client, name: str, version: str, ready: bool) -> None:
    assert client.is_model_ready(name, version) is ready


def test_metadata_of_a_model(client) -> None:
    metadata = client.get_model_metadata("words")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("words", ["1"], "onnx_onnxv1")
    assert [(i.name, i.datatype, list(i.shape)) for i in metadata.inputs] == [("tokens", "INT64", [-1, -1])]
    assert [(o.name, o.datatype, list(o.shape)) for o in metadata.outputs] == [("logits", "FP32", [-1, 3])]
    assert list(client.get_model_metadata("lstm").versions) == ["1", "2"]


def test_metadata_of_what_is_not_there(client) -> None:
    with pytest.raises(utils.InferenceServerException, match="no model 'nothing'") as raised:
        client.get_model_metadata("nothing")
    assert raised.value.status() == "StatusCode.NOT_FOUND"


def test_the_index_of_the_repository(client) -> None:
    index = {(m.name, m.version): m for m in client.get_model_repository_index().models}
    assert index["lstm", "1"].state == index["lstm", "2"].state == "READY"
    assert index["truncated", "1"].state == "UNAVAILABLE"
    assert index["truncated", "1"].reason


@pytest.mark.parametrize("call", ["get_model_config", "get_inference_statistics"])
def test_unsupported_calls_are_unimplemented(client, call: str) -> None:
    with pytest.raises(utils.InferenceServerException) as raised:
        getattr(client, call)("lstm")
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"


def test_a_prediction(client, engine: lx.Model) -> None:
    result = client.infer("lstm", given(sequence()), request_id="mine")
    np.testing.assert_array_equal(result.as_numpy("logits"), engine.predict({"x": sequence()})["logits"])
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("lstm", "2", "mine")
    assert names(result) == ["logits"]


def test_an_older_version(client, models_folder: Path) -> None:
    older = lx.load(models_folder / "lstm" / "1" / "model.onnx")
    result = client.infer("lstm", given(sequence()), model_version="1")
    np.testing.assert_array_equal(result.as_numpy("logits"), older.predict({"x": sequence()})["logits"])


def test_an_explanation(client, engine: lx.Model) -> None:
    result = client.infer("lstm", given(sequence()), parameters={"explain": "lrp"})
    expected = engine.explain({"x": sequence()})
    assert names(result) == ["logits", "relevance:x", "explained"]
    np.testing.assert_array_equal(result.as_numpy("logits"), expected.outputs["logits"])
    np.testing.assert_array_equal(result.as_numpy("relevance:x"), expected.relevance["x"])
    np.testing.assert_array_equal(result.as_numpy("explained"), expected.explained)


CASES = {
    "product rule": ({"explain_product_rule": "half"}, lx.LRP("half"), lx.Target()),
    "epsilon and bias": ({"explain_epsilon": 0.05, "explain_bias_factor": 1.0}, lx.LRP("all", 0.05, 1.0), lx.Target()),
    "a whole number": ({"explain_bias_factor": 1}, lx.LRP(bias_factor=1), lx.Target()),
    "numbers as text": (
        {"explain_epsilon": "0.05", "explain_bias_factor": "1", "explain_target": "2"},
        lx.LRP("all", 0.05, 1.0),
        lx.Target(index=2),
    ),
    "target": ({"explain_target": 1}, lx.LRP(), lx.Target(index=1)),
    "target as on the command line": ({"explain_target": "logits:2"}, lx.LRP(), lx.Target("logits", 2)),
    "output only": ({"explain_target": "logits"}, lx.LRP(), lx.Target("logits")),
    "contrast": ({"explain_target": 0, "explain_contrast": 2}, lx.LRP(), lx.Target(index=0, contrast=2)),
    "gradient": ({"explain": "gradient"}, lx.Gradient(), lx.Target()),
    "steps": (
        {"explain": "integrated_gradients", "explain_steps": 7, "explain_target": 0},
        lx.IntegratedGradients(7),
        lx.Target(index=0),
    ),
    "seed": (
        {"explain": "shapley_sampling", "explain_permutations": "3", "explain_seed": 5},
        lx.ShapleySampling(3, 5),
        lx.Target(),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_parameters(client, engine: lx.Model, case: str) -> None:
    parameters, method, target = CASES[case]
    result = client.infer("lstm", given(sequence()), parameters={"explain": "lrp", **parameters})
    expected = engine.explain({"x": sequence()}, method, target)
    np.testing.assert_array_equal(result.as_numpy("relevance:x"), expected.relevance["x"])
    np.testing.assert_array_equal(result.as_numpy("explained"), expected.explained)


BAD = {
    "unknown method": ({"explain": "magic"}, "unknown method 'magic'"),
    "no text": ({"explain": True}, "name of a method"),
    "unknown parameter": ({"explain": "lrp", "explain_gamma": 1}, "unknown parameter 'gamma'"),
    "out of range": ({"explain": "lrp", "explain_epsilon": -1.0}, "epsilon"),
    "product rule": ({"explain": "lrp", "explain_product_rule": "most"}, "product_rule"),
    "target": ({"explain": "lrp", "explain_target": 7}, "7"),
    "target of no output": ({"explain": "lrp", "explain_target": "softmax:1"}, "softmax"),
    "target not an index": ({"explain": "lrp", "explain_target": "first"}, "first"),
    "target a fraction": ({"explain": "lrp", "explain_target": 1.5}, "1.5"),
    "no method": ({"explain_steps": 7}, "unknown parameter 'steps'"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_parameters(client, case: str) -> None:
    parameters, problem = BAD[case]
    with pytest.raises(utils.InferenceServerException, match=problem) as raised:
        client.infer("lstm", given(sequence()), parameters=parameters)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert client.infer("lstm", given(sequence())).as_numpy("logits") is not None


def test_parameters_without_our_prefix_are_ignored(client) -> None:
    result = client.infer("lstm", given(sequence()), parameters={"tenant": "a"}, priority=2, timeout=5, sequence_id=3)
    assert names(result) == ["logits"]


def test_requested_outputs_are_returned(client, engine: lx.Model) -> None:
    expected = ["explained", "ledger:residual", "relevance:x"]
    result = client.infer(
        "lstm",
        given(sequence()),
        outputs=[triton.InferRequestedOutput(name) for name in expected],
        parameters={"explain": "lrp"},
    )
    assert names(result) == expected
    np.testing.assert_array_equal(result.as_numpy("ledger:residual"), engine.explain({"x": sequence()}).ledger.residual)
    with pytest.raises(utils.InferenceServerException, match="no output 'relevance:x', only logits"):
        client.infer("lstm", given(sequence()), outputs=[triton.InferRequestedOutput("relevance:x")])


def test_text(client, models_folder: Path) -> None:
    texts = np.array([b"the plot is thin", b"not wonderful ."], dtype=object)
    result = client.infer("words", given(texts, "tokens"), parameters={"explain": "lrp", "explain_epsilon": 0.01})
    ids = np.array([[WORDS.index(w) for w in ("the", "plot", "is", "thin")], [2, 1, 10, 0]])
    engine = lx.load(models_folder / "words" / "1" / "model.onnx")
    expected = engine.explain({"tokens": ids}, lx.LRP(epsilon=0.01))
    np.testing.assert_array_equal(result.as_numpy("relevance:tokens"), expected.relevance["tokens"])
    assert result.as_numpy("tokens:tokens").tolist()[1] == [b"not", b"wonderful", b".", b""]
    plain = client.infer("words", given(texts, "tokens"))
    np.testing.assert_array_equal(plain.as_numpy("logits"), engine.predict({"tokens": ids})["logits"])
    again = client.infer("words", given(ids, "tokens"))
    np.testing.assert_array_equal(again.as_numpy("logits"), plain.as_numpy("logits"))


def test_wrong_inputs(client) -> None:
    shared = triton.InferInput("x", [2, 7, 4], "FP32")
    shared.set_shared_memory("region", 224)
    for inputs, problem in (
        (given(sequence(), "y"), "no input 'y'"),
        ([], "missing"),
        (given(sequence()[0]), "shape"),
        (given(sequence().astype("i8")), "int64"),
        (given(sequence().astype("f8") * 1e300), "float32 cannot represent"),
        ([shared], "shared memory"),
        (given(sequence()) * 2, "twice"),
    ):
        with pytest.raises(utils.InferenceServerException, match=problem) as raised:
            client.infer("lstm", inputs)
        assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_model_without_a_rule_still_predicts(client) -> None:
    x = np.ones((1, 2, 2), np.float32)
    assert client.infer("no-rule", given(x)).as_numpy("logits").tolist() == [0.0]
    with pytest.raises(utils.InferenceServerException, match="determinant") as raised:
        client.infer("no-rule", given(x), parameters={"explain": "lrp"})
    assert raised.value.status() == "StatusCode.FAILED_PRECONDITION"


def test_asynchronous_calls(client, engine: lx.Model) -> None:
    done: Queue = Queue()
    for seed in range(8):
        client.async_infer(
            "lstm",
            given(sequence(seed=seed)),
            lambda result, error: done.put((result, error)),
            request_id=str(seed),
            parameters={"explain": "lrp"},
        )
    for _ in range(8):
        result, error = done.get(timeout=20)
        assert error is None
        expected = engine.explain({"x": sequence(seed=int(result.get_response().id))})
        np.testing.assert_array_equal(result.as_numpy("relevance:x"), expected.relevance["x"])


def test_a_stream_answers_in_order_and_outlives_its_errors(running: Running, engine: lx.Model) -> None:
    done: Queue = Queue()
    with triton.InferenceServerClient(running.address) as client:
        client.start_stream(lambda result, error: done.put((result, error)))
        for seed in range(30):
            method = "lrp" if seed % 7 else "magic"
            client.async_stream_infer(
                "lstm", given(sequence(seed=seed)), request_id=str(seed), parameters={"explain": method}
            )
        client.stop_stream()
    for seed in range(30):
        result, error = done.get(timeout=20)
        if seed % 7 == 0:
            assert "magic" in str(error)
            continue
        assert result.get_response().id == str(seed)
        expected = engine.explain({"x": sequence(seed=seed)})
        np.testing.assert_array_equal(result.as_numpy("relevance:x"), expected.relevance["x"])


def test_many_callers(running: Running, engine: lx.Model) -> None:
    wrong: list[int] = []

    def caller(number: int) -> None:
        with triton.InferenceServerClient(running.address) as client:
            for seed in range(number * 10, number * 10 + 10):
                x = sequence(1 + seed % 3, 3 + seed % 5, seed)
                result = client.infer("lstm", given(x), parameters={"explain": "lrp"})
                if not np.array_equal(result.as_numpy("relevance:x"), engine.explain({"x": x}).relevance["x"]):
                    wrong.append(seed)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
