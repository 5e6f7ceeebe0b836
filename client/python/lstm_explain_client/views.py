# SPDX-License-Identifier: Apache-2.0
"""Shows an explanation as a page or in the terminal, drawn by `render`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from lstm_explain_client import counterfactuals, naming, render
from lstm_explain_client.explained_batch import ExplainedBatch
from lstm_explain_client.groups import PADDING, GroupRelevance, grid
from lstm_explain_client.ledger import entries_of, nodes_of
from lstm_explain_client.render import html
from lstm_explain_client.render import terminal as tty
from lstm_explain_client.render.scale import clean, largest

Array = npt.NDArray[Any]

# In notebooks and on pages a large batch would be a large page; the rest is counted.
_MOST_IN_NOTEBOOK = 8


@dataclass(frozen=True, eq=False)
class View:
    """One input of one sample, ready to draw.

    relevance: [steps] where there are tokens, else [steps, features]. tokens: the words, or the ids as text.
    values: the numbers that were sent, of the relevance's shape, or None. features: names of the last axis. labels: the
    same with their units. unit: "steps", "features" or "groups" where each entry is the total of a whole step, feature
    or group. steps: names of groups of steps.
    """

    name: str
    relevance: Array
    tokens: list[str] | None
    values: Array | None
    features: list[str]
    labels: list[str]
    unit: str = ""
    steps: list[str] | None = None


def pictures(result: ExplainedBatch, sample: int) -> list[View]:
    """Return the inputs as they are drawn. A method that values whole steps or features shares each value equally over
    its entries, which would look like a finding about them: their total is drawn instead.
    """
    unit = getattr(result.method, "over", "") or getattr(result.method, "unit", "")
    return [
        _by_group(view, result.groups[view.name].of(sample)) if view.name in result.groups else _by_unit(view, unit)
        for view in inputs(result, sample)
    ]


def _by_group(view: View, own: GroupRelevance) -> View:
    """The groups of one sample instead of its entries: words, or groups of steps by groups of features."""
    relevance, steps, labels = grid(own)
    if view.tokens is not None and len(labels) == 1:
        words = ["" if name == PADDING else name for name in (steps if len(steps) > 1 else labels)]
        return View(view.name, relevance[:, 0], words, None, [], [], "groups")
    labels = [label or view.name for label in labels]
    return View(view.name, relevance, None, None, labels, labels, "groups", [step or "all steps" for step in steps])


def _by_unit(view: View, unit: str) -> View:
    axis = {"steps": 1, "features": 0}.get(unit)
    if axis is None or view.tokens is not None or view.relevance.shape[axis] == 1:
        return view
    total = view.relevance.sum(axis=axis, keepdims=True)
    labels = ["per step"] if unit == "steps" else view.labels
    return View(view.name, total, None, None, labels if unit == "steps" else view.features, labels, unit)


def inputs(result: ExplainedBatch, sample: int) -> Iterator[View]:
    """Yield every input of one sample that has relevance to show; raises IndexError for a sample that does not
    exist.
    """
    if not 0 <= sample < len(result):
        raise IndexError(f"sample {sample}, there are {len(result)}")
    for name, array in result.relevance.items():
        relevance = _sample(result, name, array, sample)
        if relevance.ndim == 0:
            continue  # a length or a flag
        sent = result.inputs.get(name)
        fits = sent is not None and sent.shape == array.shape and sent.dtype != object
        values = _sample(result, name, sent, sample) if sent is not None and fits else None
        tokens = _tokens(result, name, sample, values, relevance.ndim)
        if tokens is None:
            still = _without_time(result, name)
            relevance = _two_axes(relevance, still)
            values = None if values is None else _two_axes(values, still)
        features = _features(result, name, relevance)
        units = [result.detail.unit(name, i) if result.detail else "" for i in range(len(features))]
        labels = [f"{feature} ({unit})" if unit else feature for feature, unit in zip(features, units, strict=True)]
        yield View(name, relevance, tokens, values, features, labels)


def _sample(result: ExplainedBatch, name: str, array: Array, sample: int) -> Array:
    """Return one sample of an array in the shape of an input, with time first if the model's description has a time
    axis.
    """
    one = result.samples_of(name, array)[sample]
    time = result.detail.time_axes.get(name) if result.detail else None
    if time is None:
        return one
    batch = result.batch_axes.get(name)
    time -= batch is not None and batch < time
    return np.moveaxis(one, time, 0) if 0 < time < one.ndim else one


def _without_time(result: ExplainedBatch, name: str) -> bool:
    """Return whether the model's description lists time axes, but none for this input."""
    return result.detail is not None and bool(result.detail.time_axes) and name not in result.detail.time_axes


def _tokens(result: ExplainedBatch, name: str, sample: int, values: Array | None, axes: int) -> list[str] | None:
    if name in result.tokens:
        return [str(token) for token in result.samples_of(name, result.tokens[name])[sample].ravel()]
    if values is not None and values.dtype.kind in "iu" and axes == 1:
        return [str(identity) for identity in values]
    return None


def _two_axes(array: Array, still: bool) -> Array:
    """Return an array [time, features]: a single axis is time, or the features of one step if `still`; further axes
    are flattened into features.
    """
    return array.reshape(1 if still and array.ndim == 1 else array.shape[0], -1)


def _features(result: ExplainedBatch, name: str, relevance: Array) -> list[str]:
    if relevance.ndim == 1:
        return []
    count = relevance.shape[1]
    names = result.detail.feature_names.get(name, ()) if result.detail else ()
    if len(names) == count:
        return list(names)
    return [name] if count == 1 else [f"{name}[{i}]" for i in range(count)]


def page(result: ExplainedBatch, title: str, steps: Sequence[Any] | None) -> str:
    """Return a complete document with all samples, and the warnings above them."""
    title = title or (f"{result.model}: why" if result.model else "Why")
    sections = [(naming.heading(result, i), _sample_html(result, i, steps)) for i in range(len(result))]
    alerts = [render.warnings(result.warnings)] if result.warnings else []
    return html.page([*alerts, *sections], title)


def notebook(result: ExplainedBatch) -> str:
    """Return the first samples, as a fragment."""
    shown = min(len(result), _MOST_IN_NOTEBOOK)
    headings = (f"<p><strong>{html.text(naming.heading(result, i))}</strong></p>" for i in range(shown))
    parts = [heading + _sample_html(result, i, None) for i, heading in enumerate(headings)]
    more = f"<p>… and {len(result) - shown} more samples</p>" if len(result) > shown else ""
    return html.STYLE + "".join([render.warnings(result.warnings), *parts]).replace(html.STYLE, "") + more


def sample_html(result: ExplainedBatch, sample: int, steps: Sequence[Any] | None = None) -> str:
    """Return one sample: warnings, prediction, heatmap of every input, ledger."""
    return render.warnings(result.warnings) + _sample_html(result, sample, steps)


def _sample_html(result: ExplainedBatch, sample: int, steps: Sequence[Any] | None) -> str:
    if why := result.why_not(sample):
        note = html.fragment(f'<p class="lx-left-out">Not explained: {html.text(why)}.</p>')
        return note + html.beside(_prediction_html(result, sample))
    views = pictures(result, sample)
    scale = largest(*(view.relevance for view in views))
    parts = []
    changed = counterfactuals.is_one(result)
    if changed:
        parts.append(html.fragment(f'<p class="lx-left-out">{html.text(counterfactuals.sentence(result, sample))}</p>'))
    for view in views:
        if len(views) > 1:
            parts.append(f"<p>{html.text(view.name)}</p>")
        parts.append(_view_html(view, scale, steps, struck=changed))
    explained, shares = float(result.explained[sample]), entries_of(result.ledger, sample)
    account = render.ledger(explained, shares, nodes_of(result.ledger, sample), method=naming.method(result))
    parts.append(html.beside(_prediction_html(result, sample), account))
    parts.append(html.fragment(f'<div class="note">{html.text(naming.how(result))}</div>'))
    return "".join(parts)


def _view_html(view: View, scale: float, steps: Sequence[Any] | None, *, struck: bool) -> str:
    """struck: whether words with relevance are struck through."""
    if view.tokens is not None:
        return render.words(view.tokens, view.relevance.ravel(), scale=scale, struck=struck)
    steps = view.steps or steps
    fitting = steps if steps is not None and len(steps) == len(view.relevance) else None
    if view.unit == "features":
        fitting = ["all steps"]
    return render.matrix(view.relevance, view.labels, values=view.values, steps=fitting, scale=scale)


def _prediction_html(result: ExplainedBatch, sample: int) -> str:
    """Return the explained output, if it is a row of a few entries."""
    name = naming.output_name(result)
    array = naming.output_of(result, name, sample)
    if array is None or array.ndim != 1 or not 2 <= array.size <= 12:
        return ""
    names = result.detail.class_names.get(name) if result.detail else None
    chosen, contrast = (_place(result, index, sample) for index in _indices(result))
    caption, mark = f"Prediction: {name}", naming.mark(result)
    return render.prediction(array, names, chosen, caption=caption, mark=mark, contrast=contrast)


def _indices(result: ExplainedBatch) -> tuple[Any, Any]:
    return (result.target.index, result.target.contrast) if result.target else (None, None)


def _place(result: ExplainedBatch, index: Any, sample: int) -> int | None:
    at = naming.position(index, sample, len(result))
    return at[-1] if at else None


def terminal(result: ExplainedBatch, sample: int | None = None) -> Group:
    """Return every sample, or one, for the terminal."""
    which = range(len(result)) if sample is None else (sample,)
    alerts = [tty.warnings(result.warnings)] if result.warnings else []
    return Group(*alerts, *(part for i in which for part in _sample_terminal(result, i)))


@dataclass(frozen=True, eq=False)
class _Matrix:
    """The heatmap of one input, as wide as the terminal allows."""

    view: View
    scale: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label = min(tty.MOST_LABEL, max(map(len, self.view.labels)))
        beside = label + tty.MOST_NUMBER + 10  # what stands left and right of the cells; the last tick may stick out
        width = max(10, min(tty.MOST_COLUMNS, options.max_width - beside))
        yield tty.matrix(self.view.relevance, self.view.labels, scale=self.scale, width=width)


def _sample_terminal(result: ExplainedBatch, sample: int) -> Iterator[RenderableType]:
    yield Text(clean(naming.heading(result, sample)), "bold").append(f"  {clean(naming.how(result))}", "dim not bold")
    if why := result.why_not(sample):
        yield Text(f"Not explained: {clean(why)}.\n")
        return
    if counterfactuals.is_one(result):
        yield Text(clean(counterfactuals.sentence(result, sample)))
    views = pictures(result, sample)
    scale = largest(*(view.relevance for view in views))
    for view in views:
        if view.tokens is not None:
            yield tty.words(view.tokens, view.relevance.ravel(), scale=scale)
        else:
            yield _Matrix(view, scale)
    explained = float(result.explained[sample])
    yield tty.ledger(
        explained, entries_of(result.ledger, sample), nodes_of(result.ledger, sample), method=naming.method(result)
    )
