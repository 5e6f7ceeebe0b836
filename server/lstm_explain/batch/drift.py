# SPDX-License-Identifier: Apache-2.0
"""Makes the rows of a finished job the reference with which a server compares the explanations that it serves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lstm_explain.batch.cells import Array, cells
from lstm_explain.batch.groups import are_players
from lstm_explain.batch.job import ROWS, Job
from lstm_explain.batch.source import open_data
from lstm_explain.durable_files import write_text
from lstm_explain.errors import InputError
from lstm_explain.repository.drift_reference import files_digest, reference_of, reference_path, reference_text
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.relevance_shares import Group, shares
from lstm_explain.repository.served_model import ServedModel

MAX_ROWS = 20_000  # evenly spaced over the job
CHUNK_ROWS = 256


def check(job: Job) -> None:
    """Raises InputError where the job cannot become a reference."""
    if job.targets:
        raise InputError("a reference for drift is of one target, not of several", field="as_reference")
    if job.condition:
        raise InputError(
            "a reference for drift is of all rows, not of those that meet a condition", field="as_reference"
        )
    if job.through:
        raise InputError(
            "a reference for drift is of all relevance, not of that through some units", field="as_reference"
        )
    if are_players(job.method):
        raise InputError("a reference for drift is of entries, not of groups as players", field="as_reference")
    if reference_path(find_model(job.model)) is None:
        raise InputError(f"{job.model}: only a version in a folder of its own has a reference", field="as_reference")


def write_reference(job: Job, served: ServedModel) -> Path:
    """Writes the reference next to the model; returns its path. Raises Error, OSError."""
    path = reference_path(find_model(job.model))
    assert path is not None
    reference = reference_of(
        _shares(job, served),
        files_digest(served.card.file_digests),
        job.method,
        job.target,
        served.model.default_output,
    )
    write_text(path, reference_text(reference))
    return path


def _shares(job: Job, served: ServedModel) -> Iterator[dict[Group, Array]]:
    """Yields those of up to MAX_ROWS rows."""
    feed = job.explainer(served, open_data(job.data[0]).columns).feed
    parts = [job.part(ROWS, number) for number in range(len(job.shards))]
    step = max(1, math.ceil(sum(pq.read_metadata(part).num_rows for part in parts) / MAX_ROWS))
    names = [name for name in feed.columns if name not in served.model.lengths]
    columns = {name: f"relevance/{name}" for name in names}
    number = 0
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(CHUNK_ROWS, columns=list(columns.values())):
                read = {name: cells(batch[column]) for name, column in columns.items()}
                for row in range(-number % step, len(batch), step):
                    relevance = {name: np.asarray(column[row]) for name, column in read.items()}
                    yield shares(relevance, {name: feed.time_axis_in(name, a) for name, a in relevance.items()})
                number += len(batch)
