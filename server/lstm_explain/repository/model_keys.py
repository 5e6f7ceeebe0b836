# SPDX-License-Identifier: Apache-2.0
"""The keys of model.yaml, the configuration of a model."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lstm_explain.labels import Labels
from lstm_explain.methods import LRP, Method
from lstm_explain.repository.request_limits import Limits
from lstm_explain.repository.route_config import RouteConfig
from lstm_explain.repository.text_notation import method_from_text
from lstm_explain.target import Target

MAX_FILE_NAME_BYTES = 255
Axis = Annotated[int, Field(ge=0)]


def file_in_folder(value: str) -> str:
    """Returns the name of a file in the model's folder. Raises ValueError."""
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value or not path.parts:
        raise ValueError("must be a file in the model's folder")
    if not value.isprintable() or max(len(part.encode()) for part in path.parts) > MAX_FILE_NAME_BYTES:
        raise ValueError(f"must be a printable file name of at most {MAX_FILE_NAME_BYTES} bytes")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MethodConfig(BaseModel):
    """The name of a method; its parameters are further keys."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str


class TargetConfig(_Strict):
    """See lstm_explain.Target. The batch axis is the model's."""

    output: str | None = None
    index: int | list[int] | None = None
    contrast: int | list[int] | None = None
    pre_activation: bool = True


class TokenizerConfig(_Strict):
    """`input` may be sent as text; `file` is a `tokenizers` JSON file in the model's folder. The padding id is 0."""

    file: str
    input: str

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        return file_in_folder(value)


class LimitsConfig(_Strict):
    """The limits of one request to this model. They can lower the server's settings of the same names only."""

    max_batch: int | None = Field(default=None, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    max_elements: int | None = Field(default=None, ge=1)
    max_samples: int | None = Field(default=None, ge=1)
    max_request_bytes_estimate: int | None = Field(default=None, ge=1)
    max_characters: int | None = Field(default=None, ge=1)
    max_targets: int | None = Field(default=None, ge=1)

    def limits(self) -> Limits:
        return Limits(
            self.max_batch,
            self.max_steps,
            self.max_elements,
            self.max_samples,
            self.max_request_bytes_estimate,
            self.max_characters,
            self.max_targets,
        )


class BatchingConfig(_Strict):
    """Compatible requests that wait for a slot run as one batch, of up to `max_batch` samples.

    max_delay_ms: how long a request waits for others although a slot is free.
    padding: by input, the value that follows a shorter sequence, for models that ignore what follows.
    """

    max_batch: int = Field(ge=2, le=4096)
    max_delay_ms: float = Field(default=0.0, ge=0, le=1000)
    padding: dict[str, float] = {}


class ModelConfig(_Strict, RouteConfig):
    """The content of model.yaml; every key has a default.

    batch_axis: the axis of inputs and outputs along which samples lie, or an axis by input or output; null for a model
        that takes one sample. The axes of inputs that are not named here are found in the graph.
    time_axis: by input, the axis along which time runs.
    gates: by node (a product), which operand is the gate: 0, 1, or null for neither; for gates that the graph does not
        show.
    classes, features: by output or input, the names of the entries of the last axis.
    feature_groups: by input, the features of each group (names, or positions on the last axis), by the group's name.
    units: by output or input, the unit of all entries, or one unit per entry of the last axis.
    examples: by input, what the page offers to try: texts for an input with a tokenizer, for others CSV files in the
        model's folder, with a line per time step.
    batching: without it, every request runs alone.
    """

    description: str = ""
    method: MethodConfig | None = None
    target: TargetConfig = TargetConfig()
    batch_axis: Axis | dict[str, Axis | None] | None = 0
    time_axis: dict[str, int] = {}
    gates: dict[str, Annotated[int, Field(ge=0, le=1)] | None] = {}
    classes: dict[str, list[str]] = {}
    features: dict[str, list[str]] = {}
    feature_groups: dict[str, dict[str, list[str | int]]] = {}
    units: dict[str, str | list[str]] = {}
    examples: dict[str, list[str]] = {}
    tokenizer: TokenizerConfig | None = None
    limits: LimitsConfig = LimitsConfig()
    batching: BatchingConfig | None = None

    def labels(self, model: str, version: str) -> Labels:
        """Returns the names that the configuration gives to a version of the model."""
        units = {name: [unit] if isinstance(unit, str) else unit for name, unit in self.units.items()}
        return Labels(model, version, self.classes, self.features, units, self.feature_groups)

    def default_method(self) -> Method:
        """Returns the method for requests that name none. Raises MethodError."""
        return LRP() if self.method is None else method_from_text(self.method.name, self.method.model_extra or {})

    def batch_axis_of(self, name: str) -> int | None:
        """Returns the batch axis of an input or output; 0 by default."""
        return self.batch_axis.get(name, 0) if isinstance(self.batch_axis, dict) else self.batch_axis

    def sets_batch_axis(self, name: str, rank: int) -> bool:
        """Returns whether the configuration says where the samples of an input of this rank lie."""
        given, axis = "batch_axis" in self.model_fields_set, self.batch_axis
        return given and (name in axis if isinstance(axis, dict) else axis is None or axis < rank)

    def default_target(self, first_output: str) -> Target:
        """Returns the target for requests that name none. first_output: the one that is explained by default."""

        def position(index: int | list[int] | None) -> int | tuple[int, ...] | None:
            return tuple(index) if isinstance(index, list) else index

        chosen = self.target
        return Target(
            output=chosen.output,
            index=position(chosen.index),
            batch_axis=self.batch_axis_of(chosen.output or first_output),
            contrast=position(chosen.contrast),
            pre_activation=chosen.pre_activation,
        )
