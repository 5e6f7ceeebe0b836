# SPDX-License-Identifier: Apache-2.0
"""Declares the settings of what a server reports: its metrics, traces, log and audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from lstm_explain.serving.addresses import split_address
from lstm_explain.serving.audit.destination import STDERR, STDOUT


class ReportSettings(BaseSettings):
    """The part of Settings about reports."""

    metrics_listen: str | None = Field(
        default=None, description="host and port for Prometheus metrics; without it, metrics are off"
    )
    traces: bool = Field(
        default=False,
        description="send OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT; needs the extra `otel`",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is logged"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="format of the log, which goes to stderr")
    audit: str | None = Field(
        default=None,
        description="file, or `stdout` or `stderr`, for the audit log: a line of JSON per explanation and per change "
        "of the models; begun again when the file is renamed; without it, there is none",
    )
    audit_inputs: bool = Field(
        default=False, description="include the inputs of every request in the audit log, which must be a file"
    )

    drift_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of the explanations that are compared with the reference of their model (drift.json), where "
        "it has one; 0 for none",
    )

    @field_validator("metrics_listen")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("audit")
    @classmethod
    def _is_absolute(cls, value: str | None) -> str | None:
        return value if value in (None, STDOUT, STDERR) else str(Path(value).absolute())

    @model_validator(mode="after")
    def _has_room_for_inputs(self) -> Self:
        if self.audit_inputs and self.audit in (None, STDOUT, STDERR):
            raise ValueError("--audit-inputs needs --audit with a file")
        return self
