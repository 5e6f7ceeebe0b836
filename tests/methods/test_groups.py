# SPDX-License-Identifier: Apache-2.0
"""Groups of entries: their relevance is the sum of that of their entries, and the model itself says what players are
worth.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.repository.group_notation import groups_from_text
from lstm_explain.runner.change_points import change_points
from tests.builders import recurrent_model
from tests.serving.models import words, write_version

T, B, D = 11, 3, 3
TARGET = lx.Target(index=1)
FEATURES = {"weather": [0, 2]}
METHODS = [
    lx.LRP(),
    lx.GradientTimesInput(),
    lx.IntegratedGradients(10),
    lx.Occlusion(window=2),
    lx.ShapleySampling(3),
    lx.ShapleySampling(3, exact_players=0, over="cells"),
]


@pytest.fixture(scope="module")
def made() -> tuple[lx.Model, dict[str, Any]]:
    rng = np.random.default_rng(3)
    built = recurrent_model(rng, D=D, H=4, batch_first=True)
    return lx.load(built.model), built.feeds(rng, T=T, B=B)


def score(model: lx.Model, x: Any) -> Any:
    return model.predict({"x": x})["logits"][:, 1].astype(np.float64)


def members(own: Any, sample: int, number: int) -> tuple[slice, list[int]]:
    """The steps and the features of a group of x, read from its name and its steps."""
    start, end = own.steps[sample, number]
    name = own.names[sample, number]
    feature = [0, 2] if "weather" in name else [1] if "other" in name else [0, 1, 2]
    assert f"{start}-{end - 1}" in name or f"step {start}" in name or (start, end) == (0, T)
    return slice(start, end), feature


GROUPS = {
    "windows": lx.Groups(window=4),
    "features": lx.Groups(features=FEATURES),
    "both": lx.Groups(window=4, features={"x": FEATURES}),
    "segments": lx.Groups(change_points=lx.ChangePoints(3, penalty=0.0)),
}


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_the_relevance_of_a_group_is_the_sum_over_its_entries(made: Any, method: lx.Method, groups: lx.Groups) -> None:
    model, feeds = made
    e = model.explain(feeds, method, TARGET, groups=groups)
    own, seen = e.groups["x"], np.zeros((B, T, D))
    for sample, number in np.ndindex(own.names.shape):
        if own.names[sample, number]:
            steps, features = members(own, sample, number)
            entries = e.relevance["x"][sample, steps][:, features]
            assert own.relevance[sample, number] == pytest.approx(entries.sum(dtype=np.float64), abs=1e-7)
            seen[sample, steps, np.array(features)[:, None]] += 1
    assert (seen == 1).all()  # every entry is in one group
    np.testing.assert_allclose(own.relevance.sum(axis=1), e.ledger.inputs, atol=1e-6)


def by_definition(model: lx.Model, x: Any, own: Any) -> Any:
    """The Shapley values of the groups of one sample: the mean gain over all orders."""
    count = own.names.shape[1]

    def worth(present: tuple[int, ...]) -> float:
        changed = np.zeros_like(x)
        for number in present:
            steps, features = members(own, 0, number)
            changed[0, steps, np.array(features)[:, None]] = x[0, steps, np.array(features)[:, None]]
        return float(score(model, changed)[0])

    known = {c: worth(c) for size in range(count + 1) for c in itertools.combinations(range(count), size)}
    values = np.zeros(count)
    for order in itertools.permutations(range(count)):
        for place, player in enumerate(order):
            before = tuple(sorted(order[:place]))
            values[player] += known[tuple(sorted((*before, player)))] - known[before]
    return values / math.factorial(count)


@pytest.mark.parametrize("name", ["windows", "both", "segments"])
def test_few_players_have_the_exact_shapley_values(made: Any, name: str) -> None:
    """Segments differ between samples, so each sample also equals its answer alone."""
    model, feeds = made
    e = model.explain(feeds, lx.ShapleySampling(), TARGET, groups=GROUPS[name])
    assert not e.standard_error["x"].any()
    assert e.method.over == "groups"
    for sample in range(B):
        x = feeds["x"][sample : sample + 1]
        alone = model.explain({"x": x}, lx.ShapleySampling(), TARGET, groups=GROUPS[name]).groups["x"]
        of_batch = e.groups["x"].of(sample)
        assert alone.names[0].tolist() == of_batch.names.tolist()
        np.testing.assert_allclose(of_batch.relevance, alone.relevance[0], atol=1e-5)
        np.testing.assert_allclose(of_batch.relevance, by_definition(model, x, alone), atol=1e-5)


def test_occlusion_replaces_a_group_as_a_whole(made: Any) -> None:
    model, feeds = made
    e = model.explain(feeds, lx.Occlusion(window=3, baseline=0.5), TARGET, groups=GROUPS["both"])
    own = e.groups["x"]
    for number in range(own.names.shape[1]):
        x = feeds["x"].copy()
        steps, features = members(own, 0, number)
        x[:, steps, np.array(features)[:, None]] = 0.5
        np.testing.assert_allclose(own.relevance[:, number], score(model, feeds["x"]) - score(model, x), atol=2e-6)


def test_orders_are_added_until_the_standard_error_suffices(made: Any) -> None:
    model, feeds = made
    exact = model.explain(feeds, lx.ShapleySampling(exact_players=11), TARGET).relevance["x"].sum(axis=2)
    few = model.explain(feeds, lx.ShapleySampling(4), TARGET).standard_error["x"].sum(axis=2).max()
    wanted = few / 20
    found = model.explain(feeds, lx.ShapleySampling(4, standard_error=wanted), TARGET)
    error = found.standard_error["x"].sum(axis=2)
    assert 0 < error.max() <= wanted
    assert not found.warnings
    assert (np.abs(found.relevance["x"].sum(axis=2) - exact) <= 5 * error.max()).all()
    stopped = model.explain(feeds, lx.ShapleySampling(4, standard_error=wanted, max_permutations=6), TARGET)
    assert stopped.standard_error["x"].sum(axis=2).max() > wanted
    assert "after 6 orders, the standard error is up to" in stopped.warnings[0]


def test_groups_are_those_of_the_answer_to_several_targets_and_to_a_measure(made: Any) -> None:
    model, feeds = made
    many = model.explain_many(feeds, lx.ShapleySampling(), [0, 1], groups=GROUPS["both"])
    alone = model.explain(feeds, lx.ShapleySampling(), TARGET, groups=GROUPS["both"])
    np.testing.assert_array_equal(many[1].groups["x"].relevance, alone.groups["x"].relevance)
    logits = model.predict(feeds)["logits"]
    measure = lx.Target(measure=lx.Measure("mean_squared_error", np.zeros_like(logits)))
    e = model.explain(feeds, lx.Occlusion(), measure, groups=GROUPS["windows"])
    hidden = feeds["x"].copy()
    hidden[:, :4] = 0
    lost = (logits**2).mean(axis=1) - (model.predict({"x": hidden})["logits"] ** 2).mean(axis=1)
    np.testing.assert_allclose(e.groups["x"].relevance[:, 0], lost, atol=1e-6)


def test_a_sample_is_valued_at_its_own_length() -> None:
    """Padding has no value, and groups that lie in it have none either."""
    rng = np.random.default_rng(8)
    built = recurrent_model(rng, D=D, H=4, head="mean", sequence_lens=True)
    model, feeds = lx.load(built.model), built.feeds(rng, T=9, B=2)
    (lengths,) = (name for name in feeds if name != "x")
    feeds[lengths] = np.array([9, 4], feeds[lengths].dtype)
    e = model.explain(feeds, lx.ShapleySampling(), TARGET, groups=lx.Groups(window=3))
    own = e.groups["x"]
    np.testing.assert_allclose(own.relevance.sum(axis=1) + e.ledger.absorbed, e.explained, atol=1e-5)
    assert own.relevance[1, 0] != 0
    assert own.relevance[1, 2] == 0


# --- words -----------------------------------------------------------------------------------------------------------


def test_a_word_is_all_of_its_tokens(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "subwords", words(), config="tokenizer: {file: t.json, input: tokens}\n")
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "un": 2, "##believ": 3, "##able": 4, "film": 5, "##s": 6, ".": 7, "a": 8}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "vocab": vocabulary,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    }
    (folder / "t.json").write_text(json.dumps(tokenizer))
    model = lx.load(folder)
    texts = ["unbelievable films.", "a film"]
    for method in (lx.LRP(), lx.ShapleySampling()):
        e = model.explain({"tokens": texts}, method, TARGET, groups=lx.Groups(words=True))
        own = e.groups["tokens"]
        assert own.names.tolist() == [["unbelievable", "films", "."], ["a", "film", "(padding)"]]
        assert own.steps[0].tolist() == [[0, 3], [3, 5], [5, 6]]
        tokens = e.relevance["tokens"]
        np.testing.assert_allclose(own.relevance[0], np.add.reduceat(tokens[0], [0, 3, 5]), atol=1e-6)
        np.testing.assert_allclose(own.relevance[1], np.add.reduceat(tokens[1], [0, 1, 2]), atol=1e-6)
    ids = np.array([[2, 3, 4, 5, 6, 7]])
    with pytest.raises(lx.InputError, match="no input came as text"):
        model.explain({"tokens": ids}, groups=lx.Groups(words=True))
    without = model.predict({"tokens": np.array([[0, 0, 0, 5, 6, 7]])})["logits"][0, 1]
    fall = model.predict({"tokens": ids})["logits"][0, 1] - without
    occluded = model.explain({"tokens": texts[:1]}, lx.Occlusion(), TARGET, groups=lx.Groups(words=True))
    assert occluded.groups["tokens"].relevance[0, 0] == pytest.approx(fall, abs=1e-6)


# --- change points ---------------------------------------------------------------------------------------------------


def test_planted_change_points_are_found() -> None:
    rng = np.random.default_rng(11)
    series = rng.normal(size=(200, 2))
    series[60:, 0] += 5
    series[140:, 1] -= 4
    found = change_points(series, 10)
    assert len(found) == 3
    assert np.abs(np.array(found) - [0, 60, 140]).max() <= 1
    assert change_points(rng.normal(size=(200, 2)), 10) == [0]
    assert change_points(np.full((50, 1), 7.0), 10) == [0]
    assert change_points(series[:1], 10) == [0]
    assert len(change_points(rng.normal(size=(200, 2)), 5, penalty=0.0)) == 5


def test_the_first_cut_is_the_best_of_all() -> None:
    series = np.random.default_rng(12).normal(size=(30, 1)).cumsum(axis=0)

    def cost(part: Any) -> float:
        return float(((part - part.mean(axis=0)) ** 2).sum())

    best = min(range(1, 30), key=lambda cut: cost(series[:cut]) + cost(series[cut:]))
    assert change_points(series, 2, penalty=0.0) == [0, best]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (lx.Groups(), "expected a window, words, change points or features"),
        (lx.Groups(window=0), "window is 0, expected a whole number of at least 1"),
        (lx.Groups(window=2, change_points=lx.ChangePoints()), "window and change_points exclude each other"),
        (lx.Groups(change_points=lx.ChangePoints(0)), "segments is 0"),
        (lx.Groups(change_points=lx.ChangePoints(2, -1.0)), "penalty is -1.0"),
        (lx.Groups(features={"a": [0], "b": [0]}), "feature 0 of input 'x' is in the groups 'a' and 'b'"),
        (lx.Groups(features={"a": ["rain"]}), "input 'x' has no feature 'rain', expected a position below 3"),
        (lx.Groups(features={"y": {"a": [0]}}), "there is no input 'y', only x"),
        (lx.Groups(features=True), "the model has no feature groups"),
        (lx.Groups(features={1: [0]}), "needs a name and a list of features"),
        (lx.Groups(features={"a": 0}), "needs a name and a list of features"),
        (lx.Groups(change_points=3), "change_points is 3, expected ChangePoints"),
        (lx.Groups(change_points=lx.ChangePoints(2, "a")), "penalty is 'a'"),
        ("window=2", "groups is 'window=2', expected Groups"),
        ({"window": 2}, "expected Groups"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_groups_that_make_no_sense_are_refused(made: Any, groups: lx.Groups, said: str) -> None:
    model, feeds = made
    with pytest.raises(lx.InputError, match=said) as refused:
        model.explain(feeds, groups=groups)
    assert refused.value.field.startswith("groups")


@pytest.mark.parametrize("text", ["window=3; window=5", "features.a=0; features", "features.a=0; features.a=1"])
def test_what_is_given_twice_in_words_is_refused(text: str) -> None:
    with pytest.raises(lx.InputError, match="is given twice"):
        groups_from_text(text)


def test_players_are_no_groups_without_groups(made: Any) -> None:
    model, feeds = made
    with pytest.raises(lx.MethodError, match="the request has no groups"):
        model.explain(feeds, lx.Occlusion(over="groups"))
