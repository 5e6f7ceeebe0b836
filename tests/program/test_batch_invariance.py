# SPDX-License-Identifier: Apache-2.0
"""A sample's answer does not depend on its batch, on padding, or on the layout of memory."""

from __future__ import annotations

import numpy as np
import pytest

import lstm_explain as lx
from tests.builders import recurrent_model
from tests.engine_checks import batch_axis, check_same
from tests.program.layer_networks import EVERY_METHOD, MODELS, PAPERS, ragged

# --- samples in company ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", EVERY_METHOD, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_sample_alone_equals_itself_in_a_ragged_batch(name: str, how: lx.Method) -> None:
    """The sample is cut to its own length, because its padding does not matter."""
    built, feeds, model = ragged(name)
    together = model.explain(feeds, how, lx.Target(index=1))
    time = 1 if built.batch_first else 0
    for b, length in enumerate(feeds["lens"]):
        alone = {x: a.take([b], batch_axis(built, x)) for x, a in feeds.items()}
        if MODELS[name]["head"] == "Y_h":  # a mean or sum over all steps knows how many there are
            alone["x"] = alone["x"].take(range(length), time)
        e = model.explain(alone, how, lx.Target(index=1))
        for x in alone:
            expected = together.relevance[x].take([b], batch_axis(built, x))
            if x == "x":
                expected = expected.take(range(alone["x"].shape[time]), time)
            check_same(e.relevance[x], expected, 1e-9, x)
        np.testing.assert_allclose(e.explained[0], together.explained[b], rtol=1e-12)


@pytest.mark.parametrize("how", EVERY_METHOD, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_permuting_the_batch_permutes_the_answer(name: str, how: lx.Method) -> None:
    built, feeds, model = ragged(name)
    order = np.array([2, 0, 3, 1])
    classes = np.array([0, 1, 2, 1])
    straight = model.explain(feeds, how, lx.Target(index=classes))
    moved = {x: a.take(order, batch_axis(built, x)) for x, a in feeds.items()}
    mixed = model.explain(moved, how, lx.Target(index=classes[order]))
    for x in feeds:
        check_same(mixed.relevance[x], straight.relevance[x].take(order, batch_axis(built, x)), 1e-10, x)
    np.testing.assert_allclose(mixed.explained, straight.explained[order], rtol=1e-12)
    np.testing.assert_allclose(mixed.ledger.inputs, straight.ledger.inputs[order], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(mixed.ledger.absorbed, straight.ledger.absorbed[order], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_the_content_of_padding_does_not_matter(name: str) -> None:
    built, feeds, model = ragged(name)
    time_first = feeds["x"].swapaxes(0, 1) if built.batch_first else feeds["x"]
    past = np.arange(len(time_first))[:, None] >= feeds["lens"]
    other = time_first.copy()
    other[past] = 1e6
    again = {**feeds, "x": np.ascontiguousarray(other.swapaxes(0, 1) if built.batch_first else other)}
    for how in EVERY_METHOD:
        first, second = (model.explain(f, how, lx.Target(index=0)) for f in (feeds, again))
        np.testing.assert_array_equal(first.relevance["x"], second.relevance["x"])


def test_the_same_call_twice_gives_the_same_answer_and_leaves_the_inputs_alone() -> None:
    _built, feeds, model = ragged("lstm")
    kept = {x: a.copy() for x, a in feeds.items()}
    for how in EVERY_METHOD:
        first, second = (model.explain(feeds, how, lx.Target(index=0)) for _ in range(2))
        for x in feeds:
            np.testing.assert_array_equal(first.relevance[x], second.relevance[x])
            np.testing.assert_array_equal(feeds[x], kept[x])


def test_memory_layout_does_not_matter() -> None:
    _built, feeds, model = ragged("lstm")
    wide = np.zeros((*feeds["x"].shape[:2], 2 * feeds["x"].shape[2]))
    wide[:, :, ::2] = feeds["x"]
    for x in (np.asfortranarray(feeds["x"]), wide[:, :, ::2], feeds["x"][::-1].copy()[::-1]):
        for how in (lx.LRP("abs"), lx.Gradient()):
            a, b = (model.explain(f, how, lx.Target(index=2)) for f in (feeds, {**feeds, "x": x}))
            np.testing.assert_array_equal(a.relevance["x"], b.relevance["x"])


# --- float32, whose rounding LRP magnifies ---------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "how", [lx.LRP(epsilon=1e-3), lx.LRP("half", 1e-3), lx.LRP(epsilon=0.0), lx.Gradient()], ids=str
)
def test_a_float32_answer_does_not_depend_on_the_batch(op: str, how: lx.Method) -> None:
    """Batches have 1 to 13 samples, because products process eight, four and two samples at once. D and H are not
    multiples of the tiles.
    """
    rng = np.random.default_rng(7)
    built = recurrent_model(rng, op=op, D=5, H=37, sequence_lens=True, head="Y_h", direction="bidirectional")
    model, feeds = lx.load(built.model), built.feeds(rng, T=40, B=13)
    alone = [model.explain({x: a.take([b], batch_axis(built, x)) for x, a in feeds.items()}, how) for b in range(13)]
    for size in range(2, 14):
        some = {x: a.take(range(size), batch_axis(built, x)) for x, a in feeds.items()}
        together = model.explain(some, how)
        for b in range(size):
            expected, received = (
                e.relevance["x"].take(at, batch_axis(built, "x")) for e, at in ((alone[b], 0), (together, b))
            )
            assert np.abs(received - expected).max() <= 1e-6 * np.abs(expected).max(), (size, b)


def test_samples_that_float32_cannot_explain_change_nothing_for_the_others() -> None:
    """Some of these samples need float64."""
    rng = np.random.default_rng(3)
    model = lx.load("models/sentiment/1/model.onnx")
    tokens = rng.integers(1, 8000, (24, 40))
    together = model.explain({"tokens": tokens}, PAPERS)
    left = np.abs(together.ledger.residual / together.explained)
    assert (left < 1e-10).any()
    assert (left > 1e-8).any()
    for b in range(24):
        alone = model.explain({"tokens": tokens[b : b + 1]}, PAPERS)
        expected = alone.relevance["tokens"][0]
        assert np.abs(together.relevance["tokens"][b] - expected).max() <= 1e-6 * np.abs(expected).max()
        assert alone.ledger.residual[0] == pytest.approx(together.ledger.residual[b], abs=1e-9)


def test_samples_in_float64_change_nothing_for_the_others_with_captures() -> None:
    model, tokens = lx.load("models/sentiment/1/model.onnx"), np.random.default_rng(3).integers(1, 8000, (8, 40))
    (cell,) = model.engine.cells
    (y, *_) = next(node.outputs for node in model.engine.graph.nodes if node.name == cell)
    capture = {model.engine.cells[cell].node.inputs[0]: 1, f"{cell}.cell": 2} | ({y: 2} if y else {})
    together = model.explain({"tokens": tokens}, PAPERS, capture=list(capture))
    left = np.abs(together.ledger.residual / together.explained)
    assert (left < 1e-10).any()  # samples in float64
    assert (left > 1e-8).any()  # and others
    for b in range(8):
        alone = model.explain({"tokens": tokens[b : b + 1]}, PAPERS, capture=list(capture))
        assert alone.ledger.residual[0] == pytest.approx(together.ledger.residual[b], abs=1e-9)
        for name, axis in capture.items():
            received, expected = together.captured[name].take(b, axis), alone.captured[name].take(0, axis)
            assert np.abs(received - expected).max() <= 1e-6 * np.abs(expected).max()
