# SPDX-License-Identifier: Apache-2.0
"""Conditions on a prediction: what they say, whom they leave out, and that no backward pass runs for those."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.cancellation import CancelScope, cancel_scope
from lstm_explain.condition import Condition, PredictedClass, Threshold, parse_condition
from tests.conformance.models import steps
from tests.serving.models import lstm

NAMES = ("bad", "fair", "good")
X = np.random.default_rng(3).standard_normal((6, 7, 4)).astype(np.float32) * 3


# If reading one of these took other than linear time, it would not end.
LONG = (
    "change > 1 from " + "11, " * 5000 + "x",
    "explained > " + "1" * 1_000_000 + "x",
    "explained" + " " * 1_000_000 + "x",
    "explained and " * 20_000,
)


@pytest.fixture(scope="module")
def model() -> lx.Model:
    model = lx.load(lstm())
    model.labels = type(model.labels)(classes={"logits": NAMES})
    return model


@pytest.fixture(scope="module")
def logits(model: lx.Model) -> np.ndarray:
    return model.predict({"x": X})["logits"].astype(np.float64)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("probability > 0.8", [Threshold("probability", ">", 0.8)]),
        (" explained<=-1.5e-1 ", [Threshold("explained", "<=", -0.15)]),
        ("class is good", [PredictedClass(("good",))]),
        ("class is not 0, rock and roll or -1", [PredictedClass((0, "rock and roll", -1), True)]),
        ("change > 5 from 12.5", [Threshold("explained", ">", 5, (12.5,))]),
        ("change of probability >= .1 from 0.5, 0.25", [Threshold("probability", ">=", 0.1, (0.5, 0.25))]),
        (
            "class is good and probability > 0.9 and change < 2 from 1",
            [PredictedClass(("good",)), Threshold("probability", ">", 0.9), Threshold("explained", "<", 2, (1.0,))],
        ),
    ],
)
def test_words_are_read_and_written(text: str, expected: list[Any]) -> None:
    found = parse_condition(text)
    assert found == Condition(tuple(expected))
    assert parse_condition(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "probability",
        "0.8",
        "probability > high",
        "> 3",
        "change > 5",
        "explained > 5 from 3",
        "class good",
        "class is ",
    ],
)
def test_other_words_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(lx.InputError, match=r"expected conditions such as 'probability > 0\.8'") as refused:
        parse_condition(text)
    assert refused.value.field == "condition"
    assert repr(text.strip()) in str(refused.value)


@pytest.mark.parametrize("text", LONG, ids=lambda text: text[:20])
def test_long_texts_are_refused_at_once_and_in_short(text: str) -> None:
    with pytest.raises(lx.InputError, match="expected conditions such as") as refused:
        parse_condition(text)
    assert len(str(refused.value)) < 500


def test_a_class_of_many_digits_is_a_name(model: lx.Model) -> None:
    with pytest.raises(lx.InputError, match="there is no class"):
        model.explain({"x": X}, condition="class is " + "1" * 5000)


def conditions(logits: np.ndarray) -> dict[str, tuple[np.ndarray, Any]]:
    """Conditions on the largest entry, with whom NumPy finds to meet them."""
    best, top = logits.argmax(axis=1), logits.max(axis=1)
    chance = softmax(logits).max(axis=1)
    middle, level = float(np.median(chance)), float(np.median(top))
    before = top + np.where(np.arange(len(top)) % 2, 1.0, 0.1)
    listed = ", ".join(map(repr, before.tolist()))
    return {
        f"probability > {middle}": (chance > middle, chance),
        f"explained <= {level}": (top <= level, top),
        "class is not bad": (best != 0, best),
        f"class is 0 or good and explained > {level}": (np.isin(best, (0, 2)) & (top > level), best),
        f"change > 0.5 from {listed}": (np.abs(top - before) > 0.5, top),
        "probability > 1": (np.zeros(len(top), bool), chance),
        "probability > 0": (np.ones(len(top), bool), chance),
    }


@pytest.mark.parametrize("method", [lx.LRP(), lx.IntegratedGradients(steps=4), lx.Occlusion()], ids=lambda m: m.name)
def test_the_samples_that_meet_a_condition_are_explained_as_without_it(
    model: lx.Model, logits: np.ndarray, method: lx.Method
) -> None:
    whole = model.explain({"x": X}, method)
    for text, (meets, _) in conditions(logits).items():
        found = model.explain({"x": X}, method, condition=text)
        assert [not reason for reason in found.not_explained] == meets.tolist(), text
        np.testing.assert_allclose(found.relevance["x"][meets], whole.relevance["x"][meets], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.explained, whole.explained, rtol=1e-5)
        np.testing.assert_allclose(found.outputs["logits"], whole.outputs["logits"], rtol=1e-5)
        np.testing.assert_array_equal(found.target.index, whole.target.index)
        for part in ("inputs", "absorbed", "residual"):
            amounts, expected = getattr(found.ledger, part), getattr(whole.ledger, part)
            assert np.isnan(amounts[~meets]).all()
            np.testing.assert_allclose(amounts[meets], expected[meets], rtol=1e-4, atol=1e-5)
        assert np.isnan(found.relevance["x"][~meets]).all()
        assert len(found) == len(X)


def test_the_reasons_name_figure_class_and_limit(model: lx.Model, logits: np.ndarray) -> None:
    chance, best = softmax(logits), logits.argmax(axis=1)
    found = model.explain({"x": X}, target=2, condition="probability >= 0.999")
    assert found.not_explained == tuple(f'probability {p:.4g} of "good" is below 0.999' for p in chance[:, 2])
    other = next(name for at, name in enumerate(NAMES) if at not in best[:1])
    found = model.explain({"x": X[:1]}, condition=f"class is {other} and explained < -100")
    first = f'the predicted class is "{NAMES[best[0]]}", not "{other}"'
    second = f'explained {logits.max(axis=1)[0]:.4g} of "{NAMES[best[0]]}" is not below -100'
    assert found.not_explained == (f"{first}; {second}",)
    found = model.explain({"x": X[:1]}, target=1, condition=lx.Threshold("explained", ">", 500, (2.0,)))
    assert found.not_explained == (f'the change of explained from 2 to {logits[0, 1]:.4g} of "fair" is not above 500',)


def test_each_target_is_judged_by_itself_in_one_forward_pass(model: lx.Model, logits: np.ndarray) -> None:
    with cancel_scope(CancelScope(lambda: None)) as scope:
        found = model.explain_many({"x": X[:1]}, targets="every class", condition="probability > 2")
    assert all(all(one.not_explained) for one in found)
    assert scope.timings.keys() == {"forward"}, "no backward pass"
    assert scope.timings["forward"].times == 1
    best = int(logits[0].argmax())
    limit = np.sort(logits[0])[:2].mean()
    found = model.explain_many({"x": X[:1]}, targets=[0, 1, 2], condition=f"explained >= {limit}")
    assert [bool(one.not_explained[0]) for one in found] == (np.argsort(np.argsort(logits[0])) == 0).tolist()
    alone = model.explain({"x": X[:1]}, target=best)
    np.testing.assert_allclose(found[best].relevance["x"], alone.relevance["x"], rtol=1e-5, atol=1e-7)


def test_a_condition_on_a_measure_explains_only_large_errors(model: lx.Model, logits: np.ndarray) -> None:
    reference = logits.mean(axis=0)
    errors = ((logits - reference) ** 2).mean(axis=1)
    limit = float(np.median(errors))
    target = lx.Target(measure=lx.Measure("mean_squared_error", reference.astype(np.float32)))
    found = model.explain({"x": X}, target=target, condition=f"explained > {limit}")
    assert [not reason for reason in found.not_explained] == (errors > limit).tolist()
    np.testing.assert_allclose(found.explained, errors, rtol=1e-4, atol=1e-6)
    whole = model.explain({"x": X}, target=target)
    meets = errors > limit
    np.testing.assert_allclose(found.relevance["x"][meets], whole.relevance["x"][meets], rtol=1e-4, atol=1e-6)
    with pytest.raises(lx.InputError, match="a mean_squared_error, not a probability"):
        model.explain({"x": X}, target=target, condition="probability > 0.5")


@pytest.mark.parametrize("blank", [None, 0])
def test_a_condition_on_a_path_keeps_the_path_of_each_sample(blank: int | None) -> None:
    model, x = lx.load(steps().model), X[:3, :6]
    index = np.array([[1, 2], [3, 1], [2, 3]]) if blank == 0 else np.array([[0, 1, 2, 3, 0, 1]] * 2 + [[3] * 6])
    target = lx.Target(index=index, measure=lx.Measure("path_score", blank=blank))
    whole = model.explain({"x": x}, target=target)
    limit = float(np.sort(whole.explained)[1])
    found = model.explain({"x": x}, target=target, condition=f"explained > {limit}")
    meets = whole.explained > limit
    assert meets.sum() == 1
    np.testing.assert_allclose(found.relevance["x"][meets], whole.relevance["x"][meets], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.explained, whole.explained, rtol=1e-5)
    np.testing.assert_array_equal(found.target.index, whole.target.index)
    again = model.explain({"x": x}, target=found.target)
    np.testing.assert_array_equal(again.relevance["x"], whole.relevance["x"])


@pytest.mark.parametrize(
    "typed",
    [
        lambda: Condition(()),
        lambda: Condition(Threshold("probability", ">", 0.8)),  # type: ignore[arg-type]
        lambda: Threshold("probability", ">", "0.8"),  # type: ignore[arg-type]
        lambda: Threshold("probability", ">", 0.8, 0.4),  # type: ignore[arg-type]
        lambda: Threshold("probability", ">", float("nan")),
    ],
)
def test_typed_conditions_of_other_types_are_refused(typed: Any) -> None:
    with pytest.raises(lx.InputError, match="condition: ") as refused:
        typed()
    assert refused.value.field == "condition"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("class is great", r"no class 'great', there are bad, fair, good"),
        ("class is 3", r"no class 3, there are bad, fair, good"),
        ("change > 1 from 1, 2", r"there are 2 references for 6 samples"),
    ],
)
def test_a_condition_that_does_not_fit_the_model_is_refused(model: lx.Model, text: str, problem: str) -> None:
    with pytest.raises(lx.InputError, match=problem) as refused:
        model.explain({"x": X}, condition=text)
    assert refused.value.field == "condition"


def test_pictures_say_why_there_is_no_explanation(model: lx.Model) -> None:
    found = model.explain({"x": X[:2]}, target=2, condition="probability > 1")
    page = found.to_html()
    assert page.count("Not explained: probability") == 2
    assert "NaN" not in page
    assert "nan" not in page
    with pytest.raises(ValueError, match=r"sample 1 is not explained: probability"):
        found.plot(1)
    several = model.explain_many({"x": X[:1]}, targets="every class", condition="probability > 1")
    assert several.to_html().count("of &quot;") == 3
