"""Shows a result as a page, a terminal picture, a figure or a data frame. `render` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.text import Text

from lstm_explain_client import naming, render
from lstm_explain_client.render import html
from lstm_explain_client.render import terminal as tty
from lstm_explain_client.render.scale import clean, largest
from lstm_explain_client.result_data import ResultData

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


Array = npt.NDArray[Any]

# In notebooks and on pages a large batch would be a large page; the rest is counted.
_MOST_IN_NOTEBOOK = 8


@dataclass(frozen=True, eq=False)
class View:
    """One input of one sample, ready to draw.

    relevance: [steps] where there are tokens, else [steps, features]. tokens: the words, or the ids as text.
    values: the numbers that were sent, of the relevance's shape, or None. features: names of the last axis. labels: the
    same with their units. unit: "steps" or "features" where each entry is the total of a whole step or feature.
    """

    name: str
    relevance: Array
    tokens: list[str] | None
    values: Array | None
    features: list[str]
    labels: list[str]
    unit: str = ""


def pictures(result: ResultData, sample: int) -> list[View]:
    """The inputs as they are drawn. A method that values whole steps or features shares each value equally over its
    entries, which would look like a finding about them: their total is drawn instead.
    """
    unit = getattr(result.method, "over", "") or getattr(result.method, "unit", "")
    return [_by_unit(view, unit) for view in inputs(result, sample)]


def _by_unit(view: View, unit: str) -> View:
    axis = {"steps": 1, "features": 0}.get(unit)
    if axis is None or view.tokens is not None or view.relevance.shape[axis] == 1:
        return view
    total = view.relevance.sum(axis=axis, keepdims=True)
    labels = ["per step"] if unit == "steps" else view.labels
    return View(view.name, total, None, None, labels if unit == "steps" else view.features, labels, unit)


def inputs(result: ResultData, sample: int) -> Iterator[View]:
    """Every input of one sample that has relevance to show; raises IndexError for a sample that does not exist."""
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


def _sample(result: ResultData, name: str, array: Array, sample: int) -> Array:
    """One sample of an array in the shape of an input, with time first if the model's description has a time axis."""
    one = result.samples_of(name, array)[sample]
    time = result.detail.time_axes.get(name) if result.detail else None
    if time is None:
        return one
    batch = result.batch_axes.get(name)
    time -= batch is not None and batch < time
    return np.moveaxis(one, time, 0) if 0 < time < one.ndim else one


def _without_time(result: ResultData, name: str) -> bool:
    """Whether the model's description lists time axes, but none for this input."""
    return result.detail is not None and bool(result.detail.time_axes) and name not in result.detail.time_axes


def _tokens(result: ResultData, name: str, sample: int, values: Array | None, axes: int) -> list[str] | None:
    if name in result.tokens:
        return [str(token) for token in result.samples_of(name, result.tokens[name])[sample].ravel()]
    if values is not None and values.dtype.kind in "iu" and axes == 1:
        return [str(identity) for identity in values]
    return None


def _two_axes(array: Array, still: bool) -> Array:
    """[time, features]: a single axis is time, or the features of one step if `still`; further axes are flattened into
    features.
    """
    return array.reshape(1 if still and array.ndim == 1 else array.shape[0], -1)


def _features(result: ResultData, name: str, relevance: Array) -> list[str]:
    if relevance.ndim == 1:
        return []
    count = relevance.shape[1]
    names = result.detail.feature_names.get(name, ()) if result.detail else ()
    if len(names) == count:
        return list(names)
    return [name] if count == 1 else [f"{name}[{i}]" for i in range(count)]


def page(result: ResultData, title: str, steps: Sequence[Any] | None) -> str:
    """Return a complete document with all samples, and the warnings above them."""
    title = title or f"{result.model}: why"
    sections = [(naming.heading(result, i), _sample_html(result, i, steps)) for i in range(len(result))]
    alerts = [render.warnings(result.warnings)] if result.warnings else []
    return html.page([*alerts, *sections], title)


def notebook(result: ResultData) -> str:
    """The first samples, as a fragment."""
    shown = min(len(result), _MOST_IN_NOTEBOOK)
    headings = (f"<p><strong>{html.text(naming.heading(result, i))}</strong></p>" for i in range(shown))
    parts = [heading + _sample_html(result, i, None) for i, heading in enumerate(headings)]
    more = f"<p>… and {len(result) - shown} more samples</p>" if len(result) > shown else ""
    return html.STYLE + "".join([render.warnings(result.warnings), *parts]).replace(html.STYLE, "") + more


def sample_html(result: ResultData, sample: int, steps: Sequence[Any] | None = None) -> str:
    """Return one sample: warnings, prediction, heatmap of every input, ledger."""
    return render.warnings(result.warnings) + _sample_html(result, sample, steps)


def _sample_html(result: ResultData, sample: int, steps: Sequence[Any] | None) -> str:
    views = pictures(result, sample)
    scale = largest(*(view.relevance for view in views))
    parts = []
    for view in views:
        if len(views) > 1:
            parts.append(f"<p>{html.text(view.name)}</p>")
        parts.append(_view_html(view, scale, steps))
    explained = float(result.explained[sample])
    account = render.ledger(
        explained, result.ledger.sample(sample), result.ledger.nodes(sample), method=naming.method(result)
    )
    parts.append(html.beside(_prediction_html(result, sample), account))
    parts.append(html.fragment(f'<div class="note">{html.text(naming.how(result))}</div>'))
    return "".join(parts)


def _view_html(view: View, scale: float, steps: Sequence[Any] | None) -> str:
    if view.tokens is not None:
        return render.words(view.tokens, view.relevance.ravel(), scale=scale)
    fitting = steps if steps is not None and len(steps) == len(view.relevance) else None
    if view.unit == "features":
        fitting = ["all steps"]
    return render.matrix(view.relevance, view.labels, values=view.values, steps=fitting, scale=scale)


def _prediction_html(result: ResultData, sample: int) -> str:
    """The explained output, if it is a row of a few entries."""
    name = naming.output_name(result)
    array = naming.output_of(result, name, sample)
    if array is None or array.ndim != 1 or not 2 <= array.size <= 12:
        return ""
    names = result.detail.class_names.get(name) if result.detail else None
    chosen, contrast = (_place(result, index, sample) for index in _indices(result))
    caption, mark = f"Prediction: {name}", naming.mark(result)
    return render.prediction(array, names, chosen, caption=caption, mark=mark, contrast=contrast)


def _indices(result: ResultData) -> tuple[Any, Any]:
    return (result.target.index, result.target.contrast) if result.target else (None, None)


def _place(result: ResultData, index: Any, sample: int) -> int | None:
    at = naming.position(index, sample, len(result))
    return at[-1] if at else None


def terminal(result: ResultData, sample: int | None = None) -> Group:
    """Every sample, or one, for the terminal."""
    which = range(len(result)) if sample is None else (sample,)
    alerts = [tty.warnings(result.warnings)] if result.warnings else []
    return Group(*alerts, *(part for i in which for part in _sample_terminal(result, i)))


def _sample_terminal(result: ResultData, sample: int) -> Iterator[RenderableType]:
    yield Text(clean(naming.heading(result, sample)), "bold").append(f"  {clean(naming.how(result))}", "dim not bold")
    views = pictures(result, sample)
    scale = largest(*(view.relevance for view in views))
    for view in views:
        if view.tokens is not None:
            yield tty.words(view.tokens, view.relevance.ravel(), scale=scale)
        else:
            yield tty.matrix(view.relevance, view.labels, scale=scale)
    explained = float(result.explained[sample])
    yield tty.ledger(explained, result.ledger.sample(sample), result.ledger.nodes(sample), method=naming.method(result))


def frame(result: ResultData) -> pandas.DataFrame:
    """Return one row per element; see Result.to_frame."""
    import pandas

    columns: dict[str, list[Any]] = {
        key: [] for key in ("sample", "input", "step", "feature", "token", "value", "relevance")
    }
    for sample in range(len(result)):
        for view in inputs(result, sample):
            for row in _rows(view):
                for key, value in zip(columns, (sample, view.name, *row), strict=True):
                    columns[key].append(value)
    return pandas.DataFrame(columns)


def _rows(view: View) -> Iterator[tuple[Any, ...]]:
    """Step, feature, token, value and relevance of every element; padding is left out."""
    for place in np.ndindex(view.relevance.shape):
        token = view.tokens[place[0]] if view.tokens is not None else None
        if token == "":
            continue
        feature = view.features[place[1]] if len(place) > 1 else None
        value = view.values[place] if view.values is not None else None
        yield place[0], feature, token, value, view.relevance[place]


def figure(result: ResultData, sample: int, steps: Sequence[Any] | None) -> Figure:
    """Draw one panel per input; see Result.plot. It does not use pyplot, so that no global state changes."""
    from matplotlib.figure import Figure

    views = pictures(result, sample)
    scale = largest(*(view.relevance for view in views))
    heights = [max(2.2, 0.35 * len(view.features) + 1) for view in views]
    drawing = Figure(figsize=(10, sum(heights) + 0.8), layout="constrained")
    drawing.suptitle(_plain(naming.heading(result, sample)))
    if result.warnings:
        told = "\n".join(f"Warning: {_plain(warning)}" for warning in result.warnings)
        drawing.supxlabel(told, fontsize=8, wrap=True, color="#8a4b00")
    panels = drawing.subplots(len(views), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, view in zip(panels, views, strict=True):
        (_plot_words if view.tokens is not None else _plot_matrix)(axes, view, scale, steps)
    return drawing


def _plot_words(axes: Any, view: View, scale: float, steps: Sequence[Any] | None) -> None:
    """Draw one bar per word: upward if positive, downward if negative."""
    pairs = [(t, float(r)) for t, r in zip(view.tokens or [], view.relevance.ravel(), strict=True) if t]
    heights = [value for _, value in pairs]
    axes.bar(range(len(pairs)), heights, color=["#b2182b" if value > 0 else "#1b5ca8" for value in heights])
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks(range(len(pairs)), [_plain(token) for token, _ in pairs], rotation=60)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(-1.05 * scale, 1.05 * scale)
    axes.set_ylabel("relevance")


def _plot_matrix(axes: Any, view: View, scale: float, steps: Sequence[Any] | None) -> None:
    """A heatmap: red if positive, blue if negative, white at zero."""
    shown = axes.imshow(
        view.relevance.T, aspect="auto", cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest"
    )
    axes.set_yticks(range(len(view.features)), [_plain(name) for name in view.labels])
    if steps is not None and len(steps) == len(view.relevance):
        places = range(0, len(steps), max(1, len(steps) // 10))
        axes.set_xticks(places, [str(steps[i]) for i in places], rotation=30)
    elif view.unit == "features":
        axes.set_xticks([0], ["all steps"])
    else:
        axes.set_xlabel("step")
    axes.figure.colorbar(shown, ax=axes, label="relevance")


def _plain(text: str) -> str:
    """Escapes text that matplotlib would interpret as a formula."""
    return clean(text).replace("$", r"\$")
