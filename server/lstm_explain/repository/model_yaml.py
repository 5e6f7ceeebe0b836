# SPDX-License-Identifier: Apache-2.0
"""Reads and checks model.yaml, whose keys are in model_keys.py. Errors name the file, the line and the key."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from lstm_explain.errors import Error, InputError, MethodError, ModelError, TargetError
from lstm_explain.model import TensorSpec
from lstm_explain.program.axes import Axes
from lstm_explain.repository.model_keys import ModelConfig
from lstm_explain.repository.route_config import RouteConfig
from lstm_explain.repository.yaml_reader import read_yaml
from lstm_explain.runner.groups import positions_of
from lstm_explain.target import select

KeyPath = tuple[int | str, ...]
MAX_FEATURES = 1 << 24  # positions where a model declares no number of features
MAX_KEY_LENGTH = 200  # characters of a key that an error repeats


@dataclass(frozen=True)
class ConfigFile:
    """A configuration, with the line of each of its keys."""

    config: ModelConfig = field(default_factory=ModelConfig)
    name: str = "model.yaml"
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def error(self, path: KeyPath, problem: str) -> ModelError:
        """Returns an error at the key `path`, or at the nearest key above it that the file has."""
        known = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in self.lines), ())
        key = ".".join(str(p) for p in path)
        if len(key) > MAX_KEY_LENGTH:
            key = f"{key[:MAX_KEY_LENGTH]}…"
        return ModelError(f"{self.name}:{self.lines.get(known, 1)}: {key + ': ' if key else ''}{problem}")

    def check(self, inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]) -> None:
        """Raises ModelError at the first key that does not match the model."""
        config = self.config
        if config.target.output is not None:
            self._check_known(("target", "output"), config.target.output, outputs)
        self._check_position(outputs)
        for name, axis in config.time_axis.items():
            self._check_known(("time_axis", name), name, inputs)
            self._check_axis(("time_axis", name), axis, inputs[name])
            if config.sets_batch_axis(name, len(inputs[name].shape)) and axis == config.batch_axis_of(name):
                raise self.error(("time_axis", name), f"axis {axis} is the batch axis")
        for name, samples in (config.batch_axis if isinstance(config.batch_axis, dict) else {}).items():
            self._check_known(("batch_axis", name), name, inputs | outputs)
            if samples is not None:
                self._check_axis(("batch_axis", name), samples, (inputs | outputs)[name])
        for key, names, specs in (("classes", config.classes, outputs), ("features", config.features, inputs)):
            for name, values in names.items():
                self._check_known((key, name), name, specs)
                self._check_length((key, name), values, specs[name])
        for name, groups in config.feature_groups.items():
            self._check_known(("feature_groups", name), name, inputs)
            self._check_groups(("feature_groups", name), groups, inputs[name])
        for name, unit in config.units.items():
            self._check_known(("units", name), name, inputs | outputs)
            if isinstance(unit, list):
                self._check_length(("units", name), unit, (inputs | outputs)[name])
        if config.tokenizer is not None:
            self._check_known(("tokenizer", "input"), config.tokenizer.input, inputs)

    def check_no_route(self) -> None:
        """Raises ModelError if the configuration of one version says which version answers."""
        for key in RouteConfig.model_fields:
            if getattr(self.config, key) is not None:
                raise self.error((key,), "belongs in the model.yaml of the model's folder, not of a version's")

    def check_nodes(self, nodes: Iterable[str]) -> None:
        """Raises ModelError if the configuration names a node that the model does not have."""
        known = set(nodes)
        for name in self.config.gates:
            if name not in known:
                raise self.error(("gates", name), f"the model has no node {name!r}")

    def check_padding(self, axes: Mapping[str, Axes], inputs: Mapping[str, TensorSpec]) -> None:
        """Raises ModelError if an input with a padding value cannot be padded."""
        padding = {} if self.config.batching is None else self.config.batching.padding
        for name, value in padding.items():
            path: KeyPath = ("batching", "padding", name)
            self._check_known(path, name, dict(inputs))
            spec, time = inputs[name], axes[name].time
            if time is None or not isinstance(spec.shape[time], str):
                raise self.error(path, "the input has no time axis of variable length")
            if spec.dtype.kind != "f" and not value.is_integer():
                raise self.error(path, f"the input takes {spec.dtype}, not {value}")

    def axes(self, found: Mapping[str, Axes], ranks: Mapping[str, int]) -> dict[str, Axes]:
        """Returns the axes of samples and time, by input: from the configuration, else as found in the graph.

        Where the configuration gives one of them as the axis that was found to be the other, the two are swapped.
        """
        axes = {}
        for name, old in found.items():
            gives_batch = self.config.sets_batch_axis(name, ranks[name])
            batch = self.config.batch_axis_of(name) if gives_batch else old.batch
            time = self.config.time_axis.get(name, old.time)
            if batch is not None and batch == time:
                batch, time = (batch, old.batch) if gives_batch else (old.time, time)
            new = Axes(batch, None if time == batch else time)
            configured = gives_batch or name in self.config.time_axis
            axes[name] = new if configured or new != old else old
        return axes

    def _check_position(self, outputs: dict[str, TensorSpec]) -> None:
        """Raises ModelError if the output has known extents and lacks the position that the target names."""
        chosen, floats = self.config.target, (n for n, spec in outputs.items() if spec.dtype.kind == "f")
        name = chosen.output or next(floats, None)
        if name is None or (chosen.index is None and chosen.contrast is None):
            return
        target = self.config.default_target(name)
        shape = [1 if axis == target.batch_axis else extent for axis, extent in enumerate(outputs[name].shape)]
        known = [extent for extent in shape if isinstance(extent, int)]
        if len(known) == len(shape):
            try:
                select(target, np.zeros(known), name)
            except TargetError as error:
                raise self.error(tuple(error.field.split(".")), str(error)) from error

    def _check_axis(self, path: KeyPath, axis: int, spec: TensorSpec) -> None:
        if not 0 <= axis < len(spec.shape):
            raise self.error(path, f"the axes are 0 to {len(spec.shape) - 1}")

    def _check_known(self, path: KeyPath, name: str, specs: dict[str, TensorSpec]) -> None:
        if name not in specs:
            raise self.error(path, f"the model has no {name!r}, only {', '.join(specs)}")

    def _check_groups(self, path: KeyPath, groups: Mapping[str, list[str | int]], spec: TensorSpec) -> None:
        extent, names = spec.shape[-1] if spec.shape else 1, self.config.features.get(str(path[-1]), ())
        try:
            positions_of(groups, extent if isinstance(extent, int) else MAX_FEATURES, names, str(path[-1]))
        except InputError as error:
            raise self.error(path, str(error)) from error

    def _check_length(self, path: KeyPath, values: list[str], spec: TensorSpec) -> None:
        extent = spec.shape[-1] if spec.shape else 1
        if isinstance(extent, int) and len(values) != extent:
            raise self.error(path, f"{len(values)} names for {extent} entries")


def read_config(path: Path) -> ConfigFile:
    """Returns the configuration in the file, or the defaults if there is no file. Raises ModelError."""
    if not os.path.lexists(path):
        return ConfigFile(name=path.name)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "something else"
        raise ModelError(f"{path.name}: expected a file, found {what}")
    try:
        written = path.read_bytes()
        return parse_config(written.decode(), path.name)
    except OSError as error:
        raise ModelError(f"{path.name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = written.count(b"\n", 0, error.start) + 1
        raise ModelError(f"{path.name}:{line}: not UTF-8: {error.reason}") from error


def parse_config(text: str, name: str = "model.yaml") -> ConfigFile:
    """Parses a configuration. Raises ModelError with file name, line and key."""
    lines: dict[KeyPath, int] = {}
    file = ConfigFile(name=name, lines=lines)
    root, content = read_yaml(text, name)
    if root is not None and (duplicate := _note_lines(root, (), lines)) is not None:
        raise file.error(duplicate, "occurs twice")
    try:
        config = ModelConfig.model_validate({} if content is None else content)
    except ValidationError as error:
        raise _first_error(file, error) from error
    file = ConfigFile(config, name, lines)
    _check_method(file)
    return file


def _check_method(file: ConfigFile) -> None:
    """Raises ModelError for a method or a parameter that does not exist."""
    try:
        file.config.default_method()
    except MethodError as error:
        # The engine names `method` or `method.<parameter>`.
        raise file.error(tuple(error.field.split(".")), str(error)) from error
    except Error as error:
        raise file.error(("method",), str(error)) from error


def _first_error(file: ConfigFile, error: ValidationError) -> ModelError:
    """Returns the first of pydantic's errors, at a key of the file: pydantic adds the members of a union to the
    path.
    """
    found: dict[str, Any] = dict(error.errors(include_url=False)[0])
    path: KeyPath = tuple(found["loc"])
    while path and path not in file.lines and found["type"] != "missing":
        path = path[:-1]
    problem = "unknown key" if found["type"] == "extra_forbidden" else str(found["msg"]).removeprefix("Value error, ")
    return file.error(path, problem[:1].lower() + problem[1:])


def _note_lines(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> KeyPath | None:
    """Notes the line of every key and list entry below `node`; returns a duplicate key, if there is one."""
    duplicate = None
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            own = (*path, str(key.value))
            duplicate = duplicate or (own if own in lines else None)
            lines[own] = key.start_mark.line + 1
            duplicate = duplicate or _note_lines(value, own, lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            duplicate = duplicate or _note_lines(value, (*path, i), lines)
    return duplicate
