# SPDX-License-Identifier: Apache-2.0
"""External data is read inside the model's folder only, and must fill its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from lstm_explain.cli import main
from tests.bad_input.example import tiny

SECRET = np.arange(16, dtype=np.float32).tobytes()


def external(location: str, **more: str) -> onnx.ModelProto:
    """x [B, 4] @ W, with W kept in a file."""
    proto = tiny(helper.make_node("MatMul", ["x", "W"], ["y"]))
    W = proto.graph.initializer.add(name="W", data_type=TensorProto.FLOAT, dims=[4, 4])
    W.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        W.external_data.add(key=key, value=value)
    return proto


def place(folder: Path, proto: onnx.ModelProto) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize("location", ["weights.bin", "./weights.bin", "deep/weights.bin"])
def test_external_data_inside_the_folder_is_read(tmp_path: Path, location: str) -> None:
    path = place(tmp_path, external(location))
    (tmp_path / "deep").mkdir()
    (tmp_path / location).write_bytes(SECRET)
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(lx.load(path).explain({"x": x}).outputs["y"], [[24, 28, 32, 36]])


@pytest.mark.parametrize(
    "location", ["../secret.bin", "deep/../../secret.bin", "{outside}/secret.bin", "link.bin", "out/secret.bin"]
)
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for secret in (tmp_path / "secret.bin", outside / "secret.bin"):
        secret.write_bytes(SECRET)
    path = place(tmp_path / "model", external(location.format(outside=outside)))
    (path.parent / "deep").mkdir()
    (path.parent / "link.bin").symlink_to(outside / "secret.bin")
    (path.parent / "out").symlink_to(outside)
    with pytest.raises(lx.ModelError):
        lx.load(path)


@pytest.mark.parametrize(
    ("content", "more"),
    [(None, {}), (SECRET[:-4], {}), (b"", {}), (SECRET, {"offset": "32"}), (SECRET, {"length": "60"})],
    ids=["no-file", "short", "empty", "offset", "length"],
)
def test_external_data_that_does_not_fill_the_tensor_is_refused(tmp_path: Path, content: Any, more: Any) -> None:
    path = place(tmp_path, external("weights.bin", **more))
    if content is not None:
        (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(lx.ModelError):
        lx.load(path)


IMPOSSIBLE = {
    "NUL": ("weights\0.bin", {}),
    "long": ("w" * 5000, {}),
    "long-name": ("w" * 300, {}),
    "long-path": ("w/" * 2500, {}),
    "circle": ("circle.bin", {}),
    "folder": ("deep", {}),
    "dot": (".", {}),
    **{
        f"offset={text[:9]}": ("weights.bin", {"offset": text})
        for text in ("-4", "x", "1e9", "", "9" * 6000, "٣", "1 ", "9" * 18)
    },
    **{
        f"length={text[:9]}": ("weights.bin", {"length": text}) for text in ("-4", "x", "6_4", "0x40", "9" * 6000, "65")
    },
}


@pytest.mark.parametrize(("location", "more"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_invalid_entry_of_external_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], location: str, more: dict[str, str]
) -> None:
    """The tensor is named; `inspect` finds the file unreadable."""
    path = place(tmp_path, external(location, **more))
    (tmp_path / "deep").mkdir()
    (tmp_path / "circle.bin").symlink_to(tmp_path / "circle.bin")
    (tmp_path / "weights.bin").write_bytes(SECRET)
    with pytest.raises(lx.ModelError, match="tensor 'W': external data") as refused:
        lx.load(path)
    assert len(str(refused.value)) < 400
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("lstm-explain: tensor 'W'")


def test_many_tensors_of_the_same_bytes_are_refused(tmp_path: Path) -> None:
    """10 KB in the folder would be 1 MB in memory."""
    proto = external("weights.bin")
    for k in range(100):
        proto.graph.initializer.add().CopyFrom(proto.graph.initializer[0])
        proto.graph.initializer[-1].name = f"W{k}"
        proto.graph.initializer[-1].dims[:] = [2500]
    path = place(tmp_path, proto)
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    with pytest.raises(lx.ModelError, match="101 tensors need 1010000 bytes, their files have 10000"):
        lx.load(path)


def test_a_model_in_memory_has_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.bin").write_bytes(SECRET)
    monkeypatch.chdir(tmp_path)
    for source in (external("weights.bin"), external("weights.bin").SerializeToString()):
        with pytest.raises(lx.ModelError):
            lx.load(source)
