# SPDX-License-Identifier: Apache-2.0
"""Cases of relevance propagation: rules, warnings, tokens and text, and captured values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.builders import Built
from tests.conformance import models
from tests.conformance.case import LRP, RELATIVE, Array, Case, ask, case, feeds_of, near, scalars, tensor
from tests.diverging_model import CALM, CANCELLING, INNER, OUTER
from tests.reference.common import PRODUCT_RULES, Relative, Rules
from tests.reference.dense import dense_lrp, embedding_lrp
from tests.reference.layer import layer_forward
from tests.reference.textbook import NetworkRelevance, one_hot

# --- relevance propagation -------------------------------------------------------------------------------------------


def by_lrp(built: Built, feeds: Mapping[str, Array], weights: Array, rules: Rules, dtype: str = "float32") -> dict:
    """The expected content of an LRP answer. In the textbook, time is the first axis of x."""
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
    """given: whether the request contains the initial states."""
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


def propagation_cases() -> Iterator[Case]:
    for rule in PRODUCT_RULES:
        # prop divides by sums that may nearly vanish; a wider stabiliser keeps the numbers comparable.
        epsilon = 0.05 if rule == "prop" else 0.001
        yield _lrp_case(f"lstm-lrp-{rule}", f"an LSTM, product rule {rule}", "lstm", Rules(rule, epsilon))
    yield from _attention_cases()
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
    yield _converted()


def _attention_cases() -> Iterator[Case]:
    """The product rule attn, of gates without attention, where it is the rule all, and of attention over an LSTM."""
    gated = _lrp_case("lstm-lrp-attn", "an LSTM without attention, product rule attn", "lstm", Rules())
    gated["request"]["method"]["parameters"]["product_rule"] = "attn"
    yield gated
    own, x = models.attention(), np.random.default_rng(74).standard_normal((2, models.ATTENDED, 3)).astype(np.float32)
    relevance, absorbed = own.lrp(x.astype(np.float64), 1, Rules())
    logits = own.forward(x.astype(np.float64))
    zero, balance = scalars(np.zeros(len(x))), RELATIVE * float(np.abs(relevance).sum())
    ledger = {"inputs": scalars(relevance.sum(axis=(1, 2))), "initial_states": zero, "absorbed": scalars(absorbed)}
    request = ask("attention", {"x": x}, method=lrp(product_rule="attn"), target={"output": "logits", "indices": [1]})
    expect = {"relevance": {"x": near(relevance)}, "outputs": {"logits": near(logits)}}
    expect |= {"explained": scalars(logits[:, 1]), "ledger": {**ledger, "balance": balance}}
    yield case("attention-lrp", "attention over an LSTM, product rule attn", request, expect=expect)


def _converted() -> Case:
    built, feeds = models.recurrent("lstm"), feeds_of("lstm", 4, 2)
    request = ask("lstm", {"x": feeds["x"].astype(np.float64)}, method=LRP, target={"output": "logits", "indices": [1]})
    expect = by_lrp(built, feeds, one_hot(1, 2, 3), Rules())
    return case("converted-float64", "float64 for float32 is converted", request, expect=expect)


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


def warning_cases() -> Iterator[Case]:
    for name, row, reported in (("warnings", CANCELLING, ["relevance diverges"]), ("warnings-none", CALM, [])):
        x = np.array([row], np.float32)
        about = (
            "entries that cancel: the answer says why it should not be relied on"
            if reported
            else "the same model, at ease"
        )
        yield case(name, about, _half(x), expect={**_cancelling(x), "warnings": reported})
    items = {"calm": (CALM, []), "cancelling": (CANCELLING, ["relevance diverges"])}
    rows = {name: (np.array([row], np.float32), reported) for name, (row, reported) in items.items()}
    requests = [{"id": name, "request": _half(x, deadline_ms=None)} for name, (x, _) in rows.items()]
    answers = {name: {"expect": {**_cancelling(x), "warnings": reported}} for name, (x, reported) in rows.items()}
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


# --- tokens and text -------------------------------------------------------------------------------------------------


def text_cases() -> Iterator[Case]:
    made = models.words()
    ids = np.array([[6, 7, 8, 9, 10], [2, 3, 4, 5, 0]], np.int64)
    tokens = np.array([["the", "plot", "is", "thin", "."], ["not", "a", "bad", "film", ""]], dtype=object)
    target = {"indices": [1]}
    expect = _of_words(made, ids, Rules())
    yield case(
        "tokens",
        "token ids: one number per token",
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


SIGNED = "application/vnd.in-toto+json"  # the type of what a receipt signs


def receipt_cases() -> Iterator[Case]:
    feeds = feeds_of("lstm", 4, 2)
    request = ask("lstm", feeds, method=LRP, receipt=True)
    yield case("receipt", "a signed record of the answer", request, expect={"receipt": SIGNED})
    yield case("no-receipt", "an answer without a record", ask("lstm", feeds, method=LRP), expect={"receipt": ""})


def capture_cases() -> Iterator[Case]:
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
