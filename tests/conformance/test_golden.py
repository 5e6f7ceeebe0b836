# SPDX-License-Identifier: Apache-2.0
"""The cases equal the textbook, and the golden messages cover every field of the protos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2, operation_pb2
from tests.conformance import golden
from tests.conformance.generate import HERE, generate

GOLDEN = {entry["name"]: entry["message"] for entry in json.loads((HERE / "golden" / "index.json").read_text())}

# --- the cases themselves --------------------------------------------------------------------------------------------


def test_cases_equal_the_textbook(tmp_path: Path) -> None:
    """Generated again, they are the same apart from the last digits, which another BLAS may round differently."""
    generate(tmp_path)
    for kind in ("cases", "golden", "models"):
        assert names(tmp_path / kind) == names(HERE / kind)
    for path in (HERE / "cases").glob("*.json"):
        check_same(path.stem, json.loads(path.read_text()), json.loads((tmp_path / "cases" / path.name).read_text()))
    for path in (HERE / "models").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(HERE)).read_bytes(), path.name


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def check_same(where: str, left: object, right: object) -> None:
    assert type(left) is type(right), where
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where  # type: ignore[attr-defined]
        for key in left:
            check_same(f"{where}.{key}", left[key], right[key])  # type: ignore[index]
    elif isinstance(left, list) and left and isinstance(left[0], float):
        np.testing.assert_allclose(left, right, rtol=1e-8, atol=1e-10, err_msg=where)  # type: ignore[arg-type]
    elif isinstance(left, list):
        assert len(left) == len(right), where  # type: ignore[arg-type]
        for number, pair in enumerate(zip(left, right, strict=True)):  # type: ignore[call-overload]
            check_same(f"{where}[{number}]", *pair)
    elif isinstance(left, float):
        assert left == pytest.approx(right, rel=1e-6), where
    else:
        assert left == right, where


# --- the golden messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes_are_their_json(name: str) -> None:
    message = message_of(name)
    json_format.Parse((HERE / "golden" / f"{name}.json").read_text(), message)
    assert message.SerializeToString(deterministic=True) == (HERE / "golden" / f"{name}.bin").read_bytes()


def message_of(name: str) -> Message:
    kind = GOLDEN[name].rsplit(".", 1)[1]
    cls = next(getattr(stubs, kind) for stubs in (explanation_pb2, model_pb2, operation_pb2) if hasattr(stubs, kind))
    return cls()


def test_golden_messages_have_every_field() -> None:
    """This holds for every message of the calls; `python -m tests.conformance.generate` adds those for a new field."""
    seen: set[str] = set()

    def note(message: Message) -> None:
        for descriptor, value in message.ListFields():
            seen.add(descriptor.full_name)
            if descriptor.message_type is not None and not descriptor.message_type.GetOptions().map_entry:
                for held in value if descriptor.is_repeated else [value]:
                    note(held)

    for name in GOLDEN:
        message = message_of(name)
        message.ParseFromString((HERE / "golden" / f"{name}.bin").read_bytes())
        note(message)
    reference = {f.full_name for kind in reachable(golden.roots()) for f in kind.fields}
    assert reference - seen == set()


def reachable(kinds: list[Descriptor]) -> list[Descriptor]:
    found: dict[str, Descriptor] = {}
    while kinds:
        kind = kinds.pop()
        if kind.full_name in found:
            continue
        found[kind.full_name] = kind
        held = [f.message_type for f in kind.fields if f.message_type is not None]
        kinds += [k for k in held if not k.GetOptions().map_entry]
    return list(found.values())
