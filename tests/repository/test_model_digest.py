# SPDX-License-Identifier: Apache-2.0
"""The digest of a version, compared with what sha256sum computes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import onnx
import pytest

from lstm_explain.repository.model_digest import digest_of, digests_of, files_of_version
from lstm_explain.repository.model_folder import find_model, find_sources
from lstm_explain.repository.served_model import load_served
from tests.serving.models import lstm, words, write_tokenizer, write_version

TEXT = "tokenizer: {file: tokenizer.json, input: tokens}\n"


def digest(path: Path) -> str:
    return load_served(find_model(path)).card.digest


def test_the_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    write_tokenizer(write_version(tmp_path, "words", words(), 1, TEXT))
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    flat = tmp_path / "flat"  # the files by the names that they have in the digest
    shutil.copytree(tmp_path / "words" / "1", flat)
    for name in ("model.yaml", "tokenizer.json"):
        shutil.copy(tmp_path / "words" / name, flat)
    names = sorted(path.name for path in flat.iterdir())
    listed = subprocess.run(["sha256sum", *names], cwd=flat, capture_output=True, check=True).stdout
    assert digest(tmp_path / "words") == hashlib.sha256(listed).hexdigest()


def test_where_the_files_lie_does_not_matter(tmp_path: Path) -> None:
    """In the version's folder, in the model's, or as a bare file."""
    write_tokenizer(write_version(tmp_path / "above", "words", words(), 1, TEXT))
    version = write_version(tmp_path / "within", "other", words(), 7) / "7"
    (version / "model.yaml").write_text(TEXT)
    write_tokenizer(version)
    (version / "model.sig").write_text("not part of it")
    (tmp_path / "bare").mkdir()
    onnx.save(words(), str(tmp_path / "bare" / "words.onnx"))
    (tmp_path / "bare" / "words.yaml").write_text(TEXT)
    write_tokenizer(tmp_path / "bare")
    paths = (tmp_path / "above" / "words", tmp_path / "within" / "other", tmp_path / "bare" / "words.onnx")
    assert len({digest(path) for path in paths}) == 1


@pytest.mark.parametrize("name", ["1/model.onnx", "model.yaml", "tokenizer.json", "1/weights.bin"])
def test_every_file_counts(tmp_path: Path, name: str) -> None:
    folder = write_version(tmp_path, "words", words(), 1, TEXT)
    write_tokenizer(folder)
    (folder / "1" / "weights.bin").write_bytes(b"0")
    (source,) = find_sources(tmp_path)
    before = digest_of(digests_of(files_of_version(source, "tokenizer.json")))
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert digest_of(digests_of(files_of_version(source, "tokenizer.json"))) != before


def test_files_of_the_models_folder_that_no_answer_depends_on_do_not_count(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "mine", lstm())
    before = digest(folder)
    (folder / "README.md").write_text("about it")
    write_version(tmp_path, "mine", lstm(1), 2)
    assert digest(folder / "1") == before
    assert digest(folder / "2") != before


def test_external_weights_of_a_bare_file_count(tmp_path: Path) -> None:
    onnx.save(lstm(), str(tmp_path / "bare.onnx"), save_as_external_data=True, location="bare.bin", size_threshold=0)
    (source,) = find_sources(tmp_path)
    assert set(files_of_version(source, None)) == {"bare.bin", "model.onnx"}
