# SPDX-License-Identifier: Apache-2.0
"""Computes the digest of a version: SHA-256 over all files that determine its answers.

The digest can be computed without this program: it is the SHA-256 of what `sha256sum` prints for the files, sorted by
name. Names are relative to the version's folder, and do not depend on where the repository lies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from lstm_explain.graph.protos import tensors_of
from lstm_explain.repository.background_file import BACKGROUND
from lstm_explain.repository.model_folder import CONFIG, DRIFT, MODEL, Source

SIGNATURE = "model.sig"  # signs the other files of a version's folder, see serving/security/model_signatures.py


def files_of_version(source: Source, tokenizer: str | None) -> dict[str, Path]:
    """Returns the files that determine the answers of the version, by name, sorted.

    They are all files of the version's folder but its signature and drift.json, and what the version takes from the
    model's folder above: model.yaml, the tokenizer and the background set. tokenizer: the name of its file in
    model.yaml. Raises OSError.
    """
    folder = source.model_file.parent
    if source.bare:
        own = _external_data(source.model_file)
    else:
        own = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
        for other in (SIGNATURE, DRIFT):
            own.pop(other, None)
    names = [tokenizer, BACKGROUND if source.model_file.name == MODEL else None]
    shared = {name: source.folder / name for name in names if name is not None}
    found = {**shared, **own, CONFIG: source.config_file, MODEL: source.model_file}
    return {name: found[name] for name in sorted(found) if found[name].is_file()}


def digests_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Returns the SHA-256 of each file, as hexadecimal digits. Raises OSError."""
    digests = {}
    for name, path in files.items():
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def digest_of(digests: Mapping[str, str]) -> str:
    """Returns the digest of a version from those of its files: 64 hexadecimal digits."""
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def _external_data(model_file: Path) -> dict[str, Path]:
    """Returns the files beside a bare model that hold its weights."""
    model = onnx.load(model_file, load_external_data=False)
    entries = [entry for tensor in tensors_of(model) if uses_external_data(tensor) for entry in tensor.external_data]
    return {entry.value: model_file.parent / entry.value for entry in entries if entry.key == "location"}
