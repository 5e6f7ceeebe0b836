# SPDX-License-Identifier: Apache-2.0
"""An explanation of the engine shows itself as the client's result of the same request does."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from rich.console import Console

import lstm_explain as lx
import lstm_explain_client
from lstm_explain.methods import METHODS
from lstm_explain.serving.wire.methods import from_method
from lstm_explain_client import Client
from lstm_explain_client.methods import from_wire_method
from tests.client.conftest import start
from tests.serving import models as stored

X = np.random.default_rng(5).standard_normal((2, 7, stored.FEATURES)).astype(np.float32)
TEXTS = ["the plot is thin", "not a bad film"]
SERIES = "features: {x: [rain, snow, wind, sun]}\nunits: {x: [mm, mm, m/s, h], logits: m3/s}\n"
TEXT = "tokenizer: {file: tokenizer.json, input: tokens}\nclasses: {logits: [bad, fair, good]}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    stored.write_version(folder, "series", stored.lstm(), config=SERIES)
    stored.write_tokenizer(stored.write_version(folder, "text", stored.words(), config=TEXT))
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    server = start(folder, "--metrics-listen", "127.0.0.1:0")
    with Client(server.address) as client:
        yield client
    server.process.terminate()
    server.process.wait(timeout=30)


def printed(shown: Any, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(shown)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("model", "inputs", "method", "target"),
    [
        ("series", {"x": X}, lx.LRP(), 1),
        ("series", {"x": X}, lx.LRP(product_rule="half", epsilon=0.01), {"index": 1, "contrast": 0}),
        ("series", {"x": X}, lx.Occlusion(over="features"), {"weights": np.ones(3, np.float32)}),
        ("series", {"x": X[:1]}, lx.IntegratedGradients(), None),
        ("text", {"tokens": TEXTS}, lx.LRP(), 2),
        ("text", {"tokens": TEXTS[0]}, lx.ContextualDecomposition(), None),
    ],
)
def test_it_looks_like_the_answer_of_a_server(
    folder: Path, client: Client, model: str, inputs: dict[str, Any], method: lx.Method, target: Any
) -> None:
    fields = target if isinstance(target, dict) else {"index": target}
    local = lx.load(folder / model).explain(inputs, method, lx.Target(**fields))
    remote = client.explain(model, inputs, from_wire_method(from_method(method)), target)
    assert local.to_html(title="t") == remote.to_html(title="t")
    assert local._repr_html_() == remote._repr_html_()
    assert local.sample_html(len(local) - 1) == remote.sample_html(len(local) - 1)
    assert printed(local) == printed(remote)
    assert repr(local).partition("(")[2] == repr(remote).partition("(")[2]
    assert local.to_frame().equals(remote.to_frame())
    assert local.plot().get_suptitle() == remote.plot().get_suptitle()


def test_names_need_no_second_call(client: Client) -> None:
    shown = client.explain("text", {"tokens": TEXTS[0]}, target=2)
    assert "logits[good] = " in shown.to_html()
    assert "rain (mm)" in printed(client.explain("series", {"x": X}))


def test_a_version_is_described_once(client: Client, folder: Path) -> None:
    asked: list[str] = []
    fresh = Client(client._connection.address)
    get = fresh._models.GetModel
    fresh._models.GetModel = lambda request, **options: asked.append(request.name) or get(request, **options)
    for model, inputs in (("text", {"tokens": TEXTS}), ("series", {"x": X}), ("text", {"tokens": TEXTS})):
        fresh.explain(model, inputs)
    assert [a.result.detail.name for a in fresh.explain_stream([{"model": "text", "inputs": {"tokens": TEXTS}}])]
    assert asked == ["text", "series"]
    fresh.close()
    with Client(client._connection.address, names=False) as nameless:
        assert nameless.explain("text", {"tokens": TEXTS}).detail is None


async def test_the_asynchronous_client_shows_names_too(client: Client) -> None:
    async with lstm_explain_client.AsyncClient(client._connection.address) as calling:
        assert "logits[good] = " in (await calling.explain("text", {"tokens": TEXTS[0]}, target=2)).to_html()


def test_words_in_place_of_objects(folder: Path) -> None:
    model = lx.load(folder / "text")
    answer = model.explain({"tokens": TEXTS}, method="gradient_times_input", target="good")
    assert answer.target.index.tolist() == [[2], [2]]
    assert answer.tokens["tokens"].tolist() == [text.split() for text in TEXTS]
    ids = np.array([[stored.WORDS.index(word) for word in text.split()] for text in TEXTS])
    same = model.explain({"tokens": ids}, lx.GradientTimesInput(), lx.Target(index=2))
    assert answer.relevance["tokens"].tobytes() == same.relevance["tokens"].tobytes()
    np.testing.assert_array_equal(model.predict({"tokens": TEXTS})["logits"], model.predict({"tokens": ids})["logits"])
    with pytest.raises(lx.TargetError, match="bad, fair, good"):
        model.explain({"tokens": ids}, target="goood")
    for wrong in ([TEXTS], [1, "a"], []):
        with pytest.raises(lx.InputError, match="tokens"):
            model.explain({"tokens": wrong})


def test_a_model_says_what_it_takes(folder: Path) -> None:
    assert repr(lx.load(folder / "text")) == "Model('text', tokens int64 [batch, time] → logits float32 [batch, 3])"
    nameless = repr(lx.load(stored.lstm()))
    assert nameless.startswith("Model(x float32 [")


@pytest.mark.parametrize(
    "method",
    [
        *(kind() for kind in METHODS.values()),
        lx.LRP(product_rule="half", epsilon=1e-3),
        lx.LRP(stabiliser=(0.1, 0.2)),
        lx.LRP(composite=lx.Composite({"Conv": lx.Gamma(0.25)}, first=lx.ZBox(0.0, 1.0))),
        lx.Occlusion(baseline=lx.Background({"x": np.ones((3, 2))}, draws=2)),
        lx.Occlusion(baseline={"x": np.zeros(3)}),
        lx.ContextualDecomposition(span=(2, 5)),
    ],
    ids=lambda method: repr(method)[:40],
)
def test_a_method_has_the_same_text_on_both_sides(method: lx.Method) -> None:
    assert str(method) == str(from_wire_method(from_method(method)))


def test_the_engine_explains_and_draws_without_grpc(tmp_path: Path) -> None:
    onnx.save(stored.lstm(), str(tmp_path / "model.onnx"))
    code = (
        "import sys, numpy as np, lstm_explain as lx\n"
        f"lx.load({str(tmp_path / 'model.onnx')!r}).explain({{'x': np.ones((1, 3, 4), 'f4')}}).to_html()\n"
        "sys.exit('grpc' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
