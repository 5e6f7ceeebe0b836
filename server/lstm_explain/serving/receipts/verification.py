# SPDX-License-Identifier: Apache-2.0
"""Checks a receipt: its signature, the model and inputs that it names, and the answer, which is computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.json_format import ParseError

from lstm_explain.errors import InputError
from lstm_explain.grouping import NO_GROUPS, Grouping
from lstm_explain.inputs import Inputs, check_inputs, with_ids, word_numbers
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.runner.groups import find_groups, words_of
from lstm_explain.serving.receipts.envelope import Altered
from lstm_explain.serving.receipts.environment import differences, environment
from lstm_explain.serving.receipts.statement import (
    GROUP_NAMES,
    GROUP_STEPS,
    LEDGER,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    Answered,
    Asked,
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
    inputs: Inputs,
    relevance: Mapping[str, Array],
    tolerance: float = TOLERANCE,
) -> Verified:
    """Computes the answer again and compares it. inputs: as `Model.explain` takes them; a text may also be given as the
    ids of its tokens, unless the groups are words. relevance: the arrays that the caller got, by input, if they are
    there; they must be the ones that the receipt states.

    On the same kind of processor with the same packages, every array must have the same bits. Elsewhere, each explained
    value and each part of the ledger may differ by `tolerance` times the largest of them in the sample, and each
    element of `relevance` by as much of the largest element; the groups must have the same names and steps. Raises
    Altered, and Error of the engine.
    """
    try:
        return _verify(statement, served, inputs, relevance, tolerance)
    except (KeyError, TypeError, AttributeError, ValueError, ParseError) as error:
        raise Altered(f"the receipt lacks what a verification needs: {type(error).__name__}: {error}") from error


def _verify(
    statement: Mapping[str, Any],
    served: ServedModel,
    inputs: Inputs,
    relevance: Mapping[str, Array],
    tolerance: float,
) -> Verified:
    kinds = statement["_type"], statement["predicateType"]
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise Altered(f"the statement is {kinds[1]}, expected {PREDICATE_TYPE}")
    predicate, subjects = statement["predicate"], _by_name(statement["subject"])
    _check_model(predicate["model"], served)
    ids, tokens = with_ids(inputs, served.model.tokenizers)
    given = check_inputs(served.model.inputs, ids)
    _check_arrays(_by_name(predicate["inputs"]), given, "input")
    _check_arrays(subjects, {f"relevance/{name}": array for name, array in relevance.items()}, "", part=True)
    request = asked(predicate, served)
    grouping = _grouping(request, served, inputs, given, tokens)
    model, method, capture, condition = served.model, request.method, request.capture, request.condition
    if request.several:
        answers = list(
            model.explain_many(
                given, method, request.targets, capture, None, condition, grouping, through=request.through
            )
        )
    else:
        (target,) = request.targets
        answers = [model.explain(given, method, target, capture, None, condition, grouping, through=request.through)]
    answered = Answered(served, given, answers, request.several, capture, condition)
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
    if wrong := [name for name in other if name.startswith((GROUP_NAMES, GROUP_STEPS))]:
        raise Altered(f"computed again, these arrays have other values: {', '.join(wrong)}")
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


def _grouping(
    asked: Asked, served: ServedModel, inputs: Inputs, given: Mapping[str, Array], tokens: Mapping[str, Array]
) -> Grouping:
    """Returns the groups that the receipt says were asked for. Raises InputError."""
    if asked.groups is None:
        return NO_GROUPS
    model = served.model
    words = words_of(word_numbers(inputs, model.tokenizers), tokens) if asked.groups.words else {}
    if asked.groups.words and not words:
        problem = "the groups of this receipt are words: they can be found in the text, not in the ids of its tokens"
        raise InputError(problem, field="inputs")
    return find_groups(asked.groups, given, model.axes, model.labels, words)


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
