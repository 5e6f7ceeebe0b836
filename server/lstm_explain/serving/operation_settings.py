# SPDX-License-Identifier: Apache-2.0
"""Declares the settings of operations."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings


class OperationSettings(BaseSettings):
    """The part of Settings about operations."""

    operations_folder: Path | None = Field(
        default=None,
        description="folder for operations (requests and results of StartExplain and StartBatch), on a disk that "
        "outlives the server; without it, the server keeps none",
    )
    operations_parallel: int = Field(
        default=1, ge=1, description="operations that one process computes at a time, beside --parallel"
    )
    operations_keep_seconds: float = Field(
        default=86_400.0, gt=0, description="seconds after its end until an operation is removed, with its result"
    )
    max_operations: int = Field(
        default=1000,
        ge=1,
        description="maximum operations in the folder, ended ones included; further ones are refused",
    )
    max_operations_bytes: int = Field(
        default=4 * 1024**3,
        ge=1,
        description="bytes of all requests and results in the folder beyond which further operations are refused",
    )
    max_operation_samples: int = Field(
        default=100_000_000,
        ge=1,
        description="what --max-samples is for a request, for an operation; model.yaml does not lower it",
    )
    max_operation_seconds: float = Field(
        default=21_600.0, gt=0, description="seconds that one attempt at an operation may take"
    )
    batch_folder: Path | None = Field(
        default=None,
        description="folder whose files StartBatch may read and write; with --tokens, a caller may only use the folder "
        "in it that has its name; needs --operations-folder and the extra `ray`",
    )
    batch_ray: str | None = Field(
        default=None,
        description="address of the Ray cluster that computes batch jobs; without it, a process of this server does",
    )

    @model_validator(mode="after")
    def _keeps_batch_jobs(self) -> Self:
        if self.batch_folder is not None and self.operations_folder is None:
            raise ValueError("--batch-folder needs --operations-folder")
        if self.batch_ray is not None and self.batch_folder is None:
            raise ValueError("--batch-ray needs --batch-folder")
        if self.batch_folder is not None and not self.batch_folder.is_dir():
            raise ValueError(f"--batch-folder: {self.batch_folder} is not a folder")
        return self
