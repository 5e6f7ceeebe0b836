# SPDX-License-Identifier: Apache-2.0
"""What `lstm-explain explain` takes as an input: arrays, tables, standard input, texts, and targets by their names."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from pyarrow import parquet

import lstm_explain as lx
from lstm_explain.cli import main
from tests.graph_builder import GraphBuilder
from tests.serving.models import lstm, write_version
from tests.serving.running import command

MODELS = Path(__file__).parents[2] / "models"
X = np.random.default_rng(0).standard_normal((6, 4))  # [time, features]
NAMES = ["speed", "load", "heat", "flow"]
YAML = f"features: {{x: {json.dumps(NAMES)}}}\nclasses: {{logits: [calm, busy, '1']}}\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_version(tmp_path_factory.mktemp("models"), "lstm", lstm(), config=YAML)


def csv_of(columns: dict[str, Any], delimiter: str = ",") -> bytes:
    lines = [delimiter.join(columns), *(delimiter.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    return "\n".join(lines).encode()


def saved(save: Callable[..., None], *args: Any, **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, *args, **arrays)
    return file.getvalue()


COLUMNS = dict(zip(NAMES, X.T.tolist(), strict=True))
DAYS = [f"2026-11-{day:02}" for day in range(1, 7)]
SHUFFLED = {"day": DAYS, **{name: COLUMNS[name] for name in reversed(NAMES)}}
TABLE = pa.table(COLUMNS)
FILES = {
    "npy": saved(np.save, X[None]),
    "npz with one array": saved(np.savez, a=X[None]),
    "npz with the input": saved(np.savez, a=X[None] + 1, x=X[None]),
    "csv": csv_of(COLUMNS),
    "csv without a header": csv_of(COLUMNS).partition(b"\n")[2],
    "csv with a mark": b"\xef\xbb\xbf" + csv_of(COLUMNS),
    "semicolons": csv_of(COLUMNS, ";"),
    "tabs": csv_of(COLUMNS, "\t"),
    "other columns, another order": csv_of(SHUFFLED),
    "parquet": saved(lambda file: parquet.write_table(TABLE, file)),
    "parquet with other columns": saved(lambda file: parquet.write_table(pa.table(SHUFFLED), file)),
}


@pytest.mark.parametrize("name", FILES)
def test_files(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "data").write_bytes(FILES[name])
    answer = explained(capsys, model, "--input", f"x={tmp_path / 'data'}")
    expected = lx.load(model).explain({"x": X[None].astype(np.float32)})
    np.testing.assert_allclose(answer["relevance/x"], expected.relevance["x"], rtol=1e-6)


def explained(capsys: pytest.CaptureFixture[str], model: Path, *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as raised:
        main(["explain", str(model), *arguments, "--json"])
    shown = capsys.readouterr()
    assert raised.value.code == 0, shown.err
    return dict(json.loads(shown.out))


def test_lost_digits_are_one_line_on_stderr(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.csv").write_bytes(csv_of({**COLUMNS, "flow": [20261129.0] * 6}))
    with pytest.raises(SystemExit) as raised:
        main(["explain", str(model), "--input", f"x={tmp_path / 'data.csv'}", "--json"])
    shown = capsys.readouterr()
    assert raised.value.code == 0
    assert not [text for text in json.loads(shown.out)["warnings"] if "round" in text]
    (line,) = [line for line in shown.err.splitlines() if "rounds" in line]
    assert line.startswith("lstm-explain: warning: input 'x' has float64 numbers that float32 rounds by 0.5 or more")


def test_the_only_input_needs_no_name(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.csv").write_bytes(csv_of(COLUMNS))
    answer = explained(capsys, model, "--input", str(tmp_path / "data.csv"))
    expected = lx.load(model).explain({"x": X[None].astype(np.float32)})
    np.testing.assert_allclose(answer["relevance/x"], expected.relevance["x"], rtol=1e-6)


def test_one_of_several_inputs_needs_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    g = GraphBuilder(np.float32, 17)
    onnx.save(g.model(g.op("Add", [g.input("a", ["B", 3]), g.input("b", ["B", 3])]), ["B", 3]), tmp_path / "sum.onnx")
    with pytest.raises(SystemExit) as raised:
        main(["explain", str(tmp_path / "sum.onnx"), "--input", str(tmp_path / "sum.onnx")])
    assert raised.value.code == 2
    assert "sum.onnx' is not NAME=VALUE, and the inputs are a, b" in capsys.readouterr().err


def test_standard_input(model: Path) -> None:
    given = command("explain", str(model), "--input", "x=-", "--json")
    done = subprocess.run(given, input=csv_of(COLUMNS), capture_output=True, timeout=120, check=True)
    expected = lx.load(model).explain({"x": X[None].astype(np.float32)})
    np.testing.assert_allclose(json.loads(done.stdout)["relevance/x"], expected.relevance["x"], rtol=1e-6)


def test_a_row_per_sample_of_whole_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("5,6,7\n8,9,10\n")
    answer = explained(capsys, MODELS / "sentiment", "--input", f"tokens={tmp_path / 'ids.csv'}", "--target", "0")
    assert np.shape(answer["relevance/tokens"]) == (2, 3)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (csv_of({**COLUMNS, "flow": ["", *COLUMNS["flow"][1:]]}), "column 'flow' has '' in row 1, expected a number"),
        (csv_of({"day": DAYS, "speed": COLUMNS["speed"]}), "column 'day' has '2026-11-01' in row 1"),
        (b"speed,load\n1,2\n3\n", "row 3: 1 cells, expected 2"),
        (b"", "has no rows"),
        (b"speed,load\n", "has no rows"),
        (b"\x80\x81", "is neither .npy, .npz, Parquet nor CSV"),
        (csv_of({"speed": COLUMNS["speed"]}), "has shape (1, 6, 1), expected"),
        (saved(np.save, np.array([{}], object), allow_pickle=True), "it holds Python objects, expected numbers"),
        (b"\x93NUMPY\x01\x00", "cannot be read as .npy"),
        (b"PK\x03\x04 and no more", "cannot be read as .npz"),
        (b"PAR1 and no more", "cannot be read as Parquet"),
    ],
)
def test_what_is_no_array_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, part: str
) -> None:
    (tmp_path / "data").write_bytes(data)
    with pytest.raises(SystemExit) as raised:
        main(["explain", str(model), "--input", f"x={tmp_path / 'data'}"])
    (line,) = capsys.readouterr().err.splitlines()
    assert raised.value.code == 2
    assert part in line
    assert "allow_pickle" not in line


def test_texts(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["a wonderful film", "not a bad plot, but thin"]
    given = [part for text in texts for part in ("--text", text)]
    answer = explained(capsys, MODELS / "sentiment", *given, "--target", "positive")
    by_index = explained(capsys, MODELS / "sentiment", *given, "--target", "logits:3")
    assert len(answer["relevance/tokens"]) == 2
    assert answer == by_index
    with pytest.raises(SystemExit):
        main(["explain", str(MODELS / "sentiment"), "--text", texts[0]])
    assert "wonderful" in capsys.readouterr().out


def test_a_text_needs_a_tokenizer(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explain", str(model), "--text", "a film"])
    assert "--text needs a model folder whose model.yaml names a tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize(("target", "index"), [("busy", 1), ("logits:busy", 1), ("1", 1), ("calm", 0), ("logits:1", 1)])
def test_classes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, index: int) -> None:
    """A class whose name is a number is named by its index."""
    np.save(tmp_path / "x.npy", X[None])
    answer = explained(capsys, model, "--input", f"x={tmp_path / 'x.npy'}", "--target", target)
    np.testing.assert_allclose(answer["explained"], np.array(answer["output/logits"])[:, index], rtol=1e-6)


def test_an_unknown_class(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", X[None])
    with pytest.raises(SystemExit):
        main(["explain", str(model), "--input", f"x={tmp_path / 'x.npy'}", "--target", "loud"])
    assert "'loud' is not an index, an output, or output:index, or a class (1, busy, calm)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["inspect", "evaluate"])
def test_other_commands_take_a_folder(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    np.save(tmp_path / "x.npy", np.stack([X, X + 1]))
    inputs = [] if name == "inspect" else ["--input", f"x={tmp_path / 'x.npy'}"]
    with pytest.raises(SystemExit) as raised:
        main([name, str(model), *inputs, "--json"])
    assert (raised.value.code, capsys.readouterr().err) == (0, "")
