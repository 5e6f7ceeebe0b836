# SPDX-License-Identifier: Apache-2.0
"""Runs a job from its beginning, or from where it was interrupted, to its end."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from lstm_explain.batch import cluster, drift, report
from lstm_explain.batch.cells import Unusable
from lstm_explain.batch.explain import find_padding
from lstm_explain.batch.job import (
    ERRORS,
    ROWS,
    STATISTICS,
    Job,
    digests,
    resume,
    shards_of,
    write_manifest,
)
from lstm_explain.batch.shard import ShardResult, Worker, finished, windows
from lstm_explain.batch.show import Total, follow
from lstm_explain.batch.source import DataFile, find_data, open_data
from lstm_explain.batch.stats import merge
from lstm_explain.condition import parse_condition
from lstm_explain.durable_files import atomically, remove_leftovers, write_text
from lstm_explain.errors import InputError, TargetError
from lstm_explain.repository.group_notation import groups_as_text, groups_from_text
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.request import check_combination
from lstm_explain.repository.served_model import ServedModel, load_served
from lstm_explain.repository.text_notation import override_from_text
from lstm_explain.repository.through_notation import through_as_text, through_from_parts

LOCK, REPORT, SUMMARY = ".lock", "report.html", "summary.json"
PROBE_ROWS = 16  # rows that are tried before the job begins


@dataclass(frozen=True)
class JobRequest:
    """The arguments of the command line. None: the model's own default, or ours."""

    model: Path
    data: Path
    output: Path
    method: str | None = None
    parameters: Mapping[str, str] | None = None
    target: str | None = None
    columns: Mapping[str, str] | None = None
    key: str | None = None
    shard_rows: int | None = None
    targets: str | None = None
    condition: str = ""
    groups: str | None = None
    through: Sequence[str] = ()


def prepare(request: JobRequest) -> tuple[Job, ServedModel]:
    """Writes the manifest of a new job, or resumes an existing one. Raises Error, OSError."""
    groups = None if request.groups is None else groups_from_text(request.groups)
    through, condition = through_from_parts(request.through), parse_condition(request.condition)
    check_combination(condition, groups, through)
    source = find_model(request.model)
    served = load_served(source)
    paths = find_data(request.data)
    root = request.data if request.data.is_dir() else request.data.parent
    method = served.with_background(override_from_text(served.default_method, request.method, request.parameters or {}))
    job = Job(
        model=request.model.absolute(),
        method=method if groups is None else method.over_groups(),
        target=served.target_from_text(request.target),
        targets=() if request.targets is None else served.targets_from_text(request.targets),
        condition=condition,
        groups=groups,
        through=through,
        columns=dict(request.columns or {}),
        key=request.key,
        data=tuple(path.absolute() for path in paths),
        names=tuple(str(path.relative_to(root)) for path in paths),
        digests=digests(source, served),
        output=request.output.absolute(),
    )
    resumed = resume(job)
    if resumed is not None:
        return resumed, served
    files = [open_data(path) for path in paths]
    for name, file in zip(job.names, files, strict=True):
        _check_columns(job, served, name, file)
    job = replace(job, shards=shards_of([file.pieces for file in files], request.shard_rows))
    if not job.shards:
        raise InputError(f"{request.data}: there are no rows", field="input")
    job = _with_padding(job, served, files)
    for folder in (ROWS, ERRORS, STATISTICS):
        (job.output / folder).mkdir(parents=True, exist_ok=True)
    write_manifest(job)
    return job, served


def run(
    job: Job,
    served: ServedModel,
    workers: int | None = None,
    address: str | None = None,
    reference: Path | None = None,
    *,
    as_reference: bool = False,
) -> Total:
    """Runs the rest of the job and writes its report. Raises Error, OSError.

    workers: 0 for this process, without Ray. reference: the folder of another run. as_reference: whether its rows
    become the reference of the model, with which a server compares what it answers.
    """
    if reference is not None:
        report.read(reference)  # Fails early if it is not a finished run.
    if as_reference:
        drift.check(job)
    with _exclusive(job.output):
        for folder in (job.output, *(job.output / kind for kind in (ROWS, ERRORS, STATISTICS))):
            remove_leftovers(folder)
        total, remaining = Total(), []
        for number in range(len(job.shards)):
            done = finished(job, number)
            if done is None:
                remaining.append(number)
            else:
                total.add(done)
        rows = sum(shard.stop - shard.start for shard in job.shards)
        with closing(_shards(job, served, remaining, workers, address)) as work, follow(rows, total) as update:
            for done in work:
                total.add(done)
                update()
        _report(job, served, total, reference)
        if as_reference:
            drift.write_reference(job, served)
        return total


def _report(job: Job, served: ServedModel, total: Total, reference: Path | None) -> None:
    stats = merge(pq.read_table(job.part(STATISTICS, number)) for number in range(len(job.shards)))
    lines = report.lines_of(stats, served.config.features, reference)
    largest = report.worst_drift(lines)
    facts = {"model": served.name, "method": str(job.method), "target": job.target.output or "the model's own"}
    if job.groups is not None:
        facts["groups"] = groups_as_text(job.groups)
    if job.through:
        facts["relevance through"] = through_as_text(job.through)
    if reference is not None:
        facts["reference"] = str(reference)
    if largest is not None:
        facts["largest drift"] = (
            f"{largest.drift:+.2f} standard deviations: {largest.input} {largest.kind} {largest.name}"
        )
    with atomically(job.output / report.AGGREGATES) as temporary:
        pq.write_table(report.table(lines), temporary)
    write_text(job.output / REPORT, report.page(f"Relevance of {served.name}", lines, total, facts))
    write_text(job.output / SUMMARY, json.dumps(total.as_json(), indent=1) + "\n")


def _shards(
    job: Job, served: ServedModel, remaining: Sequence[int], workers: int | None, address: str | None
) -> Generator[ShardResult]:
    if workers == 0:
        worker = Worker(job, served)
        return (worker.run(number) for number in remaining)
    return cluster.run(job, remaining, workers, address)


@contextmanager
def _exclusive(output: Path) -> Iterator[None]:
    """Locks the folder for this process; the lock ends with the process."""
    with (output / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{output}: another process is working there", field="output") from None
        yield


def _check_columns(job: Job, served: ServedModel, name: str, file: DataFile) -> None:
    try:
        job.explainer(served, file.columns)
        if job.key is not None and job.key not in file.columns:
            raise InputError(f"no column {job.key!r} for the key", field="key")
    except InputError as error:
        raise InputError(f"{name}: {error}", field=error.field) from error


def _with_padding(job: Job, served: ServedModel, files: Sequence[DataFile]) -> Job:
    """Finds out with the first rows whether padding changes answers. Raises Error where no row can be explained, and
    where groups or units do not fit the model.
    """
    first = job.shards[0]
    file = files[first.file]
    explainer = job.explainer(served, file.columns)
    stop = min(first.stop, first.start + PROBE_ROWS)
    _, _, rows = next(windows(file, explainer.feed, job.key, first.start, stop))
    explainer.check(rows)
    found = explainer.explain(rows)
    reasons = [row for row in found if isinstance(row, Unusable)]
    if len(reasons) == len(found) and all(row.error == TargetError.__name__ for row in reasons):
        raise TargetError(reasons[0].reason, field="target")
    return replace(job, padding=find_padding(replace(explainer, condition=None, groups=None), rows))
