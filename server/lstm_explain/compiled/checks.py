# SPDX-License-Identifier: Apache-2.0
"""Runs a compiled file by ONNX Runtime and compares it with the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from lstm_explain.compiled.targets import TARGET_INPUT
from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import Array
from lstm_explain.graph.session import open_session, run_session, runtime_message
from lstm_explain.methods import Method
from lstm_explain.model import Model
from lstm_explain.target import Target

TOLERANCE = 1e-4  # of the largest entry


class DisagreementError(ModelError):
    """A compiled file runs, and its numbers are not the engine's."""


def check(
    proto: onnx.ModelProto,
    model: Model,
    method: Method,
    target: Target,
    examples: Sequence[Mapping[str, Array]],
    runtime: bool,
) -> None:
    """Raises ModelError where the file does not run, or differs from what the engine says on one of the examples."""
    onnx.checker.check_model(proto)
    try:
        session = open_session(proto.SerializeToString())
    except Exception as error:  # ONNX Runtime's exception types are not public
        raise ModelError(f"ONNX Runtime rejects the compiled file: {runtime_message(error)}") from error
    names = [o.name for o in proto.graph.output]
    for inputs in examples:
        expected = expected_of(model, method, target, inputs)
        feeds: dict[str, Any] = dict(inputs)
        if runtime:
            feeds[TARGET_INPUT] = np.full(len(expected["explained"]), -1, np.int64)
        try:
            found = dict(zip(names, run_session(session, names, feeds), strict=True))
        except Exception as error:
            raise ModelError(f"the compiled file does not run: {runtime_message(error)}") from error
        for name, array in expected.items():
            problem = difference(found[name], array, scale_of(expected, name))
            if problem:
                shapes = ", ".join(f"{n}: {a.shape}" for n, a in inputs.items())
                raise DisagreementError(
                    f"the compiled file disagrees with the engine at {name!r} on inputs of shapes {shapes}: {problem}"
                )


def expected_of(model: Model, method: Method, target: Target, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the outputs of the file as the engine computes them."""
    e = model.explain(dict(inputs), method, target)
    return {
        **e.outputs,
        **{f"relevance/{name}": r for name, r in e.relevance.items()},
        "explained": e.explained,
        "ledger/inputs": e.ledger.inputs,
        "ledger/initial_states": e.ledger.initial_states,
        "ledger/absorbed": e.ledger.absorbed,
        "ledger/residual": e.ledger.residual,
    }


def scale_of(expected: Mapping[str, Array], name: str) -> float:
    """Returns what a difference is measured by: the largest entry of the outputs; of the relevance of all inputs; and
    for the ledger, also the amounts that its entries are the difference of.
    """

    def largest(*names: str) -> float:
        return max((float(np.abs(expected[n]).max(initial=0)) for n in names), default=0.0)

    relevance = [n for n in expected if n.startswith("relevance/")]
    if name in relevance:
        return largest(*relevance)
    if name == "explained" or name.startswith("ledger/"):
        amounts = sum(float(np.abs(expected[n]).sum()) for n in relevance)
        return max(largest("explained", *(n for n in expected if n.startswith("ledger/"))), amounts)
    return largest(name) if expected[name].dtype.kind == "f" else 0.0


def difference(found: Array, expected: Array, scale: float) -> str:
    """In words; empty where they agree."""
    if found.shape != expected.shape:
        return f"shape {found.shape}, expected {expected.shape}"
    if expected.dtype.kind != "f":
        return "" if np.array_equal(found, expected) else "other integers"
    if not np.array_equal(np.isnan(found), np.isnan(expected)):
        return "NaN in one of the two"
    most = float(np.nanmax(np.abs(found - expected.astype(found.dtype)), initial=0))
    return "" if most <= TOLERANCE * scale + 1e-9 else f"{most:.2g} at a scale of {scale:.2g}"
