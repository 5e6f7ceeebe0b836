# SPDX-License-Identifier: Apache-2.0
"""Reads and writes drift.json, next to model.onnx: the shares of relevance that the served ones are compared with.

It holds statistics over the rows of a data set of every share that `relevance_shares.shares` returns, and says which
model, method and target they belong to. It does not determine what the version answers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lstm_explain.errors import Error, InputError, ModelError
from lstm_explain.methods import Method
from lstm_explain.repository.as_json import method_as_json, target_as_json
from lstm_explain.repository.model_digest import digest_of
from lstm_explain.repository.model_folder import CONFIG, DRIFT, Source
from lstm_explain.repository.relevance_shares import LAG, LAG_GROUPS, MAX_FEATURES, Array, Group, lags_of
from lstm_explain.target import Target

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
MIN_ROWS = 100
MAX_POSITIONS = 1024  # shares of all inputs together

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Shares = Annotated[list[_Share], Field(min_length=1, max_length=MAX_FEATURES)]


class _GroupFile(BaseModel):
    """One group of shares, as the file holds it."""

    model_config = ConfigDict(extra="forbid")
    input: str
    kind: Literal["feature", "lag"]
    mean: _Shares
    std: _Shares
    scale: _Shares


class _ReferenceFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: Literal[1]
    files: str
    method: dict[str, Any]
    target: dict[str, Any]
    rows: Annotated[int, Field(ge=MIN_ROWS)]
    shares: Annotated[list[_GroupFile], Field(min_length=1)]


@dataclass(frozen=True)
class DriftReference:
    """files: the digest of the version's files without model.yaml. method, target: as `as_json` writes them. rows: over
    which the statistics are. groups: by group, the number of its positions, in the order of the arrays. scales: how far
    the shares spread beyond what their variances say, see `moments`.
    """

    files: str
    method: Mapping[str, Any]
    target: Mapping[str, Any]
    rows: int
    groups: Mapping[Group, int]
    means: Array
    variances: Array
    scales: Array

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in self.groups))

    def fits(self, method: Method, target: Target, default_output: str) -> bool:
        """Returns whether explanations by this method for this target can be compared."""
        return method_as_json(method) == self.method and target_of(target, default_output) == self.target

    def flat(self, shares: Mapping[Group, Array]) -> Array | None:
        """Returns the shares in the order of `means`; None where they are of other groups or sizes."""
        if {group: len(found) for group, found in shares.items()} != self.groups:
            return None
        return np.concatenate([shares[group] for group in self.groups])

    def name(self, position: int, features: Mapping[str, list[str]]) -> str:
        """Returns what a position is, in words. features: their names by input, where they have any."""
        each = [(name, kind, at) for (name, kind), size in self.groups.items() for at in range(size)]
        name, kind, at = each[position]
        if kind == LAG:
            return f"{lags_of(at)} of {name!r}"
        known = features.get(name, [])
        return f"feature {known[at] if at < len(known) else at} of {name!r}"


def reference_of(
    samples: Iterable[Mapping[Group, Array]], files: str, method: Method, target: Target, default_output: str
) -> DriftReference:
    """Returns the reference. samples: the shares of each. files, target: see DriftReference. Raises Error where there
    are too few samples or too many shares, InputError where samples differ in their features.
    """
    rows, sums = 0, dict[Group, Array]()
    for found in samples:
        rows += bool(found)
        for group, values in found.items():
            total = sums.setdefault(group, np.zeros((4, len(values))))
            if total.shape[1] != len(values):
                raise InputError(f"input {group[0]!r} has rows of {total.shape[1]} and of {len(values)} features")
            total += values ** np.arange(1, 5)[:, np.newaxis]
    if rows < MIN_ROWS:
        raise Error(f"a reference for drift needs {MIN_ROWS} rows with relevance, there are {rows}")
    groups = {group: total.shape[1] for group, total in sums.items()}
    if sum(groups.values()) > MAX_POSITIONS:
        raise Error(f"a reference has at most {MAX_POSITIONS} features and lags, there are {sum(groups.values())}")
    means, variances, scales = moments(np.concatenate(list(sums.values()), axis=1), rows)
    as_json = target_of(target, default_output)
    return DriftReference(files, method_as_json(method), as_json, rows, groups, means, variances, scales)


def target_of(target: Target, default_output: str) -> dict[str, Any]:
    """Returns the target as JSON, with its output."""
    return target_as_json(replace(target, output=target.output or default_output))


def moments(powers: Array, rows: int) -> tuple[Array, Array, Array]:
    """Returns means, variances and scales from sums over samples.

    powers: [4, positions], of the samples and of their second, third and fourth powers. With the scale c, moments
    satisfy the condition of Bernstein's inequality E|x - mean|^q <= q!/2 variance c^(q - 2) for q = 4, and for q = 3 by
    the inequality of Cauchy and Schwarz; outliers make it large. 1/3 satisfies it for all values from 0 to 1.
    """
    mean, second, third, fourth = powers / rows
    variance = np.maximum(second - mean**2, 0.0)
    spread = np.maximum(fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4, 0.0)
    scale = np.sqrt(spread / np.maximum(variance, np.finfo(float).tiny)) / 3
    return mean, variance, np.minimum(scale, 1 / 3)


def files_digest(file_digests: Mapping[str, str]) -> str:
    """Returns the digest of a version's files without model.yaml, whose method and target are compared by themselves.

    file_digests: by name, as `digests_of` returns them.
    """
    return digest_of({name: digest for name, digest in file_digests.items() if name != CONFIG})


def reference_path(source: Source) -> Path | None:
    """Returns where the file is; None for a model without a folder of its own."""
    return None if source.bare else source.model_file.parent / DRIFT


def read_reference(source: Source, file_digests: Mapping[str, str]) -> DriftReference | None:
    """Returns the reference; None where there is none, or it is that of other files. Raises ModelError, OSError."""
    path = reference_path(source)
    if path is None or not path.is_file():
        return None
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{DRIFT}: {path.stat().st_size} bytes, at most {MAX_BYTES} are allowed")
    try:
        found = _ReferenceFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(f"{DRIFT}: {where + ': ' if where else ''}{first['msg']}") from None
    groups: dict[Group, int] = {(one.input, one.kind): len(one.mean) for one in found.shares}
    for one in found.shares:
        sizes = [len(one.mean), len(one.std), len(one.scale)]
        wanted = LAG_GROUPS if one.kind == LAG else len(one.mean)
        if sizes != [wanted] * 3:
            raise ModelError(f"{DRIFT}: mean, std and scale of {one.input!r} have {sizes} numbers, expected {wanted}")
    if len(groups) < len(found.shares) or sum(groups.values()) > MAX_POSITIONS:
        raise ModelError(f"{DRIFT}: expected each input and kind once, with at most {MAX_POSITIONS} shares together")
    if found.files != files_digest(file_digests):
        log.warning("model %s version %d: %s belongs to other files; drift is not measured", *source.key, DRIFT)
        return None
    means, deviations, scales = (
        np.concatenate([getattr(one, key) for one in found.shares]) for key in ("mean", "std", "scale")
    )
    return DriftReference(found.files, found.method, found.target, found.rows, groups, means, deviations**2, scales)


def reference_text(reference: DriftReference) -> str:
    """Returns the content of the file."""
    ends = np.cumsum(list(reference.groups.values()))[:-1]
    arrays = {"mean": reference.means, "std": np.sqrt(reference.variances), "scale": reference.scales}
    parts = {key: np.split(array, ends) for key, array in arrays.items()}
    content = {
        "format": 1,
        "files": reference.files,
        "method": reference.method,
        "target": reference.target,
        "rows": reference.rows,
        "shares": [
            {"input": name, "kind": kind, **{key: split[i].tolist() for key, split in parts.items()}}
            for i, (name, kind) in enumerate(reference.groups)
        ],
    }
    return json.dumps(content, indent=1) + "\n"
