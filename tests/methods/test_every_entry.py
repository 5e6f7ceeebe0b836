# SPDX-License-Identifier: Apache-2.0
"""Every entry of an output along an axis as a target of its own: which targets that are, and what they explain."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.target_sets import count_of, parse_targets
from tests.builders import recurrent_model
from tests.graph_builder import GraphBuilder

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 4, 3)).astype(np.float32)  # [batch, steps, features]


def scores(transposed: bool = False) -> onnx.ModelProto:
    """x [batch, steps, 3] to scores [batch, steps, 5]; time first where `transposed`."""
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["batch", "steps", 3])
    y = g.op("Tanh", [g.op("MatMul", [x, g.constant(RNG.normal(size=(3, 5)), "W")])])
    if transposed:
        y = g.op("Transpose", [y], perm=[1, 0, 2])
    return g.model(y, ["steps", "batch", 5] if transposed else ["batch", "steps", 5])


def assert_each(model: lx.Model, feeds: dict, targets: object, expected: list[lx.Target], method: lx.Method) -> None:
    found = model.explain_many(feeds, method, targets)
    assert len(found) == len(expected)
    for one, target in zip(found, expected, strict=True):
        alone = model.explain(feeds, method, target)
        np.testing.assert_array_equal(one.explained, alone.explained)
        np.testing.assert_array_equal(one.target.index, alone.target.index)
        for name in feeds:
            assert one.relevance[name].tobytes() == alone.relevance[name].tobytes()
        assert one.ledger.absorbed.tobytes() == alone.ledger.absorbed.tobytes()


@pytest.mark.parametrize("method", [lx.LRP(), lx.LRP("half"), lx.Occlusion()], ids=lambda m: f"{m.name} {m.variant}")
@pytest.mark.parametrize("words", ["every class", "every step", lx.Every()])
def test_every_class_of_one_axis(method: lx.Method, words: object) -> None:
    """An output with one axis beside that of samples: steps of a forecast and classes are the same."""
    built = recurrent_model(np.random.default_rng(1), "GRU")
    feeds, model = built.feeds(np.random.default_rng(2), T=5, B=2), lx.load(built.model)
    assert_each(model, feeds, [words], [lx.Target(index=k) for k in range(3)], method)


@pytest.mark.parametrize("transposed", [False, True])
def test_scores_per_step(transposed: bool) -> None:
    model, feeds = lx.load(scores(transposed)), {"x": X}
    axis = 1 if transposed else 0
    y = np.moveaxis(model.predict(feeds)[model.default_output], axis, 0)

    def at(*index: int) -> lx.Target:
        return lx.Target(index=index, batch_axis=axis)

    shared = lx.Target(batch_axis=axis)
    for targets, expected in (
        (lx.Every(-1, target=lx.Target(index=2, batch_axis=axis)), [at(2, k) for k in range(5)]),
        (lx.Every(0, [0, -1], lx.Target(index=4, batch_axis=axis)), [at(0, 4), at(3, 4)]),
        (
            lx.Every(0, target=shared),
            [
                lx.Target(index=np.stack([np.full(2, t), y[:, t].argmax(axis=1)], axis=1), batch_axis=axis)
                for t in range(4)
            ],
        ),
    ):
        assert_each(model, feeds, [targets], expected, lx.LRP())


def test_words_with_a_position() -> None:
    model, feeds = lx.load(scores()), {"x": X}
    name = model.default_output
    expected = [lx.Target(index=(0, 4)), lx.Target(index=(3, 4)), lx.Target(index=(1, 1))]
    assert_each(model, feeds, f"steps 0,3 at 4; {name}:1,1", expected, lx.LRP())
    assert_each(model, feeds, f"{name}:classes 1 at 2", [lx.Target(index=(2, 1))], lx.LRP())


def test_classes_by_name() -> None:
    found = parse_targets("classes bad, good; good; every step at good", ["y"], {"y": ["bad", "fair", "good"]})
    assert isinstance(found[0], lx.Every)
    assert list(found[0].entries or ()) == [0, 2]
    assert isinstance(found[1], lx.Target)
    assert found[1].index == 2
    assert isinstance(found[2], lx.Every)
    assert found[2].target.index == (2,)


@pytest.mark.parametrize(
    ("targets", "field", "word"),
    [
        (lx.Every(), "target.index", "other axes"),  # which step?
        (lx.Every(2), "target.axis", "no axis 2"),
        (lx.Every(0, [4]), "target.entries", "no entry 4"),
        (lx.Every(0, target=lx.Target(index=9)), "target.index", "outside"),
        (lx.Every(target=lx.Target(contrast=0)), "target.contrast", "no contrast"),
        (lx.Every(target=lx.Target(batch_axis=7)), "target.batch_axis", "no axis 7"),
        ("every sample", "target", "every sample"),
        ("steps one", "target", "steps one"),
        ("nowhere:every class", "target.output", "nowhere"),
    ],
)
def test_what_there_is_not(targets: object, field: str, word: str) -> None:
    with pytest.raises(lx.TargetError, match=word) as caught:
        lx.load(scores()).explain_many({"x": X}, lx.LRP(), [targets])
    assert caught.value.field == field


def test_the_number_of_targets_before_the_model_has_run() -> None:
    shapes = {"y": ("batch", "steps", 5), "z": ("batch", "unknown")}
    listed = [lx.Target(), lx.Every(), lx.Every(0), lx.Every(0, [1, 2]), lx.Every(target=lx.Target("z"))]
    assert count_of(listed, shapes, {"batch": 2, "steps": 4}) == 1 + 5 + 4 + 2 + 1
