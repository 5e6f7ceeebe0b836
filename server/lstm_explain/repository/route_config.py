# SPDX-License-Identifier: Apache-2.0
"""The keys of model.yaml that say which version of a model answers requests that name none."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CanaryConfig(_Strict):
    """`version` gets `share` of the requests that name no version."""

    version: int = Field(ge=1)
    share: float = Field(default=0.0, ge=0, le=1)


class RouteConfig(_Strict):
    """Which version answers requests that name none: without `default_version`, the newest that is ready."""

    default_version: int | None = Field(default=None, ge=1)
    canary: CanaryConfig | None = None
