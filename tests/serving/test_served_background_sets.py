# SPDX-License-Identifier: Apache-2.0
"""A model's background set over the wire: by methods' messages, as text, by ModelInfer and on the command line."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import lstm_explain as lx
import lstm_explain_client
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import method_pb2, model_pb2, model_pb2_grpc
from tests.serving.calling import array_of, infer, refusal, request, sequence, stub, tensor
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, command, serving

SAMPLES = np.random.default_rng(81).normal(size=(6, 7, 4)).astype(np.float32)
BY_DEFAULT = "method: {name: occlusion, baseline: 'background(draws=4, seed=2)'}\n"
NAMES = ["integrated_gradients", "gradient_shap", "occlusion", "shapley_sampling"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, config in (("lstm", ""), ("by-default", BY_DEFAULT)):
        np.savez(write_version(root, name, lstm(), config=config) / "background.npz", x=SAMPLES)
    write_version(root, "without", lstm())
    write_version(root, "needing", lstm(), config=BY_DEFAULT)
    np.savez(write_version(root, "bad", lstm()) / "background.npz", x=SAMPLES[:, :, :3])
    write_version(root, "limited", lstm(), config="limits: {max_samples: 200}\n")
    np.savez(root / "limited" / "background.npz", x=SAMPLES)
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(folder, "--allow-import") as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[grpc.Channel]:
    with server.channel() as channel:
        yield channel


def engine(name: str, **options: Any) -> lx.Explanation:
    background = lx.Background({"x": SAMPLES}, **options)
    return lx.load(lstm()).explain({"x": sequence()}, lx.method_from_name(name, {"baseline": background}))


def message(name: str, **fields: Any) -> method_pb2.Method:
    method = method_pb2.Method()
    getattr(method, name).background.MergeFrom(method_pb2.Background(**fields))
    return method


def refused(channel: grpc.Channel, model: str, method: method_pb2.Method) -> Any:
    with pytest.raises(grpc.RpcError) as error:
        stub(channel).Explain(request(model, method=method), timeout=60)
    return refusal(error.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"draws": 3, "seed": 5}], ids=["all", "some"])
def test_a_request_names_the_background_of_the_model(channel: grpc.Channel, name: str, options: Any) -> None:
    answer = stub(channel).Explain(request(method=message(name, **options)), timeout=120)
    expected = engine(name, **options)
    np.testing.assert_array_equal(array_of(answer.relevance[0]), expected.relevance["x"])
    sampled = [array_of(error) for error in answer.standard_error]
    np.testing.assert_array_equal(sampled, [*expected.standard_error.values()])
    used = getattr(answer.method, name).background
    assert (used.draws, used.seed) == (options.get("draws", 20), options.get("seed", 0))
    assert not used.samples
    assert not getattr(answer.method, name).baseline


def test_a_request_may_bring_its_samples(channel: grpc.Channel) -> None:
    answer = stub(channel).Explain(
        request("without", method=message("occlusion", samples=[tensor("x", SAMPLES)], draws=3)), timeout=60
    )
    np.testing.assert_array_equal(array_of(answer.relevance[0]), engine("occlusion", draws=3).relevance["x"])


def test_a_default_method_may_use_it(channel: grpc.Channel) -> None:
    expected = engine("occlusion", draws=4, seed=2)
    by_default = stub(channel).Explain(request("by-default"), timeout=60)
    np.testing.assert_array_equal(array_of(by_default.relevance[0]), expected.relevance["x"])
    asked = model_pb2.GetModelRequest(name="by-default")
    detail = model_pb2_grpc.ModelServiceStub(channel).GetModel(asked, timeout=30).model
    assert detail.background_samples == {"x": 6}
    again = stub(channel).Explain(request("by-default", method=detail.default_method), timeout=60)
    np.testing.assert_array_equal(array_of(again.relevance[0]), expected.relevance["x"])
    other = stub(channel).Explain(request("by-default", parameters={"baseline": "0.5"}), timeout=60)
    plain = lx.load(lstm()).explain({"x": sequence()}, lx.Occlusion(baseline=0.5))
    np.testing.assert_array_equal(array_of(other.relevance[0]), plain.relevance["x"])


def test_the_python_client_names_it(server: Running) -> None:
    with lstm_explain_client.Client(server.address) as client:
        method = lstm_explain_client.Occlusion(background=lstm_explain_client.Background(draws=3))
        typed = client.explain("lstm", {"x": sequence()}, method=method)
        as_text = client.explain("by-default", {"x": sequence()}, parameters={"baseline": "background(draws=3)"})
        assert client.model("lstm").background_samples == {"x": 6}
        assert client.model("without").background_samples == {}
    expected = engine("occlusion", draws=3)
    for result in (typed, as_text):
        np.testing.assert_array_equal(result.relevance["x"], expected.relevance["x"])
        assert result.method.background.draws == 3  # type: ignore[union-attr]


def test_model_infer_names_it(channel: grpc.Channel) -> None:
    asked = infer("lstm", sequence())
    asked.parameters["explain"].string_param = "occlusion"
    asked.parameters["explain_baseline"].string_param = "background(draws=3)"
    for name in ("relevance:x", "standard_error:x"):
        asked.outputs.add(name=name)
    answer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=60)
    expected = engine("occlusion", draws=3)
    found = {output.name: np.array(output.contents.fp32_contents, np.float32) for output in answer.outputs}
    if answer.raw_output_contents:
        found = dict(zip(found, (np.frombuffer(b, np.float32) for b in answer.raw_output_contents), strict=True))
    np.testing.assert_array_equal(found["relevance:x"], expected.relevance["x"].ravel())
    np.testing.assert_array_equal(found["standard_error:x"], expected.standard_error["x"].ravel())


def test_the_command_line_names_it(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", sequence())
    subprocess.run(
        command(
            "explain", str(folder / "lstm"), "--input", f"x={tmp_path / 'x.npy'}", "--method", "occlusion",
            "--param", "baseline=background(draws=3)", "--out", str(tmp_path / "out.npz"),
        ),
        check=True,
    )  # fmt: skip
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_array_equal(out["relevance/x"], engine("occlusion", draws=3).relevance["x"])
    shown = subprocess.run(
        command(
            "explain", str(folder / "lstm"), "--input", f"x={tmp_path / 'x.npy'}", "--method", "occlusion",
            "--param", "baseline=background", "--json",
        ),
        check=True, capture_output=True,
    )  # fmt: skip
    assert json.loads(shown.stdout)["method"]["baseline"] == "background(draws=20, seed=0)"


def test_a_model_without_a_background_refuses(channel: grpc.Channel) -> None:
    answer = refused(channel, "without", message("occlusion"))
    assert answer.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "the model has no background set (background.npz)" in answer.message
    both = message("occlusion")
    both.occlusion.baseline.append(tensor("x", SAMPLES[0, 0]))
    assert "baseline and background exclude each other" in refused(channel, "lstm", both).message
    assert "draws is -1" in refused(channel, "lstm", message("occlusion", draws=-1)).message


def test_the_limit_on_samples_counts_draws(channel: grpc.Channel) -> None:
    """Two samples of seven steps: 14 runs for each draw, and 6 draws at most, of the 100 that are asked for."""
    for draws in (6, 100):
        method = message("occlusion", draws=draws)
        assert stub(channel).Explain(request("limited", method=method), timeout=60).relevance
    method = message("shapley_sampling", draws=6)
    method.shapley_sampling.exact_players = 0
    problem = refused(channel, "limited", method).message
    assert "shapley_sampling would run the model on 504 samples, at most 200 are allowed" in problem


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("bad", "background.npz: entry 'x' has shape (6, 7, 3), expected (samples"),
        ("needing", "model.yaml:1: method.baseline: occlusion: the model has no background set (background.npz)"),
    ],
)
def test_a_model_with_a_bad_file_is_failed_with_the_reason(channel: grpc.Channel, model: str, problem: str) -> None:
    detail = model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(name=model), timeout=30).model
    assert detail.summary.state == model_pb2.MODEL_STATE_FAILED
    assert problem in detail.summary.reason


def test_an_import_carries_it(channel: grpc.Channel) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=SAMPLES)
    model, file = lstm().SerializeToString(), buffer.getvalue()

    def announced(data: bytes, **fields: Any) -> dict[str, Any]:
        return {**fields, "sha256": hashlib.sha256(data).digest(), "size": len(data)}

    parts = [
        model_pb2.ImportModelRequest(start=announced(model, name="imported")),
        model_pb2.ImportModelRequest(chunk=model),
        model_pb2.ImportModelRequest(file=announced(file, name="background.npz")),
        model_pb2.ImportModelRequest(chunk=file),
    ]
    service = model_pb2_grpc.ModelServiceStub(channel)
    assert service.ImportModel(iter(parts), timeout=60).model.background_samples == {"x": 6}
    answer = stub(channel).Explain(request("imported", method=message("occlusion", draws=3)), timeout=60)
    np.testing.assert_array_equal(array_of(answer.relevance[0]), engine("occlusion", draws=3).relevance["x"])
