# SPDX-License-Identifier: Apache-2.0
"""background.npz is read with its model, in every folder that it may lie in; a bad file is an error that names it."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.repository import background_file
from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.served_model import load_served
from tests.serving.models import FEATURES, lstm, words, write_version

X = np.random.default_rng(71).normal(size=(5, 7, FEATURES)).astype(np.float32)
INPUTS = {"x": np.random.default_rng(72).normal(size=(2, 7, FEATURES)).astype(np.float32)}


def written(root: Path, **arrays: Any) -> Path:
    folder = write_version(root, "lstm", lstm(), config="description: one\n")
    np.savez(folder / "background.npz", **arrays)
    return folder


def entry(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def archive(path: Path, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(f"{name}.npy", data)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("place", ["model", "version"])
def test_a_folder_is_loaded_with_its_background(tmp_path: Path, save: Any, place: str) -> None:
    folder = write_version(tmp_path, "lstm", lstm())
    save((folder if place == "model" else folder / "1") / "background.npz", x=X.astype(np.float64))
    given = lx.load(lstm()).explain(INPUTS, lx.Occlusion(baseline=lx.Background({"x": X})))
    for path in (folder, folder / "1"):
        model = lx.load(path)
        assert model.background is not None
        np.testing.assert_array_equal(model.background["x"], X)
        assert model.background["x"].dtype == np.float32
        own = model.explain(INPUTS, lx.Occlusion(baseline=lx.Background()))
        np.testing.assert_array_equal(own.relevance["x"], given.relevance["x"])


def test_a_version_has_precedence(tmp_path: Path) -> None:
    folder = written(tmp_path, x=X)
    np.savez(folder / "1" / "background.npz", x=X[:2])
    assert load_served(find_model(folder)).card.background == {"x": 2}


def test_the_file_counts_as_memory_and_as_a_change(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "lstm", lstm())
    before = load_served(find_model(folder)).card
    np.savez(folder / "background.npz", x=X)
    after = load_served(find_model(folder)).card
    assert after.memory - before.memory == X.nbytes
    assert after.files != before.files
    assert (before.background, after.background) == ({}, {"x": 5})


def test_a_bare_file_has_no_background(tmp_path: Path) -> None:
    (tmp_path / "lstm.onnx").write_bytes(lstm().SerializeToString())
    np.savez(tmp_path / "background.npz", x=X)
    assert load_served(find_model(tmp_path / "lstm.onnx")).card.background == {}


def test_the_axes_and_gates_of_model_yaml_apply(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "lstm", lstm(), config="time_axis: {x: 2}\n")
    assert lx.load(folder).axes["x"].time == 2
    with pytest.raises(lx.ModelError, match=r"expected them in its model\.yaml"):
        lx.load(folder, gates={"layer0": 0})
    with pytest.raises(lx.ModelError, match="contains neither"):
        lx.load(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"y": X}, "entry 'y' is no input, the model has x"),
        ({"x": X[0]}, r"entry 'x' has shape \(7, 4\), expected \(samples, .*, 4\)"),
        ({"x": X[:, :, :3]}, r"entry 'x' has shape \(5, 7, 3\), expected \(samples, .*, 4\)"),
        ({"x": X[:0]}, "with at least one sample"),
        ({"x": X.astype(np.complex64)}, "entry 'x' has type complex64, expected numbers for an input of float32"),
        ({"x": np.array(["a"])}, "entry 'x' has type <U1"),
        ({"x": X * np.nan}, "entry 'x' has values that are not finite"),
        ({"x": np.full((1, 7, 4), 1e300)}, "entry 'x' has values that float32, the type of the input, cannot"),
        ({}, r"no entries, expected arrays named after inputs \(x\)"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(tmp_path: Path, arrays: Any, problem: str) -> None:
    with pytest.raises(lx.ModelError, match=f"^background.npz: .*{problem}"):
        lx.load(written(tmp_path, **arrays))


def test_token_ids_are_whole_numbers(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "words", words())
    np.savez(folder / "background.npz", tokens=np.array([[1.0, 2.0], [3.0, 2.5]]))
    with pytest.raises(lx.ModelError, match="values that int64, the type of the input, cannot represent"):
        lx.load(folder)
    np.savez(folder / "background.npz", tokens=np.array([[1.0, 2.0], [3.0, 2.0]]))
    assert lx.load(folder).background["tokens"].dtype == np.int64  # type: ignore[index]


class Pickled:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    folder, mark = write_version(tmp_path, "lstm", lstm()), tmp_path / "executed"
    objects = np.empty(1, object)
    objects[0] = Pickled(mark)
    archive(folder / "background.npz", x=entry(objects))
    with pytest.raises(lx.ModelError, match=r"background\.npz: entry 'x' is not an array of numbers"):
        lx.load(folder)
    (folder / "background.npz").write_bytes(pickle.dumps(Pickled(mark)))
    with pytest.raises(lx.ModelError, match=r"background\.npz: not an .npz file"):
        lx.load(folder)
    assert not mark.exists()


def test_what_a_file_claims_is_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    folder = write_version(tmp_path, "lstm", lstm())
    data = entry(X).replace(b"(5, 7, 4)", b"(9999999999999, 7, 4)").replace(b" " * 12 + b"\n", b"\n", 1)
    archive(folder / "background.npz", x=data)
    with pytest.raises(lx.ModelError, match=r"entry 'x' is not an array of numbers: shape .* does not fit into"):
        lx.load(folder)
    monkeypatch.setattr(background_file, "MAX_BYTES", 20_000)
    archive(folder / "background.npz", zipfile.ZIP_DEFLATED, x=entry(np.zeros((1000, 7, 4), np.float32)))
    assert (folder / "background.npz").stat().st_size < 2000
    with pytest.raises(lx.ModelError, match="bytes of arrays, at most 20000 are allowed"):
        lx.load(folder)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_file_is_an_error(tmp_path: Path, compression: int) -> None:
    """Every byte in turn is damaged; each time, the file is refused or read as some array, without another error."""
    folder = write_version(tmp_path, "lstm", lstm())
    path, source = folder / "background.npz", find_model(folder)
    archive(path, compression, x=entry(X[:1]))
    whole, model = path.read_bytes(), lx.load(lstm())
    refused = 0
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        problem = "background.npz: "
        try:
            background_file.read_background(source, model.inputs, model.axes)
        except lx.ModelError as error:
            problem, refused = str(error), refused + 1
        assert problem.startswith("background.npz: ")
    assert refused > len(whole) / 2
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(lx.ModelError, match=r"^background\.npz: "):
            background_file.read_background(source, model.inputs, model.axes)


def test_a_model_without_a_background_says_so() -> None:
    with pytest.raises(lx.MethodError, match=r"occlusion: the model has no background set \(background\.npz\)"):
        lx.load(lstm()).explain(INPUTS, lx.Occlusion(baseline=lx.Background()))
