# SPDX-License-Identifier: Apache-2.0
"""Messages of an import, and what an import leaves behind."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from lstm_explain_proto.lstm_explain.v1 import model_pb2
from tests.serving.models import lstm


def left_over(folder: Path) -> list[str]:
    return [path.name for path in (folder / ".staging").glob("*") if path.name != "lock"]


def wait_until_clean(folder: Path) -> None:
    end = time.monotonic() + 10
    while left_over(folder) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.1)


def content(seed: int = 0, **sizes: int) -> bytes:
    return lstm(seed, **sizes).SerializeToString()


def start(data: bytes, **fields: Any) -> model_pb2.ImportModelRequest:
    values = {"name": "new", "sha256": hashlib.sha256(data).digest(), "size": len(data), **fields}
    return model_pb2.ImportModelRequest(start=model_pb2.ImportModelStart(**values))


def chunk(data: bytes) -> model_pb2.ImportModelRequest:
    return model_pb2.ImportModelRequest(chunk=data)


def announced(name: str, data: bytes) -> model_pb2.ImportModelRequest:
    """Announces another file of the version."""
    file = model_pb2.ImportModelFile(name=name, sha256=hashlib.sha256(data).digest(), size=len(data))
    return model_pb2.ImportModelRequest(file=file)
