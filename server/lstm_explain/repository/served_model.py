# SPDX-License-Identifier: Apache-2.0
"""Loads one version of a model as it is served: the engine's model with its configuration, tokenizers and limits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from lstm_explain.errors import Error, MethodError, TargetError
from lstm_explain.inputs import TensorSpec, probe_inputs
from lstm_explain.loading import load
from lstm_explain.methods import Method
from lstm_explain.methods.base import BaselineMethod
from lstm_explain.model import Model, Report
from lstm_explain.program.axes import Axes
from lstm_explain.repository.background_file import read_background
from lstm_explain.repository.batching import RequestBatching
from lstm_explain.repository.drift_reference import DriftReference, read_reference
from lstm_explain.repository.example_inputs import read_examples
from lstm_explain.repository.latency import LatencyEstimate
from lstm_explain.repository.model_digest import digest_of, digests_of, files_of_version
from lstm_explain.repository.model_folder import Source, Tag, fingerprint
from lstm_explain.repository.model_keys import ModelConfig
from lstm_explain.repository.model_yaml import ConfigFile, read_config
from lstm_explain.repository.request_limits import Limits
from lstm_explain.repository.text_inputs import PADDING, TextInput, load_text_input
from lstm_explain.target import Target, target_from_text
from lstm_explain.target_sets import TargetSet, parse_targets, shared, with_target

log = logging.getLogger(__name__)


# Measured with LSTMs of 20 and 80 MB: 5.3 and 4.2 bytes of memory per byte of the file after loading, explaining and
# predicting (ONNX Runtime, the graph and the kernels each keep the weights in a form of their own).
MEMORY_PER_BYTE = 5
MIN_MEMORY = 1 << 20


@dataclass(frozen=True)
class Card:
    """The description of a version. It is small, and stays when the model is evicted from memory.

    axes: by input, where samples and time steps lie. text_inputs: those that have a tokenizer. memory: an estimate of
    the bytes that the model takes in memory. background: by input, the number of samples in its background set.
    examples: by input, texts or tables to try (see ModelConfig).
    problem: why newer files could not be loaded, if there are any. files: the fingerprint of the files that were
    loaded. file_digests: the SHA-256 of each of them, by name, see `files_of_version`.
    """

    name: str
    version: int
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    axes: dict[str, Axes]
    report: Report
    config: ModelConfig
    default_method: Method
    default_target: Target
    text_inputs: tuple[str, ...]
    memory: int
    background: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problem: str = ""
    files: str = ""
    file_digests: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """The digest of the version, 64 hexadecimal digits: the same wherever the same files are served."""
        return digest_of(self.file_digests)


@dataclass(frozen=True)
class Carded:
    """A loaded version with its card."""

    card: Card

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def version(self) -> int:
        return self.card.version


@dataclass(frozen=True)
class ServedModel(Carded):
    """A version in memory. A request keeps the one that it began with.

    limits: the model's own. request_batching: None if every request runs alone. latency: from its runs so far.
    drift: what the explanations of this version are compared with, if it has a reference.
    """

    model: Model
    text_inputs: dict[str, TextInput]
    limits: Limits
    request_batching: RequestBatching | None = None
    latency: LatencyEstimate = field(default_factory=LatencyEstimate)
    drift: DriftReference | None = None

    @cached_property
    def tag(self) -> Tag:
        return Tag(self.card.name, self.card.version, self.card.files)

    @cached_property
    def mark(self) -> bytes:
        """The tag as bytes, for shared memory."""
        return self.tag.encoded()

    @property
    def config(self) -> ModelConfig:
        return self.card.config

    @property
    def default_method(self) -> Method:
        return self.card.default_method

    @property
    def default_target(self) -> Target:
        return self.card.default_target

    def with_background(self, method: Method) -> Method:
        """Returns the method with the samples of the model where it compares with its background set. Raises
        MethodError.
        """
        return method.with_background(self.model.background) if isinstance(method, BaselineMethod) else method

    def target_from_text(self, text: str | None) -> Target:
        """Returns the target that `text` names, as `target_from_text` takes it; None: the default. Raises
        TargetError.
        """
        default = self.default_target
        if text is None:
            return default
        found = target_from_text(text, self.model.outputs, self.config.classes)
        name = found.output or default.output or self.model.default_output
        axis = self.config.batch_axis_of(name)
        return replace(found, output=name, batch_axis=axis, pre_activation=default.pre_activation)

    def targets_from_text(self, text: str) -> tuple[TargetSet, ...]:
        """Returns the targets that `text` lists, as `parse_targets` takes it. Raises TargetError."""
        default = self.default_target
        found = parse_targets(text, self.model.outputs, self.config.classes)
        if not found:
            raise TargetError(f"targets are {text!r}, expected at least one", field="target")
        filled = []
        for one in found:
            name = shared(one).output or default.output or self.model.default_output
            axis = self.config.batch_axis_of(name)
            filled.append(with_target(one, output=name, batch_axis=axis, pre_activation=default.pre_activation))
        return tuple(filled)


def memory_of(size: int) -> int:
    """Returns an estimate of the bytes that a model whose files have `size` bytes takes in memory."""
    return MIN_MEMORY + MEMORY_PER_BYTE * size


def load_served(source: Source) -> ServedModel:
    """Loads a version and warms it up. Raises lstm_explain.Error, OSError."""
    files = fingerprint(source.state())
    config_file = read_config(source.config_file)
    config = config_file.config
    if source.config_file.parent != source.folder:
        config_file.check_no_route()
    model = load(source.model_file, gates=config.gates)
    config_file.check(model.inputs, model.outputs)
    model.axes.update(config_file.axes(model.axes, {name: len(spec.shape) for name, spec in model.inputs.items()}))
    config_file.check_padding(model.axes, model.inputs)
    model.background = read_background(source, model.inputs, model.axes)
    report = model.report()
    config_file.check_nodes(node.name for node in report.nodes)
    texts = _text_inputs(config_file, model, source)
    model.labels = config.labels(source.name, str(source.version))
    model.tokenizers = dict(texts)
    background = model.background or {}
    card = Card(
        name=source.name,
        version=source.version,
        inputs=model.inputs,
        outputs=model.outputs,
        axes=dict(model.axes),
        report=report,
        config=config,
        default_method=config.default_method(),
        default_target=config.default_target(model.default_output),
        text_inputs=tuple(texts),
        memory=memory_of(source.size()) + sum(array.nbytes for array in background.values()),
        background={name: len(array) for name, array in background.items()},
        examples=read_examples(config_file, source, model.inputs, frozenset(texts)),
        files=files,
        file_digests=digests_of(files_of_version(source, None if config.tokenizer is None else config.tokenizer.file)),
    )
    batching = config.batching
    model.padding.update(dict.fromkeys(texts, PADDING) | ({} if batching is None else batching.padding))
    request_batching = None if batching is None else RequestBatching(model, batching.padding)
    _check_background(config_file, card.default_method, model)
    drift = read_reference(source, card.file_digests)
    served = ServedModel(card, model, texts, config.limits.limits(), request_batching, drift=drift)
    _check_reference(served)
    _warm_up(served)
    return served


def run_once(served: ServedModel, texts: Sequence[str]) -> None:
    """Makes each kind of request once: a prediction, and for each text its tokens and an explanation.

    It is for a trial. A model that refuses the made-up inputs passes.
    """
    probe = probe_inputs(served.model.inputs)
    with suppress(Error):
        served.model.predict(probe)
    target = Target(output=served.default_target.output, batch_axis=served.default_target.batch_axis)
    for name, text in served.text_inputs.items():
        for line in texts:
            with suppress(Error):
                ids, _ = text.encode(np.array([line], dtype=object))
                served.model.explain({**probe, name: ids}, served.default_method, target)


def _text_inputs(config_file: ConfigFile, model: Model, source: Source) -> dict[str, TextInput]:
    chosen = config_file.config.tokenizer
    if chosen is None:
        return {}
    own = source.model_file.parent / chosen.file
    try:
        text = load_text_input(
            own if own.is_file() else source.folder / chosen.file,
            chosen.input,
            model.inputs[chosen.input].dtype,
            config_file.config.limits.limits(),
        )
    except Error as error:
        raise config_file.error(("tokenizer", "file"), str(error)) from error
    return {chosen.input: text}


def _check_background(config_file: ConfigFile, method: Method, model: Model) -> None:
    """Raises ModelError where the default method needs a background set and there is none."""
    try:
        if isinstance(method, BaselineMethod):
            method.with_background(model.background)
    except MethodError as error:
        raise config_file.error(("method", "baseline"), str(error)) from error


def _check_reference(served: ServedModel) -> None:
    """Logs where no request is compared with the reference unless it names a method or a target."""
    method, target = served.with_background(served.default_method), served.default_target
    if served.drift is not None and not served.drift.fits(method, target, served.model.default_output):
        what = "is by another method or for another target than its defaults"
        log.warning("model %s version %d: its reference for drift %s", served.name, served.version, what)


def _warm_up(served: ServedModel) -> None:
    """Explains made-up inputs, so that no caller waits for what happens on the first run only."""
    inputs = probe_inputs(served.model.inputs)
    target = Target(output=served.default_target.output, batch_axis=served.default_target.batch_axis)
    try:
        served.model.explain(inputs, served.default_method, target)
    except Error as error:
        # Not every model accepts made-up inputs, since inputs may depend on each other.
        log.info("model %s version %d is not warmed up: %s", served.name, served.version, error)
