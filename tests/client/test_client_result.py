# SPDX-License-Identifier: Apache-2.0
"""Results: reading a response, pictures, frames, figures."""

from __future__ import annotations

import io
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lstm_explain_client import LRP, ContextualDecomposition, Ledger, ModelDetail, Occlusion, Result, Target, naming
from lstm_explain_client.render import scale
from lstm_explain_client.result import read_result
from lstm_explain_client.tensors import to_wire
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, method_pb2

NAMES = ModelDetail("m", "1", "ready", class_names={"y": ("bad", "good")}, feature_names={"x": ("rain", "sun")})


def share(values) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.fixture
def text_result() -> Result:
    tokens = np.array([["not", "<b>", ""], ["a", "fine", "film"]], dtype=object)
    return Result(
        relevance={"tokens": share([[-1, 0.5, 0], [0, 2, 0.1]])},
        outputs={"y": share([[0, -0.4], [1, 2.2]])},
        explained=share([-0.4, 2.2]),
        captured={},
        ledger=Ledger(share([-0.5, 2.1]), share([0, 0]), share([0.1, 0.1]), share([0, 0]), {"fc": share([0.1, 0.1])}),
        tokens={"tokens": tokens},
        method=LRP("all", 1e-3, 0.0),
        target=Target("y", index=np.array([1, 1])),
        model="m",
        version="1",
        inputs={"tokens": np.array(["not <b>", "a fine film"], dtype=object)},
        detail=NAMES,
    )


@pytest.fixture
def numbers_result(text_result: Result) -> Result:
    relevance = np.arange(12.0).reshape(2, 3, 2) - 5
    return replace(text_result, relevance={"x": relevance}, inputs={"x": relevance + 100}, tokens={})


def test_a_response_is_read_whole():
    one = {name: to_wire(share([i])) for i, name in enumerate(("inputs", "initial_states", "absorbed", "residual"))}
    response = explanation_pb2.ExplainResponse(
        model="m",
        version="2",
        outputs=[to_wire(share([[1, 2]]), "y")],
        explained=to_wire(share([2])),
        relevance=[to_wire(share([[3, 4]]), "x")],
        captured=[to_wire(share([5]), "inner")],
        ledger=explanation_pb2.Ledger(
            **one, by_node=[explanation_pb2.NodeShare(node="fc", absorbed=to_wire(share([6])))]
        ),
        method=method_pb2.Method(lrp=method_pb2.Lrp(product_rule="PRODUCT_RULE_ABS", epsilon=0.5, bias_factor=0)),
        target=explanation_pb2.Target(output="y", indices=[1], batch_axis=0, pre_activation=True),
        tokens=[to_wire(np.array([["a", "b"]], dtype=object), "x")],
        warnings=["relevance diverges", "and more"],
        explained_quantity="logit",
    )
    result = read_result(response, {"x": share([[0, 0]])})
    assert (result.model, result.version, len(result)) == ("m", "2", 1)
    assert result.outputs["y"].tolist() == [[1, 2]]
    assert result.relevance["x"].tolist() == [[3, 4]]
    assert result.captured["inner"].tolist() == [5]
    assert result.ledger.sample(0) == {"inputs": 0, "initial_states": 1, "absorbed": 2, "residual": 3}
    assert result.ledger.nodes(0) == {"fc": 6}
    assert result.method == LRP("abs", 0.5, 0.0)
    assert (result.target.output, result.target.index.tolist(), result.target.batch_axis) == ("y", [1], 0)
    assert result.tokens["x"].tolist() == [["a", "b"]]
    assert result.warnings == ("relevance diverges", "and more")
    assert result.explained_quantity == "logit"
    for name in ("warnings", "explained_quantity"):  # a server older than these
        response.ClearField(name)
    older = read_result(response, {"x": share([[0, 0]])})
    assert (older.warnings, older.explained_quantity) == ((), "")
    assert naming.heading(older, 0) == "y[1] = +2.00"
    older.to_html()


def test_pages_and_notebooks(text_result, numbers_result, tmp_path):
    for result in (text_result, numbers_result):
        html = result.to_html(tmp_path / "page.html", title="why <b>")
        assert (tmp_path / "page.html").read_text(encoding="utf-8") == html
        ET.fromstring(html)
        ET.fromstring(f"<div>{result._repr_html_()}</div>")
    html = text_result.to_html()
    assert "Sample 0: y[good] = −0.400" in html
    assert "&lt;b&gt;" in html
    assert "<b></b>" not in html  # padding is left out
    assert "rain, step 0" in numbers_result.to_html()


def test_whole_steps_and_features_are_drawn_as_their_totals(numbers_result, capsys):
    """A method that values whole steps shares each value equally over the features of the step."""
    x = np.arange(12.0).reshape(2, 3, 2) - 5  # of sample 1: [[1, 2], [3, 4], [5, 6]]
    for method, unit, totals, label in (
        (Occlusion(over="steps"), "steps", [3, 7, 11], "per step"),
        (ContextualDecomposition(), "steps", [3, 7, 11], "per step"),
        (Occlusion(over="features"), "features", [9, 12], "all steps"),
    ):
        result = replace(numbers_result, method=method)
        html = result.to_html()
        for total in totals:
            assert f"+{total:#.3g}" in html, (unit, total)
        assert label in html
        result.print(sample=1)
        assert ("per step" in capsys.readouterr().out) == (unit == "steps")
        np.testing.assert_array_equal(result.relevance["x"], x)  # the numbers themselves stay
    html = replace(numbers_result, method=Occlusion(over="cells")).to_html()
    assert "rain, step 0" in html
    assert "per step" not in html


def test_contrast_and_weights_are_named(text_result):
    both = replace(text_result, target=Target("y", index=np.array([1, 1]), contrast=np.array([0, 0])))
    assert "y[good] − y[bad] = " in both.to_html()
    weighted = replace(text_result, target=Target("y", weights=share([1, 1])))
    assert "combination of y = " in weighted.to_html()


def test_the_terminal(text_result, numbers_result, capsys):
    text_result.print()
    shown = capsys.readouterr().out
    assert "not−−−" in shown
    assert "explained value" in shown
    numbers_result.print(sample=1)
    shown = capsys.readouterr().out
    assert "Sample 1" in shown
    assert "Sample 0" not in shown
    with pytest.raises(IndexError):
        text_result.print(sample=2)


@pytest.mark.parametrize(
    ("shape", "axes", "rows"),
    [
        ((2, 3, 4), {}, 12),
        ((3, 2, 4), {}, 12),
        ((2, 5), {}, 5),
        ((2,), {}, 0),
        ((2, 3, 4, 5), {}, 60),
        ((2, 2, 3), {"x": 1}, 6),
    ],
)
def test_the_batch_axis_is_found(text_result, shape, axes, rows):
    relevance = np.random.default_rng(0).normal(size=shape)
    result = replace(text_result, relevance={"x": relevance}, inputs={}, tokens={}, detail=None, batch_axes=axes)
    views = list(wire_views(result, 1))
    assert sum(view.relevance.size for view in views) == rows
    if axes:
        assert views[0].relevance.tolist() == relevance[:, 1].tolist()
    result.to_html()


def test_axes_are_taken_from_the_description(text_result):
    """The axes are features, time and samples; another input has no time axis."""
    relevance = np.arange(24.0).reshape(4, 3, 2)
    detail = ModelDetail("m", "1", "ready", batch_axes={"x": 2, "s": 0}, time_axes={"x": 1}, units={"x": ("mm",)})
    result = replace(text_result, relevance={"x": relevance, "s": np.ones((2, 5))}, inputs={}, tokens={})
    moving, still = wire_views(result.with_names(detail), 1)
    assert moving.relevance.tolist() == relevance[:, :, 1].T.tolist()
    assert moving.labels == [f"x[{i}] (mm)" for i in range(4)]
    assert moving.features == [f"x[{i}]" for i in range(4)]
    assert still.relevance.shape == (1, 5)
    assert result.with_names(detail).batch_axes == {"x": 2, "s": 0}
    result.with_names(detail).to_html()


def test_the_unit_of_what_was_explained(text_result):
    units = {"y": ("m", "kg")}
    detail = ModelDetail("m", "1", "ready", units=units)
    assert naming.heading(text_result.with_names(detail), 0).endswith("0.400 kg")
    assert detail.unit("y", 0) == "m"
    assert detail.unit("z") == ""


def wire_views(result, sample):
    from lstm_explain_client import views

    return views.inputs(result, sample)


def test_a_model_without_a_batch_axis(numbers_result):
    relevance = np.arange(6.0).reshape(3, 2)
    result = replace(
        numbers_result,
        relevance={"x": relevance},
        inputs={},
        outputs={"y": share([1, 2])},
        explained=share([2]),
        target=Target("y", index=np.array([1]), batch_axis=None),
    )
    (view,) = wire_views(result, 0)
    assert view.relevance.tolist() == relevance.tolist()
    assert view.features == ["rain", "sun"]
    result.to_html()


def test_ids_without_tokens_are_shown_as_ids(text_result):
    ids = np.array([[7, 8, 9], [1, 2, 3]])
    result = replace(text_result, tokens={}, inputs={"tokens": ids})
    assert next(iter(wire_views(result, 0))).tokens == ["7", "8", "9"]


def test_frames(text_result, numbers_result):
    pytest.importorskip("pandas")
    frame = text_result.to_frame()
    assert list(frame.columns) == ["sample", "input", "step", "feature", "token", "value", "relevance"]
    assert frame["token"].tolist() == ["not", "<b>", "a", "fine", "film"]
    assert frame["relevance"].sum() == pytest.approx(1.6)
    frame = numbers_result.to_frame()
    assert len(frame) == 12
    row = frame[(frame["sample"] == 1) & (frame["step"] == 2) & (frame["feature"] == "sun")].iloc[0]
    assert (row["value"], row["relevance"]) == (106, 6)


def test_figures(text_result, numbers_result, tmp_path):
    pytest.importorskip("matplotlib")
    for result in (text_result, numbers_result):
        figure = result.plot(sample=1)
        figure.savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 1000
    assert numbers_result.plot(steps=["a", "b", "c"]).axes[0].get_xticklabels()[0].get_text() == "a"


def test_figures_belong_to_pyplot(text_result, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.close("all")
    figure = text_result.plot()
    assert pyplot.gcf() is figure
    monkeypatch.setattr(pyplot, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    with pytest.raises(NotImplementedError):  # IPython then shows it as it shows other figures
        figure._ipython_display_()
    assert not pyplot.get_fignums()  # so that the end of the cell does not show it again


def test_figures_are_drawn_on_the_callers_axes(text_result, numbers_result):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    mine, (left, right) = pyplot.subplots(1, 2)
    assert text_result.plot(1, ax=left) is mine
    assert [len(left.patches), len(right.patches)] == [3, 0]  # a bar per word
    assert left.get_title() == "Sample 1: y[good] = +2.20"
    both = replace(numbers_result, relevance={"x": numbers_result.relevance["x"], "z": np.ones((2, 3, 2))})
    assert both.plot(ax=[left, right]) is mine
    with pytest.raises(ValueError, match="ax has 1 axes, expected one for each of the inputs x, z"):
        both.plot(ax=left)
    pyplot.close("all")


@pytest.mark.parametrize(("module", "call"), [("pandas", "to_frame"), ("matplotlib", "plot")])
def test_a_missing_package_is_named_with_its_cure(text_result, monkeypatch, module, call):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{call} needs {module}.*pip install 'lstm-explain\[notebook\]'"):
        getattr(text_result, call)()


def test_the_terminal_picture_fits_into_80_columns(numbers_result):
    names = replace(NAMES, feature_names={"x": ("a rather long name of rain", "sun")})
    wide = np.linspace(-1, 1, 2 * 365 * 2).reshape(2, 365, 2)
    result = replace(numbers_result, relevance={"x": wide}, inputs={}, detail=names)
    console = Console(width=80, file=io.StringIO())
    console.print(result)
    row = next(line for line in console.file.getvalue().splitlines() if line.strip().startswith("sun"))
    assert row.split()[-1] == scale.number(wide[0, :, 1].sum())


def test_the_client_does_not_need_the_server_packages():
    """In a process where the server's packages cannot be imported."""
    blocked = ("onnx", "onnxruntime", "numba", "lstm_explain", "pandas", "matplotlib", "tokenizers", "pydantic")
    code = (
        "import sys\n"
        f"for name in {blocked}: sys.modules[name] = None\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "import lstm_explain_client as c\n"
        "c.Client('127.0.0.1:1').close()\n"
        "c.render.page([c.render.words(['a'], [1.0])], 't')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_file_of_the_client_imports_the_server():
    folder = Path(sys.modules["lstm_explain_client"].__file__).parent
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import lstm_explain\n" not in text
        assert "from lstm_explain." not in text
