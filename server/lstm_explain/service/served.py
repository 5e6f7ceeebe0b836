"""One version of a model as it is served: the engine's model with what its owner said about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from lstm_explain.errors import Error
from lstm_explain.inputs import probe_inputs
from lstm_explain.methods.spec import Method
from lstm_explain.model import Model, Report, load
from lstm_explain.plan.axes import Axes
from lstm_explain.service.config import ConfigFile, ModelConfig, read_config
from lstm_explain.service.text import TextInput, load_text_input
from lstm_explain.target import Target

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """Never changes once made; a request keeps the one that it began with."""

    name: str
    version: int
    model: Model
    report: Report
    config: ModelConfig
    default_method: Method
    default_target: Target
    text_inputs: dict[str, TextInput]


def load_served(name: str, version: int, model_file: Path, config_file: Path) -> ServedModel:
    """Loads and warms up. Raises lstm_explain.Error."""
    written = read_config(config_file)
    model = load(model_file)
    written.check(model.inputs, model.outputs)
    for input_name, time in written.config.time_axis.items():
        batch = model.axes[input_name].batch
        model.axes[input_name] = Axes(written.config.batch_axis if batch == time else batch, time)
    served = ServedModel(
        name=name,
        version=version,
        model=model,
        report=model.report(),
        config=written.config,
        default_method=written.config.default_method(),
        default_target=written.config.default_target(),
        text_inputs=_text_inputs(written, model, config_file.parent),
    )
    _warm_up(served)
    return served


def _text_inputs(written: ConfigFile, model: Model, folder: Path) -> dict[str, TextInput]:
    chosen = written.config.tokenizer
    if chosen is None:
        return {}
    try:
        text = load_text_input(folder / chosen.file, chosen.input, model.inputs[chosen.input].dtype)
    except Error as error:
        raise written.error(("tokenizer", "file"), str(error)) from error
    return {chosen.input: text}


def _warm_up(served: ServedModel) -> None:
    """Explains something small, so that no caller waits for what happens on the first run only."""
    inputs = probe_inputs(served.model.inputs)
    target = Target(output=served.default_target.output, batch_axis=served.default_target.batch_axis)
    try:
        served.model.explain(inputs, served.default_method, target)
    except Error as error:
        # Not every model takes what is made up here (inputs may depend on each other).
        log.info("model %s version %d is not warmed up: %s", served.name, served.version, error)
