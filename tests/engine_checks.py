# SPDX-License-Identifier: Apache-2.0
"""Checks that the tests of the engine share: equality with the textbook, tolerances, and the law of the ledger."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import lstm_explain as lx
from tests.builders import Built
from tests.reference.textbook import Layer, Network, NetworkRelevance, Rules

AnyArray = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

PROMISED = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-9}


def method(rules: Rules) -> lx.LRP:
    """The textbook's settings as the engine's."""
    if rules.relative is None:
        return lx.LRP(rules.product_rule, rules.epsilon, rules.bias_factor)
    betas = {"stabiliser": rules.relative.pre_activations, "cell_stabiliser": rules.relative.cells}
    betas |= {"layer_stabiliser": rules.relative.layers, "ceiling": rules.relative.ceiling}
    return lx.LRP(rules.product_rule, bias_factor=rules.bias_factor, **betas)


def pairwise(factors: Mapping[str, Sequence[Any]], seed: int = 0) -> list[dict[str, Any]]:
    """A small sample of the grid in which every pair of values of two factors occurs. Greedy and deterministic."""
    rng = np.random.default_rng(seed)
    names = list(factors)
    missing = {
        (a, i, b, j)
        for a, b in itertools.combinations(names, 2)
        for i in range(len(factors[a]))
        for j in range(len(factors[b]))
    }

    def covered(row: dict[str, int]) -> set[tuple[str, int, str, int]]:
        return {(a, row[a], b, row[b]) for a, b in itertools.combinations(names, 2)} & missing

    rows = []
    while missing:
        a, i, b, j = min(missing)
        drawn = [{name: int(rng.integers(len(factors[name]))) for name in names} | {a: i, b: j} for _ in range(60)]
        best = max(drawn, key=lambda row: len(covered(row)))
        missing -= covered(best)
        rows.append({name: factors[name][best[name]] for name in names})
    return rows


def label(row: Mapping[str, Any]) -> str:
    """A test's id from a row of a grid."""
    return "-".join(f"{name}={value}" for name, value in row.items())


# --- the engine beside the textbook ----------------------------------------------------------------------------------


def textbook_relevance(built: Built, textbook: NetworkRelevance) -> dict[str, Float]:
    """Relevance by the name of the ONNX input, in its layout."""
    relevance = {"x": textbook.x.swapaxes(0, 1) if built.batch_first else textbook.x}
    for k in range(len(built.network.layers)):
        relevance[f"initial_h_{k}"] = textbook.initial_h[k]
        relevance[f"initial_c_{k}"] = textbook.initial_c[k]
    return {name: R for name, R in relevance.items() if name in built.input_names}


def batch_axis(built: Built, name: str) -> int:
    return 0 if name == "lens" or (name == "x" and built.batch_first) else 1


def per_sample(built: Built, relevance: Mapping[str, AnyArray]) -> Float:
    """[batch, everything]: all relevance of a sample as one row."""
    rows = [np.moveaxis(np.asarray(R, np.float64), batch_axis(built, name), 0) for name, R in relevance.items()]
    return np.concatenate([row.reshape(len(row), -1) for row in rows], axis=1)


def distance(built: Built, received: Mapping[str, AnyArray], expected: Mapping[str, AnyArray]) -> Float:
    """[batch]: the largest difference of each sample, relative to its largest relevance."""
    a = per_sample(built, {name: received[name] for name in expected})
    b = per_sample(built, expected)
    return np.abs(a - b).max(axis=1) / np.maximum(np.abs(b).max(axis=1), np.finfo(np.float64).tiny)


def conditioning(built: Built, feeds: Mapping[str, AnyArray], weights: AnyArray, rules: Rules, draws: int = 2) -> Float:
    """[batch]: how far the textbook's own relevance moves when weights and inputs change by one unit in the last place.

    Measured on the textbook alone: random signs, every number times 1 +- eps of the model's dtype.
    """
    rng = np.random.default_rng(99)
    ulp = float(np.finfo(built.dtype).eps)

    def moved(a: AnyArray | None) -> Any:
        if a is None or not np.issubdtype(a.dtype, np.floating):
            return a
        return a.astype(np.float64) * (1.0 + ulp * rng.choice([-1.0, 1.0], size=a.shape))

    def moved_layer(layer: Layer) -> Layer:
        return dataclasses.replace(layer, W=moved(layer.W), R=moved(layer.R), B=moved(layer.B), P=moved(layer.P))

    still = textbook_relevance(built, built.reference_lrp(feeds, weights, rules))
    most = np.zeros(len(weights))
    for _ in range(draws):
        net = built.network
        net = Network(tuple(map(moved_layer, net.layers)), net.head, moved(net.W), moved(net.b))
        states = {name: moved(state) for name, state in built.constant_states.items()}
        other = dataclasses.replace(built, network=net, constant_states=states)
        textbook = other.reference_lrp({name: moved(a) for name, a in feeds.items()}, weights, rules)
        most = np.maximum(most, distance(built, textbook_relevance(built, textbook), still))
    return most


def check_textbook(
    built: Built, feeds: Mapping[str, AnyArray], explanation: lx.Explanation, weights: AnyArray, rules: Rules
) -> None:
    """Relevance within 1e-4 (float32) or 1e-9 (float64) of a sample's largest, and the ledger's parts with it.

    A sum that cancels passes on relevance that depends on the last bit of its terms, in any implementation. So where
    ten times the conditioning measured above exceeds the promise, that is the tolerance.
    """
    textbook = built.reference_lrp(feeds, weights, rules)
    expected = textbook_relevance(built, textbook)
    error = distance(built, explanation.relevance, expected)
    tolerance = np.full(len(weights), PROMISED[built.dtype])
    if (error > tolerance).any():
        tolerance = np.maximum(tolerance, 10.0 * conditioning(built, feeds, weights, rules))
    assert (error <= tolerance).all(), f"error {error}, tolerance {tolerance}"

    sums = {name: np.abs(R) for name, R in per_part(built, textbook).items()}
    scale = tolerance * (sum(sums.values()) + np.abs(textbook.explained))
    ledger = explanation.ledger
    states = sum(R.sum(axis=(0, 2)) for R in [*textbook.initial_h, *textbook.initial_c])
    given = "initial_h_0" in built.input_names
    assert (np.abs(ledger.initial_states - (0.0 if given else states)) <= scale).all()
    assert (np.abs(ledger.absorbed - textbook.total_absorbed) <= scale).all()
    np.testing.assert_allclose(
        explanation.explained, textbook.explained, rtol=PROMISED[built.dtype], atol=0.1 * PROMISED[built.dtype]
    )


def per_part(built: Built, textbook: NetworkRelevance) -> dict[str, Float]:
    """The total magnitude of relevance at x and at the initial states, and the relevance that each part absorbed,
    [batch] each.
    """
    states = [*textbook.initial_h, *textbook.initial_c]
    return {
        "x": np.abs(textbook.x).sum(axis=(0, 2)),
        "states": sum((np.abs(R).sum(axis=(0, 2)) for R in states), np.zeros(textbook.x.shape[1])),
        **textbook.absorbed,
    }


# --- the ledger ------------------------------------------------------------------------------------------------------


def check_ledger(
    explanation: lx.Explanation, axes: Mapping[str, int], *, relative: float = 1e-4, cancels: bool = False
) -> None:
    """The account closes, its parts add up, and its `inputs` is the sum of the returned relevance.

    axes: batch axis by input. cancels: product rule "prop" divides by gate + signal, which may be next to nothing; then
    relevance many orders of magnitude above the value explained cancels in the sum, and rounding is relative to the
    largest term of that sum.
    """
    ledger, explained = explanation.ledger, explanation.explained
    entries = {"inputs": ledger.inputs, "initial_states": ledger.initial_states, "absorbed": ledger.absorbed}
    spread = np.zeros(len(explained))
    handed_out = np.zeros(len(explained))
    for name, R in explanation.relevance.items():
        row = np.moveaxis(np.asarray(R, np.float64), axes[name], 0).reshape(len(explained), -1)
        handed_out += row.sum(axis=1)
        spread += np.abs(row).sum(axis=1)
    for name, entry in {**entries, "residual": ledger.residual, **ledger.by_node}.items():
        assert entry.shape == explained.shape, name
        assert np.isfinite(entry).all(), name
    terms = [spread, *map(np.abs, [ledger.initial_states, *ledger.by_node.values(), explained])]
    largest = np.max(terms, axis=0)
    rounding = 1e-6 * largest  # relevance is handed out in float32

    total = sum(entries.values()) + ledger.residual
    np.testing.assert_array_less(np.abs(total - explained), 1e-6 * np.abs(explained) + 1e-13 * largest + 1e-30)
    allowed = relative * (largest if cancels else np.abs(explained))
    assert (np.abs(ledger.residual) <= allowed + 1e-30).all(), f"residual {ledger.residual} of {explained}"
    np.testing.assert_allclose(sum(ledger.by_node.values()), ledger.absorbed, rtol=1e-9, atol=1e-12 * largest.max())
    assert (np.abs(handed_out - ledger.inputs) <= rounding + 1e-30).all()


def check_same(received: AnyArray, expected: AnyArray, tolerance: float = 1e-4, what: str = "") -> None:
    """Checks equality within `tolerance` of the largest entry."""
    assert received.shape == expected.shape, what
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-30)
    worst = float(np.abs(np.asarray(received, np.float64) - expected).max(initial=0.0)) / scale
    assert worst <= tolerance, f"{what}: apart by {worst:.3g} of the largest"


def samples(count: int) -> Iterator[slice]:
    """Each sample as a batch of one."""
    return (slice(b, b + 1) for b in range(count))
