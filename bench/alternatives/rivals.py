"""Our kernel and those that take its place: compiled ahead from bench/alternatives/sources, argument for argument."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from bench.alternatives.way import KERNELS, SCALARS, NotHereError, Way

Call = Callable[[], np.ndarray]
CONSTANT = ("bias", "R", "W")
OPERATOR = """<ir_version: 9, opset_import: ["": 17, "lstm_explain.bench": 1]>
way_back (float[T, B, D] x, float[T, B, H] pre, float[T, B, H] old, float[T, B, H] new, float[T, B, H] hidden,
          float[B, H] h0, int64[B] lens, int64[S] order, float[a, b, c] r_y, float[B, H] r_h, float[B, H] r_c)
    => (float[T, B, D] r_x) {
    r_x, r_h0, r_c0, lost = lstm_explain.bench.WayBack
        (x, pre, old, new, hidden, h0, lens, order, bias, R, W, scalars, r_y, r_h, r_c)
}"""


def ours(way: Way) -> Call:
    return _filling(KERNELS[way.rule], way, way.tape.dtype.type)


def module(path: str, way: Way, folder: Path | None) -> Call:
    file = _built(folder, path + importlib.machinery.EXTENSION_SUFFIXES[0])
    spec = importlib.util.spec_from_file_location(Path(path).name, file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    kernel = getattr(loaded, KERNELS[way.rule].__name__, None)
    if kernel is None:
        raise NotHereError("not written")
    return _filling(kernel, way, float)


def operator(way: Way, folder: Path | None) -> Call:
    if way.rule != "all":
        raise NotHereError("not written")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.register_custom_ops_library(str(_built(folder, "as_operator.so")))
    given = way.given()
    constants = {name: given.pop(name) for name in CONSTANT}
    scalars = [given.pop(name) for name in SCALARS]
    constants["scalars"] = np.array([*scalars, given.pop("reverse")], np.float32)
    model = onnx.parser.parse_model(OPERATOR)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = given | {"r_h": way.r_h, "r_c": way.r_c}
    return lambda: session.run(None, feeds)[0]


def _built(folder: Path | None, name: str) -> Path:
    file = (folder or Path()) / name
    if folder is None or not file.exists():
        raise NotHereError("not built")
    return file.resolve()


def _filling(kernel: Callable[..., Any], way: Way, number: Callable[[float], Any]) -> Call:
    """number: what it takes scalars as."""
    given = way.given()
    given |= {name: number(given[name]) for name in SCALARS}
    r_h, r_c, r_x = np.empty_like(way.r_h), np.empty_like(way.r_c), np.empty(way.tape.x.shape, way.tape.dtype)
    arguments = (*given.values(), r_h, r_c, r_x, np.zeros(1))

    def call() -> np.ndarray:
        r_h[:], r_c[:] = way.r_h, way.r_c
        kernel(*arguments)
        return r_x

    return call
