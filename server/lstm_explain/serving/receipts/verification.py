# SPDX-License-Identifier: Apache-2.0
"""Checks a receipt: its signature, the model and inputs that it names, and the answer, which is computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.json_format import ParseError

from lstm_explain.inputs import check_inputs
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.receipts.envelope import Altered
from lstm_explain.serving.receipts.environment import differences, environment
from lstm_explain.serving.receipts.statement import (
    LEDGER,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    Answered,
    arrays_of,
    asked,
    described,
)

Array = npt.NDArray[Any]
TOLERANCE = 1e-3
SAME_BITS, TOLERATED = "the same bits", "within the tolerance"


@dataclass(frozen=True)
class Verified:
    """What a receipt was found to agree in. agreement: SAME_BITS or TOLERATED. differences: between the environment of
    the receipt and this one. largest: the largest difference of a number, in shares of the sample's scale; 0 where the
    bits are the same. elementwise: whether every element of the relevance was compared, or only the ledger.
    """

    agreement: str
    differences: tuple[str, ...]
    largest: float = 0.0
    elementwise: bool = True


def verify(
    statement: Mapping[str, Any],
    served: ServedModel,
    inputs: Mapping[str, Array],
    relevance: Mapping[str, Array],
    tolerance: float = TOLERANCE,
) -> Verified:
    """Computes the answer again and compares it. inputs: as the model takes them, texts as ids. relevance: the arrays
    that the caller got, by input, if they are there; they must be the ones that the receipt states.

    On the same kind of processor with the same packages, every array must have the same bits. Elsewhere, each explained
    value and each part of the ledger may differ by `tolerance` times the largest of them in the sample, and each
    element of `relevance` by as much of the largest element. Raises Altered, and Error of the engine.
    """
    try:
        return _verify(statement, served, inputs, relevance, tolerance)
    except (KeyError, TypeError, AttributeError, ValueError, ParseError) as error:
        raise Altered(f"the receipt lacks what a verification needs: {type(error).__name__}: {error}") from error


def _verify(
    statement: Mapping[str, Any],
    served: ServedModel,
    inputs: Mapping[str, Array],
    relevance: Mapping[str, Array],
    tolerance: float,
) -> Verified:
    kinds = statement["_type"], statement["predicateType"]
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise Altered(f"the statement is {kinds[1]}, expected {PREDICATE_TYPE}")
    predicate, subjects = statement["predicate"], _by_name(statement["subject"])
    _check_model(predicate["model"], served)
    given = check_inputs(served.model.inputs, inputs)
    _check_arrays(_by_name(predicate["inputs"]), given, "input")
    _check_arrays(subjects, {f"relevance/{name}": array for name, array in relevance.items()}, "", part=True)
    request = asked(predicate, served)
    if request.several:
        answers = list(
            served.model.explain_many(
                given, request.method, request.targets, request.capture, condition=request.condition
            )
        )
    else:
        target, condition = request.targets[0], request.condition
        answers = [served.model.explain(given, request.method, target, request.capture, condition=condition)]
    answered = Answered(served, given, answers, request.several, request.capture, request.condition)
    arrays = arrays_of(answered)
    found = _by_name(described(arrays))
    apart = tuple(differences(predicate["environment"], environment()))
    if found == subjects:
        return Verified(SAME_BITS, apart)
    other = sorted(name for name in {*found, *subjects} if found.get(name) != subjects.get(name))
    if not apart:
        problem = "though processor and packages are the same"
        raise Altered(f"computed again, these arrays have other bits, {problem}: {', '.join(other)}")
    if wrong := sorted(name for name in other if _shape(found, name) != _shape(subjects, name)):
        raise Altered(f"computed again, these arrays have another type or shape: {', '.join(wrong)}")
    recorded = {"explained": predicate["explained"], **{part: predicate["ledger"][part] for part in LEDGER}}
    computed = {"explained": arrays["explained"], **{part: arrays[f"ledger/{part}"] for part in LEDGER}}
    largest = _ledger_difference(recorded, computed)
    for name, array in relevance.items():
        largest = max(largest, _difference(array, arrays[f"relevance/{name}"]))
    if not largest <= tolerance:
        raise Altered(
            f"computed again, numbers differ by up to {largest:.2g} of the sample's scale, more than {tolerance:g}"
        )
    elementwise = {f"relevance/{name}" for name in relevance} >= {n for n in subjects if n.startswith("relevance/")}
    return Verified(TOLERATED, apart, largest, elementwise)


def _check_model(recorded: Mapping[str, Any], served: ServedModel) -> None:
    """Raises Altered."""
    if recorded["digest"]["sha256"] == served.card.digest:
        return
    files = {file["name"]: file["digest"]["sha256"] for file in recorded["files"]}
    names = {*files, *served.card.file_digests}
    other = sorted(name for name in names if files.get(name) != served.card.file_digests.get(name))
    named = f"{recorded['name']} version {recorded['version']}"
    raise Altered(f"this is not the model of the receipt ({named}): {', '.join(other)} differ")


def _check_arrays(recorded: Mapping[str, Any], given: Mapping[str, Array], kind: str, *, part: bool = False) -> None:
    """part: whether some of the recorded arrays may be missing. Raises Altered."""
    found = _by_name(described(given))
    names = found if part else {**recorded, **found}
    for name in names:
        if name not in recorded:
            raise Altered(f"the receipt states no {kind} {name}".replace("  ", " "))
        if found.get(name) != recorded[name]:
            before, now = recorded[name]["annotations"], found.get(name, {}).get("annotations", "nothing")
            detail = "" if before == now else f" (it is {_text(before)}, this one {_text(now)})"
            raise Altered(f"this is not the {kind} {name} of the receipt{detail}".replace("  ", " "))


def _text(annotations: Any) -> str:
    return annotations if isinstance(annotations, str) else f"{annotations['dtype']} {annotations['shape']}"


def _by_name(descriptors: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["name"]: {key: one[key] for key in ("digest", "annotations")} for one in descriptors}


def _shape(descriptors: Mapping[str, Any], name: str) -> Any:
    return descriptors.get(name, {}).get("annotations")


def _ledger_difference(recorded: Mapping[str, Any], computed: Mapping[str, Array]) -> float:
    """Returns the largest difference, in shares of the largest number of the sample."""
    before = np.stack([np.asarray(recorded[name], np.float64) for name in recorded])
    now = np.stack([computed[name].astype(np.float64) for name in recorded])
    if before.shape != now.shape:
        raise Altered(
            f"the ledger of the receipt has the shape {list(before.shape[1:])}, expected {list(now.shape[1:])}"
        )
    if not np.array_equal(np.isnan(before), np.isnan(now)):
        raise Altered("computed again, other samples meet the condition")
    before, now = np.nan_to_num(before), np.nan_to_num(now)  # of samples that a condition left out
    scale = np.maximum(np.abs(before).max(axis=0), np.abs(now).max(axis=0))
    return float((np.abs(before - now).max(axis=0) / np.where(scale > 0, scale, 1)).max(initial=0.0))


def _difference(before: Array, now: Array) -> float:
    """Returns the largest difference of two arrays, in shares of the largest element."""
    before, now = np.nan_to_num(before), np.nan_to_num(now)
    scale = max(float(np.abs(before).max(initial=0.0)), float(np.abs(now).max(initial=0.0)))
    return float(np.abs(before.astype(np.float64) - now).max(initial=0.0)) / scale if scale > 0 else 0.0
