# SPDX-License-Identifier: Apache-2.0
"""Describes one job (what is explained, how, into which folder, in which shards) and its manifest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from lstm_explain.batch.explain import Explainer, Padding
from lstm_explain.batch.feed import feed_of
from lstm_explain.condition import Condition
from lstm_explain.durable_files import write_text
from lstm_explain.errors import InputError, ModelError
from lstm_explain.grouping import Groups
from lstm_explain.methods import Method
from lstm_explain.repository.as_json import method_as_json, target_as_json
from lstm_explain.repository.group_notation import groups_as_text
from lstm_explain.repository.model_folder import Source, find_model
from lstm_explain.repository.served_model import ServedModel, load_served
from lstm_explain.repository.through_notation import through_as_text
from lstm_explain.target import Target
from lstm_explain.target_sets import TargetSet, shared

MANIFEST, ROWS, ERRORS, STATISTICS = "manifest.json", "rows", "errors", "statistics"
PACKAGES = ("lstm-explain", "numpy", "numba", "onnx", "onnxruntime", "pyarrow")
SHARDS, MIN_ROWS, MAX_ROWS = 64, 256, 16384  # the number of shards, unless these limits on their rows prevent it


class Shard(NamedTuple):
    """The rows from `start` up to `stop` of the job's data file with that index."""

    file: int
    start: int
    stop: int


@dataclass(frozen=True)
class Job:
    """model: a path for `find_model`. columns: by input, where names differ. key: a column that is copied. names: of
    the data files, as the output calls them. digests: of the model's files, by name. targets: several at once, which
    take the place of `target`. condition: what a row's prediction must meet to be explained. groups, through: see
    Explainer.
    """

    model: Path
    method: Method
    target: Target
    columns: Mapping[str, str]
    key: str | None
    data: tuple[Path, ...]
    names: tuple[str, ...]
    digests: Mapping[str, str]
    output: Path
    shards: tuple[Shard, ...] = ()
    padding: Padding = field(default_factory=Padding)
    targets: tuple[TargetSet, ...] = ()
    condition: Condition | None = None
    groups: Groups | None = None
    through: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def explainer(self, served: ServedModel, available: Sequence[str]) -> Explainer:
        """available: the columns of the data. Raises InputError."""
        words = self.groups is not None and self.groups.words
        feed = feed_of(served, self.columns, available, with_words=words)
        outputs = _outputs(served, shared(self.targets[0]) if self.targets else self.target)
        return Explainer(
            served.model,
            feed,
            self.method,
            self.target,
            outputs,
            self.padding,
            self.targets,
            self.condition,
            self.groups,
            self.through,
        )

    def load(self) -> ServedModel:
        """Loads the model. Raises ModelError if it is not the one that the job began with."""
        source = find_model(self.model)
        served = load_served(source)
        if digests(source, served) != dict(self.digests):
            raise ModelError(f"{self.model}: the model has changed since the job began")
        return served

    def part(self, kind: str, number: int) -> Path:
        return self.output / kind / f"part-{number:06d}.parquet"


def digests(source: Source, served: ServedModel) -> dict[str, str]:
    """Returns the SHA-256 of every file of the model, by name."""
    paths = [source.model_file, source.config_file]
    if served.config.tokenizer is not None:
        paths += [folder / served.config.tokenizer.file for folder in (source.model_file.parent, source.folder)]
    for tensor in onnx.load(str(source.model_file), load_external_data=False).graph.initializer:
        paths += [source.model_file.parent / e.value for e in tensor.external_data if e.key == "location"]
    return {path.name: _digest(path) for path in dict.fromkeys(paths) if path.is_file()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _outputs(served: ServedModel, target: Target) -> dict[str, int | None]:
    """Returns the samples' axis of the explained output and of all others for which it is known, by name."""
    model, config = served.model, served.config
    explained = target.output or model.default_output
    axes = {explained: target.batch_axis}
    if target.batch_axis is None:
        return {**axes, **dict.fromkeys(model.outputs)}
    shape = model.outputs[explained].shape
    samples = shape[target.batch_axis] if target.batch_axis < len(shape) else None
    for name, spec in model.outputs.items():
        if config.sets_batch_axis(name, len(spec.shape)):
            axes.setdefault(name, config.batch_axis_of(name))
        elif isinstance(samples, str) and samples in spec.shape:
            axes.setdefault(name, spec.shape.index(samples))
    return {name: axes[name] for name in model.outputs if name in axes}


def split_pieces(pieces: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Ranges of at most `limit` rows: consecutive pieces together where they fit, otherwise equal parts of one
    piece.
    """
    ranges: list[tuple[int, int]] = []
    start = end = 0
    for piece in pieces:
        if end > start and end + piece - start > limit:
            ranges.append((start, end))
            start = end
        end += piece
        if piece > limit:
            count = math.ceil(piece / limit)
            ranges += pairwise(start + piece * i // count for i in range(count + 1))
            start = end
    return [*ranges, (start, end)] if end > start else ranges


def shards_of(pieces: Sequence[Sequence[int]], limit: int | None) -> tuple[Shard, ...]:
    """pieces: by file. limit: rows per shard; None: enough for some tens of shards."""
    total = sum(map(sum, pieces))
    limit = limit or min(max(math.ceil(total / SHARDS), MIN_ROWS), MAX_ROWS)
    return tuple(Shard(file, *ends) for file, rows in enumerate(pieces) for ends in split_pieces(rows, limit))


def identity(job: Job) -> dict[str, Any]:
    """Returns what the results depend on; it must not change when a job resumes."""
    stats = [path.stat() for path in job.data]
    return {
        "model": dict(job.digests),
        "method": method_as_json(job.method),
        "target": target_as_json(job.target),
        # None where the job has none, so that a job which does not ask for them differs from one that does.
        "targets": [target_as_json(one) for one in job.targets] or None,
        "condition": str(job.condition) if job.condition else None,
        "groups": groups_as_text(job.groups) if job.groups else None,
        "through": through_as_text(job.through) or None,
        "columns": dict(job.columns),
        "key": job.key,
        "data": [
            {"file": name, "bytes": s.st_size, "modified_ns": s.st_mtime_ns}
            for name, s in zip(job.names, stats, strict=True)
        ],
        "versions": {name: version(name) for name in PACKAGES},
    }


def write_manifest(job: Job) -> None:
    content = {
        "format": 1,
        **identity(job),
        "padding": asdict(job.padding),
        "shards": [list(shard) for shard in job.shards],
    }
    write_text(job.output / MANIFEST, json.dumps(content, indent=1) + "\n")


def resume(job: Job) -> Job | None:
    """Returns the job as recorded in its folder; None where there is none. Raises Error where the folder belongs to
    another job.
    """
    path = job.output / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if job.output.is_dir() and any(job.output.iterdir()):
            raise InputError(f"{job.output}: contains files, but no job", field="output") from None
        return None
    try:
        written = json.loads(text)
        padding, shards = Padding(**written["padding"]), tuple(Shard(*shard) for shard in written["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a valid manifest: {error}", field="output") from error
    differences = [text for key, now in identity(job).items() if (text := _difference(key, written.get(key), now))]
    if differences:
        listed = "; ".join(differences)
        raise InputError(
            f"{job.output} contains another job ({listed}): name another output, or delete it", field="output"
        )
    return Job(**{**{f.name: getattr(job, f.name) for f in fields(job)}, "padding": padding, "shards": shards})


def _difference(key: str, then: Any, now: Any) -> str:
    if then == now:
        return ""
    if isinstance(then, dict) and isinstance(now, dict):
        return "; ".join(
            text for k in dict.fromkeys([*then, *now]) if (text := _difference(f"{key} {k}", then.get(k), now.get(k)))
        )
    if isinstance(then, list) and isinstance(now, list):
        pairs = [(a, b) for a, b in zip(then, now, strict=False) if a != b]
        return _difference(f"{key}:", *pairs[0]) if pairs else f"{key}: {len(then)} before, {len(now)} now"
    return f"{key} was {_shown(then)}, is {_shown(now)}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
