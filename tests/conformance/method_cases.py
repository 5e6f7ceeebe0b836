# SPDX-License-Identifier: Apache-2.0
"""Cases of targets, gradients and perturbation methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.conformance import models
from tests.conformance.case import LRP, Array, Case, Score, ask, case, feeds_of, near, scalars, tensor
from tests.conformance.propagation_cases import by_lrp
from tests.reference.common import Rules
from tests.reference.decomposition import decomposed
from tests.reference.differences import central_difference
from tests.reference.textbook import one_hot

# --- targets ---------------------------------------------------------------------------------------------------------


def target_cases() -> Iterator[Case]:
    built, feeds = models.recurrent("lstm"), feeds_of("lstm", 4, 3)
    first = one_hot(0, 3, 3)
    weights = np.array([0.5, -2.0, 0.25], np.float32)
    logits = built.reference_forward(feeds)
    messages: dict[str, tuple[str, dict[str, Any] | None, Array]] = {
        "target-contrast": (
            "one logit less another",
            {"indices": [0], "contrast_indices": [2]},
            first - one_hot(2, 3, 3),
        ),
        "target-weights": (
            "a linear combination",
            {"weights": tensor(weights)},
            np.tile(weights.astype(float), (3, 1)),
        ),
        "target-per-sample": ("one position a sample", {"indices": [2, 0, 1]}, one_hot([2, 0, 1], 3, 3)),
        "target-negative": ("counted from the end", {"indices": [-3]}, first),
    }
    # `lstm` has a default target, position 2; GRU has none, so that the largest entry is explained.
    for name, (about, target, chosen) in messages.items():
        request = ask("lstm", feeds, method=LRP, target=target)
        yield case(name, about, request, expect=by_lrp(built, feeds, chosen, Rules()))
    gru = models.recurrent("gru")
    largest = gru.reference_forward(feeds).argmax(axis=1)
    yield case(
        "target-largest",
        "without a target the largest entry of each sample is explained",
        ask("gru", feeds, method=LRP),
        expect=by_lrp(gru, feeds, one_hot(largest, 3, 3), Rules()),
    )
    yield case(
        "defaults",
        "without method and target those of model.yaml are taken",
        ask("lstm", feeds),
        expect=by_lrp(built, feeds, one_hot(2, 3, 3), Rules(epsilon=0.01)),
    )
    yield from _probabilities(feeds, logits)


def _probabilities(feeds: Mapping[str, Array], logits: Array) -> Iterator[Case]:
    built = models.probabilities()
    shares = softmax(logits)
    expect = by_lrp(built, feeds, one_hot(0, 3, 3), Rules())
    expect |= {"outputs": {"probability": near(shares)}, "explained_quantity": "logit"}
    request = ask("probabilities", feeds, method=LRP, target={"output": "probability", "indices": [0]})
    yield case("softmax-lrp", "of a probability the value before Softmax is explained", request, expect=expect)
    request = ask("probabilities", feeds, method={"name": "gradient"}, target={"indices": [0], "pre_activation": False})
    gradient = differentiated(lambda x: softmax(built.reference_forward({"x": x}))[:, 0], feeds["x"])
    expect = {"relevance": {"x": near(gradient)}, "explained": scalars(shares[:, 0]), "explained_quantity": "output"}
    yield case("softmax-gradient", "the gradient of the probability itself", request, expect=expect)


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


# --- gradients and perturbation --------------------------------------------------------------------------------------


def differentiated(score: Score, x: Array) -> Array:
    """Samples are independent, so the gradient of the sum is the gradient of each."""
    return central_difference(lambda at: float(score(at).sum()), x)


def integrated(score: Score, x: Array, baseline: Array) -> Array:
    """The integral of the gradient along the line, by Gauss's rule with 24 points."""
    places, weights = np.polynomial.legendre.leggauss(24)
    line = [differentiated(score, baseline + (p + 1) / 2 * (x - baseline)) for p in places]
    return (x - baseline) * sum(w / 2 * g for w, g in zip(weights, line, strict=True))


def method_cases() -> Iterator[Case]:
    for name in ("lstm", "gru", "rnn"):
        yield from _gradients(name)
    yield _default_gradient()
    yield from _perturbation()
    yield from _background_sets()
    yield _decomposition()


def _score(name: str, index: int = 1) -> Score:
    built = models.recurrent(name)
    return lambda x: built.reference_forward({"x": x})[:, index]


def _method_case(name: str, about: str, model: str, x: Array, method: Any, parts: tuple[Array, Array, Array]) -> Case:
    """parts: the relevance, the explained value, and the part that no input accounts for."""
    relevance, explained, absorbed = parts
    request = ask(model, {"x": x}, method=method, target={"indices": [1]})
    inputs = relevance.sum(axis=(1, 2))
    ledger = {"inputs": scalars(inputs), "initial_states": scalars(np.zeros(len(x))), "absorbed": scalars(absorbed)}
    expect = {
        "relevance": {"x": near(relevance)},
        "explained": scalars(explained),
        "ledger": {**ledger, "balance": 1e-4},
    }
    return case(name, about, request, expect=expect)


def _gradients(model: str) -> Iterator[Case]:
    x, score = feeds_of(model, 3, 2)["x"], _score(model)
    gradient = differentiated(score, x)

    def plain(name: str, about: str, method: dict[str, Any], relevance: Array) -> Case:
        request = ask(model, {"x": x}, method=method, target={"indices": [1]})
        expect = {"relevance": {"x": near(relevance)}, "explained": scalars(score(x))}
        return case(f"{model}-{name}", about, request, expect=expect)

    yield plain("gradient", "partial derivatives", {"name": "gradient"}, gradient)
    yield plain("gradient-times-input", "times the input", {"name": "gradient_times_input"}, gradient * x)
    if model != "lstm":
        return
    still = {"name": "smooth_grad", "parameters": {"samples": 3, "noise": 0.0, "seed": 4}}
    yield plain("smooth-grad", "without noise SmoothGrad is the gradient", still, gradient)
    baseline = np.random.default_rng(8).normal(size=x.shape).astype(np.float32)
    for name, start, given in (("zero", np.zeros(x.shape), {}), ("baseline", baseline, {"x": tensor(baseline)})):
        parameters = {"steps": 60, **({"baseline": given} if given else {})}
        method = {"name": "integrated_gradients", "parameters": parameters}
        relevance = integrated(score, x, start.astype(float))
        parts = relevance, score(x), score(start.astype(float))
        yield _method_case(f"lstm-integrated-{name}", "gradients along a line", "lstm", x, method, parts)


def _default_gradient() -> Case:
    """A client that sends a method of its own gets other numbers, whatever its parameters."""
    x, score = feeds_of("rnn", 3, 2)["x"], _score("rnn")
    expect = {"relevance": {"x": near(differentiated(score, x) * x)}, "explained": scalars(score(x))}
    return case(
        "defaults-gradient", "without a method that of model.yaml is taken", ask("rnn", {"x": x}), expect=expect
    )


def _perturbation() -> Iterator[Case]:
    """The model has one feature, so that nothing is shared within a time step, and two steps, so that there are only
    two orders.
    """
    score = _score("series")
    x = feeds_of("series", 5, 3)["x"]
    falls = np.zeros(x.shape)
    for t in range(x.shape[1]):
        hidden = x.astype(float)
        hidden[:, t] = 0
        falls[:, t, 0] = score(x) - score(hidden)
    method = {"name": "occlusion", "parameters": {"window": 1}}
    parts = falls, score(x), score(np.zeros(x.shape))
    request = _method_case(
        "series-occlusion", "the fall of the score when a step is blanked", "series", x, method, parts
    )
    request["expect"].pop("ledger")  # falls do not add up to the score
    yield request
    yield _occluded_probability(x)
    yield _turned()
    yield from _occluded_units()
    x = feeds_of("series", 2, 3)["x"]
    nothing, only, both = np.zeros(x.shape), [], score(x)
    for t in range(2):
        one = nothing.copy()
        one[:, t] = x[:, t]
        only.append(score(one))
    empty = score(nothing)
    values = np.stack([(only[t] - empty + both - only[1 - t]) / 2 for t in range(2)], axis=1)[:, :, np.newaxis]
    method = {"name": "shapley_sampling", "parameters": {"permutations": 4, "seed": 3}}
    parts = values, both, empty
    yield _method_case("series-shapley", "Shapley values of two steps, over all orders", "series", x, method, parts)
    method = {"name": "shapley_sampling", "parameters": {"permutations": 10_000, "exact_players": 0}}
    yield _reported(_method_case("", "", "series", x, method, parts))


def _reported(long: Case) -> Case:
    """A request that takes long enough to report its progress beside one that is one pass."""
    feeds = feeds_of("lstm", 3, 2)
    by_default = by_lrp(models.recurrent("lstm"), feeds, one_hot(2, 2, 3), Rules(epsilon=0.01))
    short = {"request": ask("lstm", feeds), "expect": by_default}
    each = {"long": long, "short": short}
    for one in each.values():
        del one["request"]["deadline_ms"]
    return {
        "name": "stream-progress",
        "about": "of two requests over one stream, the one that runs the model many times reports its progress",
        "call": "explain_stream",
        "requests": [{"id": name, "request": one["request"]} for name, one in each.items()],
        "answers": {name: {"expect": one["expect"]} for name, one in each.items()},
        "progress": ["long"],
    }


def _occluded_units() -> Iterator[Case]:
    """A feature's value is divided equally among its steps; a cell keeps its own."""
    score, x = _score("lstm"), feeds_of("lstm", 3, 2)["x"]
    by_feature, by_cell = np.zeros(x.shape), np.zeros(x.shape)
    for d in range(x.shape[2]):
        for steps, falls in [(slice(None), by_feature), *((slice(t, t + 1), by_cell) for t in range(x.shape[1]))]:
            hidden = x.astype(float)
            hidden[:, steps, d] = 0
            shares = (score(x) - score(hidden)) / len(range(x.shape[1])[steps])
            falls[:, steps, d] = shares[:, np.newaxis]
    for over, falls in (("features", by_feature), ("cells", by_cell)):
        method = {"name": "occlusion", "parameters": {"over": over}}
        request = ask("lstm", {"x": x}, method=method, target={"indices": [1]})
        expect = {"relevance": {"x": near(falls)}, "explained": scalars(score(x))}
        yield case(f"lstm-occlusion-{over}", f"the fall of the score by {over}", request, expect=expect)


def _occluded_probability(x: Array) -> Case:
    logits = models.recurrent("series").reference_forward

    def likely(at: Array) -> Array:
        return softmax(logits({"x": at}))[:, 1]

    falls = np.zeros(x.shape)
    for t in range(x.shape[1]):
        hidden = x.astype(float)
        hidden[:, t] = 0
        falls[:, t, 0] = likely(x) - likely(hidden)
    method = {"name": "occlusion", "parameters": {"window": 1, "of": "probability"}}
    request = ask("series", {"x": x}, method=method, target={"indices": [1]})
    expect = {"relevance": {"x": near(falls)}, "explained": scalars(likely(x)), "explained_quantity": "probability"}
    return case("series-occlusion-probability", "the fall of the probability", request, expect=expect)


def _turned() -> Case:
    """Inputs that a single step turns: of those that do, the one that leaves the prediction furthest behind."""
    logits = models.recurrent("lstm").reference_forward
    rows: list[Array] = []
    for x in np.random.default_rng(9).standard_normal((200, 1, 5, 4)).astype(np.float32) * 2:
        if (_margins(logits, x) < 0).any():
            rows.append(x[0])
    x = np.stack(rows[:3])
    relevance, absorbed = np.zeros(x.shape), np.zeros(len(x))
    for i, row in enumerate(x):
        whole, single = margin(logits({"x": row[None]})[0]), _margins(logits, row[None])
        step = single.argmin()
        relevance[i, step], absorbed[i] = (whole - single[step]) / x.shape[2], single[step]
    explained = np.array([margin(one) for one in logits({"x": x})])
    target = {"indices": logits({"x": x}).argmax(axis=1).tolist()}
    request = ask("lstm", {"x": x}, method={"name": "counterfactual", "parameters": {"most": 2}}, target=target)
    expect = {
        "relevance": {"x": near(relevance)},
        "explained": scalars(explained),
        "explained_quantity": "margin",
        "ledger": {"inputs": scalars(relevance.sum(axis=(1, 2))), "absorbed": scalars(absorbed)},
    }
    return case("lstm-counterfactual", "the step that turns the prediction", request, expect=expect)


def margin(scores: Array, at: int | None = None) -> Any:
    """The entry minus the largest other one; by default of the largest entry."""
    at = int(scores.argmax()) if at is None else at
    return scores[at] - np.delete(scores, at).max()


def _margins(logits: Any, x: Array) -> Array:
    """The margins of the predicted class of one sample with each step blanked."""
    at, found = int(logits({"x": x})[0].argmax()), []
    for t in range(x.shape[1]):
        blanked = x.astype(float)
        blanked[:, t] = 0
        found.append(margin(logits({"x": blanked})[0], at))
    return np.array(found)


def _background_sets() -> Iterator[Case]:
    """The default methods of these models compare the input with every sample in background.npz."""
    for model, method in (("sampled", "occlusion"), ("expected", "integrated_gradients")):
        score, x, samples = _score(model), feeds_of(model, 4, 2)["x"], models.BACKGROUNDS[model].astype(float)
        found = np.zeros(x.shape)
        for sample in samples:
            if method == "integrated_gradients":
                found += integrated(score, x, np.broadcast_to(sample, x.shape)) / len(samples)
                continue
            for t in range(x.shape[1]):
                changed = x.astype(float)
                changed[:, t] = sample[t]
                shares = (score(x) - score(changed)) / x.shape[2]  # equal, since every feature is replaced
                found[:, t] += shares[:, np.newaxis] / len(samples)
        request = ask(model, {"x": x}, target={"indices": [1]})
        absorbed = np.full(len(x), np.mean(score(samples)))
        expect = {
            "relevance": {"x": near(found)},
            "explained": scalars(score(x)),
            "ledger": {"inputs": scalars(found.sum(axis=(1, 2))), "absorbed": scalars(absorbed), "balance": 1e-4},
        }
        yield case(f"{model}-background", f"{method} against the model's background set", request, expect=expect)


def _decomposition() -> Case:
    built = models.recurrent("series")
    x = feeds_of("series", 4, 2)["x"]
    layer, network = built.network.layers[0], built.network
    H = layer.hidden
    parts = np.zeros(x.shape)
    for b, t in np.ndindex(x.shape[:2]):
        assert layer.B is not None
        (beta, _), _, _ = decomposed(
            x[b].astype(float), layer.W[0], layer.R[0], layer.B[0][: 4 * H] + layer.B[0][4 * H :], [t]
        )
        parts[b, t, 0] = network.W[1] @ beta
    request = ask("series", {"x": x}, method={"name": "contextual_decomposition"}, target={"indices": [1]})
    expect = {"relevance": {"x": near(parts)}, "explained": scalars(_score("series")(x))}
    return case("series-decomposition", "contextual decomposition of every step", request, expect=expect)
