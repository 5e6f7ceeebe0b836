"""The cases: what is asked, and what the textbook says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.builders import CALM, CANCELLING, INNER, OUTER, Built
from tests.conformance import models
from tests.reference.common import PRODUCT_RULES, Relative, Rules
from tests.reference.decomposition import decomposed
from tests.reference.dense import dense_lrp, embedding_lrp
from tests.reference.differences import central_difference
from tests.reference.layer import layer_forward
from tests.reference.textbook import NetworkRelevance, one_hot

Array = npt.NDArray[Any]
Case = dict[str, Any]
Score = Callable[[Array], Array]  # x to what is explained, [batch]

PATIENCE = 20_000  # milliseconds, for a machine with much else to do
# Of the largest number expected. float32 keeps seven digits; the way back loses some.
RELATIVE = 1e-5
HEAVY = {"name": "shapley_sampling", "parameters": {"permutations": 8000}}  # several seconds of work
LRP = {"name": "lrp", "parameters": {"product_rule": "all", "epsilon": 0.001, "bias_factor": 0.0}}


def tensor(array: Array, tolerance: float | None = None) -> dict[str, Any]:
    """An array as a case holds it. float32 written as the shortest decimal of its float64 comes back exactly."""
    name = "string" if array.dtype == object else array.dtype.name
    said: dict[str, Any] = {"dtype": name, "shape": list(array.shape), "data": array.ravel().tolist()}
    return said if tolerance is None else {**said, "tolerance": tolerance}


def near(array: Array, dtype: str = "float32") -> dict[str, Any]:
    """What should come within rounding. All digits of the textbook stay in the file, whatever the type on the wire."""
    scale = max(1.0, float(np.abs(array).max(initial=0.0)))
    tolerance = (RELATIVE if dtype == "float32" else 1e-11) * scale
    return {**tensor(np.asarray(array, np.float64), tolerance), "dtype": dtype}


def scalars(array: Array) -> dict[str, Any]:
    """One number a sample, in the ledger and for what is explained: float32 or float64, as the method computes."""
    return {**near(array), "dtype": "float"}


def ask(model: str, inputs: Mapping[str, Array], **rest: Any) -> dict[str, Any]:
    """A request. `rest` with the value None is left out."""
    said = {"model": model, "inputs": {name: tensor(array) for name, array in inputs.items()}}
    return {**said, **{key: value for key, value in {"deadline_ms": PATIENCE, **rest}.items() if value is not None}}


def case(name: str, about: str, request: dict[str, Any], **rest: Any) -> Case:
    return {"name": name, "about": about, "call": "explain", "request": request, **rest}


def refused(name: str, about: str, request: dict[str, Any], code: str, field: str = "", word: str = "") -> Case:
    error = {"code": code, "field": field} if field else {"code": code}
    return case(name, about, request, expect_error={**error, "word": word} if word else error)


def every() -> Iterator[Case]:
    """All cases."""
    yield from _propagation()
    yield from _warnings()
    yield from _targets()
    yield from _other_methods()
    yield from _words()
    yield from _captures()
    yield from _errors()
    yield from _access()
    yield from _streams()
    yield from _model_calls()


# --- relevance propagation -------------------------------------------------------------------------------------------


def feeds_of(name: str, T: int, B: int) -> dict[str, Array]:
    return models.recurrent(name).feeds(np.random.default_rng(100 + T), T, B)


def by_lrp(built: Built, feeds: Mapping[str, Array], weights: Array, rules: Rules, dtype: str = "float32") -> dict:
    """What an LRP answer has to hold. The textbook's x is time first."""
    R = built.reference_lrp(feeds, weights, rules)
    x = R.x.swapaxes(0, 1) if built.batch_first else R.x
    relevance = {"x": near(x, dtype)}
    if "lens" in feeds:
        relevance["lens"] = near(np.zeros(feeds["lens"].shape), dtype)
    for k, states in enumerate(zip(R.initial_h, R.initial_c, strict=True)):
        for letter, state in zip("hc", states, strict=True):
            if f"initial_{letter}_{k}" in feeds:
                relevance[f"initial_{letter}_{k}"] = near(state, dtype)
    return {
        "relevance": relevance,
        "outputs": {"logits": near(built.reference_forward(feeds), dtype)},
        "explained": scalars(R.explained),
        "explained_quantity": "output",
        "ledger": _ledger(R, given="initial_h_0" in feeds),
    }


def _ledger(R: NetworkRelevance, given: bool) -> dict[str, Any]:
    """given: the request brings the initial states."""
    states = R.total - R.x.sum(axis=(0, 2))
    largest = max(1.0, *np.abs(R.explained), *np.abs(R.total))
    return {
        "inputs": scalars(R.total if given else R.total - states),
        "initial_states": scalars(np.zeros(len(states)) if given else states),
        "absorbed": scalars(R.total_absorbed),
        "balance": RELATIVE * float(largest),
    }


def lrp(**parameters: Any) -> dict[str, Any]:
    return {"name": "lrp", "parameters": {**LRP["parameters"], **parameters}}


def _propagation() -> Iterator[Case]:
    for rule in PRODUCT_RULES:
        # prop divides by sums that may nearly vanish; a wider stabiliser keeps the numbers comparable.
        epsilon = 0.05 if rule == "prop" else 0.001
        yield _lrp_case(f"lstm-lrp-{rule}", f"an LSTM, product rule {rule}", "lstm", Rules(rule, epsilon))
    yield _lrp_case("lstm-lrp-bias", "bias and stabiliser shared among the inputs", "lstm", Rules("all", 0.01, 1.0))
    relative = Relative(0.3, 0.05, 0.1, 1.5)
    for model in ("lstm", "gru", "rnn"):
        rules = Rules(bias_factor=0.5, relative=relative)
        yield _lrp_case(f"{model}-lrp-relative", "the relative stabiliser and its ceiling", model, rules, T=9)
    yield _lrp_case("gru-lrp", "a GRU with linear_before_reset", "gru", Rules())
    yield _lrp_case("gru-lrp-abs", "a GRU, product rule abs", "gru", Rules("abs"))
    yield _lrp_case("rnn-lrp", "a plain RNN", "rnn", Rules())
    yield _lrp_case("deep-lrp", "two bidirectional layers and a mean over time", "deep", Rules(), T=5, B=3)
    yield _lrp_case("deep-lrp-half", "the same with product rule half", "deep", Rules("half", 0.05))
    yield _lrp_case("ragged-lrp", "sequences of different lengths, time first", "ragged", Rules(), T=6, B=4)
    yield _lrp_case("states-lrp", "several inputs: the sequence and both initial states", "states", Rules(), T=4, B=3)
    yield _lrp_case("remembering-lrp", "initial states that are constants of the model", "remembering", Rules("half"))
    yield _lrp_case("batch-of-one", "one sample, one step", "lstm", Rules(), T=1, B=1)
    yield _lrp_case("batch-of-many", "a batch of 33", "lstm", Rules(), T=3, B=33)
    built = models.double()
    feeds = built.feeds(np.random.default_rng(5), 4, 2)
    expect = by_lrp(built, feeds, one_hot(1, 2, 3), Rules(), "float64")
    request = ask("double", feeds, method=LRP, target={"indices": [1]})
    yield case("double-lrp", "a model in float64 answers in float64", request, expect=expect)


def _lrp_case(name: str, about: str, model: str, rules: Rules, T: int = 4, B: int = 2) -> Case:
    built, feeds = models.recurrent(model), feeds_of(model, T, B)
    method = lrp(product_rule=rules.product_rule, epsilon=rules.epsilon, bias_factor=rules.bias_factor)
    if rules.relative is not None:
        betas = ("stabiliser", "cell_stabiliser", "layer_stabiliser", "ceiling")
        del method["parameters"]["epsilon"]
        method["parameters"] |= dict(zip(betas, dataclasses.astuple(rules.relative), strict=True))
    request = ask(model, feeds, method=method, target={"output": "logits", "indices": [1]})
    expect = {"model": model, "version": "1", **by_lrp(built, feeds, one_hot(1, B, 3), rules)}
    return case(name, about, request, expect=expect)


def _warnings() -> Iterator[Case]:
    for name, row, told in (("warnings", CANCELLING, ["relevance diverges"]), ("warnings-none", CALM, [])):
        x = np.array([row], np.float32)
        about = (
            "entries that cancel: the answer says why it should not be relied on" if told else "the same model, at ease"
        )
        yield case(name, about, _half(x), expect={**_cancelling(x), "warnings": told})
    items = {"calm": (CALM, []), "cancelling": (CANCELLING, ["relevance diverges"])}
    rows = {name: (np.array([row], np.float32), told) for name, (row, told) in items.items()}
    requests = [{"id": name, "request": _half(x, deadline_ms=None)} for name, (x, _) in rows.items()]
    answers = {name: {"expect": {**_cancelling(x), "warnings": told}} for name, (x, told) in rows.items()}
    about = "in a stream each answer has its own warnings"
    yield {
        "name": "stream-warnings",
        "about": about,
        "call": "explain_stream",
        "requests": requests,
        "answers": answers,
    }


def _half(x: Array, **rest: Any) -> dict[str, Any]:
    return ask("diverging", {"x": x}, method=lrp(product_rule="half"), target={"indices": [0]}, **rest)


def _cancelling(x: Array) -> dict[str, Any]:
    """Two linear layers, one sample."""
    inner = x[0].astype(float) @ INNER
    logits, rules = inner @ OUTER, Rules("half")
    arriving = np.array([logits[0], 0.0, 0.0])
    seen, _ = dense_lrp(inner, OUTER.T, np.zeros(3), arriving, rules)
    R, _ = dense_lrp(x[0].astype(float), INNER.T, np.zeros(1), seen, rules)
    return {
        "relevance": {"x": near(R[None])},
        "outputs": {"logits": near(logits[None])},
        "explained": scalars(logits[:1]),
    }


# --- targets ---------------------------------------------------------------------------------------------------------


def _targets() -> Iterator[Case]:
    built, feeds = models.recurrent("lstm"), feeds_of("lstm", 4, 3)
    first = one_hot(0, 3, 3)
    weights = np.array([0.5, -2.0, 0.25], np.float32)
    logits = built.reference_forward(feeds)
    said: dict[str, tuple[str, dict[str, Any] | None, Array]] = {
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
    for name, (about, target, chosen) in said.items():
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
    """Samples do not see each other, so the gradient of the sum is that of each."""
    return central_difference(lambda at: float(score(at).sum()), x)


def integrated(score: Score, x: Array, baseline: Array) -> Array:
    """The integral of the gradient along the line, by Gauss's rule at 24 places."""
    places, weights = np.polynomial.legendre.leggauss(24)
    line = [differentiated(score, baseline + (p + 1) / 2 * (x - baseline)) for p in places]
    return (x - baseline) * sum(w / 2 * g for w, g in zip(weights, line, strict=True))


def _other_methods() -> Iterator[Case]:
    for name in ("lstm", "gru", "rnn"):
        yield from _gradients(name)
    yield _default_gradient()
    yield from _perturbation()
    yield _decomposition()


def _score(name: str, index: int = 1) -> Score:
    built = models.recurrent(name)
    return lambda x: built.reference_forward({"x": x})[:, index]


def _method_case(name: str, about: str, model: str, x: Array, method: Any, parts: tuple[Array, Array, Array]) -> Case:
    """parts: relevance, what is explained, what no input accounts for."""
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
    """A client that sends a method of its own, whichever parameters it gives it, has other numbers."""
    x, score = feeds_of("rnn", 3, 2)["x"], _score("rnn")
    expect = {"relevance": {"x": near(differentiated(score, x) * x)}, "explained": scalars(score(x))}
    return case(
        "defaults-gradient", "without a method that of model.yaml is taken", ask("rnn", {"x": x}), expect=expect
    )


def _perturbation() -> Iterator[Case]:
    """Of one feature, so that nothing is shared within a time step; of two steps, so that two orders are all."""
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
    x = feeds_of("series", 2, 3)["x"]
    nothing, only, both = np.zeros(x.shape), [], score(x)
    for t in range(2):
        one = nothing.copy()
        one[:, t] = x[:, t]
        only.append(score(one))
    empty = score(nothing)
    values = np.stack([(only[t] - empty + both - only[1 - t]) / 2 for t in range(2)], axis=1)[:, :, np.newaxis]
    method = {"name": "shapley_sampling", "parameters": {"permutations": 4, "seed": 3}}
    yield _method_case(
        "series-shapley", "Shapley values of two steps, over all orders", "series", x, method, (values, both, empty)
    )


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


def _decomposition() -> Case:
    built = models.recurrent("series")
    x = feeds_of("series", 4, 2)["x"]
    layer, network = built.network.layers[0], built.network
    H = layer.hidden
    parts = np.zeros(x.shape)
    for b, t in np.ndindex(x.shape[:2]):
        assert layer.B is not None
        (beta, _), _, _ = decomposed(
            x[b].astype(float), layer.W[0], layer.R[0], layer.B[0][: 4 * H] + layer.B[0][4 * H :], t
        )
        parts[b, t, 0] = network.W[1] @ beta
    request = ask("series", {"x": x}, method={"name": "contextual_decomposition"}, target={"indices": [1]})
    expect = {"relevance": {"x": near(parts)}, "explained": scalars(_score("series")(x))}
    return case("series-decomposition", "contextual decomposition of every step", request, expect=expect)


# --- tokens and text -------------------------------------------------------------------------------------------------


def _words() -> Iterator[Case]:
    made = models.words()
    ids = np.array([[6, 7, 8, 9, 10], [2, 3, 4, 5, 0]], np.int64)
    tokens = np.array([["the", "plot", "is", "thin", "."], ["not", "a", "bad", "film", ""]], dtype=object)
    target = {"indices": [1]}
    expect = _of_words(made, ids, Rules())
    yield case(
        "tokens",
        "token ids: one number a token",
        ask("words", {"tokens": ids}, method=LRP, target=target),
        expect=expect,
    )
    texts = np.array(["the plot is thin .", "not a bad film"], dtype=object)
    request = ask("words", {"tokens": texts}, method=LRP, target=target)
    about = "text becomes tokens on the server, the shorter one padded; both come back"
    yield case("text", about, request, expect={**expect, "tokens": {"tokens": tensor(tokens)}})
    odd = np.array(["the façade is 很好 thin"], dtype=object)
    ids = np.array([[6, 1, 8, 1, 9]], np.int64)
    shown = np.array([["the", "façade", "is", "很好", "thin"]], dtype=object)
    request = ask("words", {"tokens": odd}, method=lrp(product_rule="half"), target=target)
    expect = {**_of_words(made, ids, Rules("half")), "tokens": {"tokens": tensor(shown)}}
    yield case("text-beyond-ascii", "unknown words keep their spelling", request, expect=expect)


def _of_words(made: models.Words, ids: Array, rules: Rules) -> dict[str, Any]:
    feeds = {"x": made.embeddings[ids]}
    expect = by_lrp(made.built, feeds, one_hot(1, len(ids), 3), rules)
    R = made.built.reference_lrp(feeds, one_hot(1, len(ids), 3), rules)
    return {**expect, "relevance": {"tokens": near(embedding_lrp(R.x.swapaxes(0, 1)))}}


def _captures() -> Iterator[Case]:
    built, feeds = models.recurrent("deep"), feeds_of("deep", 4, 2)
    below = feeds["x"].swapaxes(0, 1)
    for layer in built.network.layers:
        Y = layer_forward(layer, below).Y
        below = np.concatenate([Y[:, d] for d in range(Y.shape[1])], axis=2)
    seen, weights, rules = below.mean(axis=0), one_hot(1, 2, 3), Rules()
    arriving = weights * built.reference_forward(feeds)
    R = np.stack([dense_lrp(seen[b], built.network.W, built.network.b, arriving[b], rules)[0] for b in range(2)])
    request = ask("deep", feeds, method=LRP, target={"indices": [1]}, capture=["head_out"])
    expect = {**by_lrp(built, feeds, weights, rules), "captured": {"head_out": near(R)}}
    yield case("capture", "relevance at an inner value", request, expect=expect)


# --- errors ----------------------------------------------------------------------------------------------------------


def _errors() -> Iterator[Case]:
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
    for dtype in ("float64", "float16", "int32", "int64", "bool"):
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


def _access() -> Iterator[Case]:
    request = ask("lstm", feeds_of("lstm", 4, 2), method=LRP)
    tls = {"over": ["tls"]}
    bare = refused("error-no-token", "no token where one is wanted", request, "UNAUTHENTICATED")
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


EXPLAINER = "conformance-explainer"
MANAGER = "conformance-manager"


# --- streams and models ----------------------------------------------------------------------------------------------


def _streams() -> Iterator[Case]:
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


def _model_calls() -> Iterator[Case]:
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
        "default_method": {"name": "lrp", "parameters": {"epsilon": 0.01}},
    })  # fmt: skip
    yield _detail("model-text", "words", {
        "inputs": {"tokens": {"dtype": "int64", "shape": ["B", "T"]}},
        "text_inputs": ["tokens"],
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
    yield from _imports()


def _detail(name: str, model: str, detail: dict[str, Any]) -> Case:
    said = {"name": model, "version": "1", "state": "ready", "lrp_supported": True, **detail}
    about = f"the description of {model}"
    return {"name": name, "about": about, "call": "model", "model": model, "version": "", "expect": {"detail": said}}


def _imports() -> Iterator[Case]:
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
