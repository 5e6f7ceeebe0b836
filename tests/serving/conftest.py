# SPDX-License-Identifier: Apache-2.0
"""The server whose page the gateway tests call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.models import fill, lstm, write_version
from tests.serving.running import Running, serving
from tests.serving.web import MOST


@pytest.fixture(scope="session")
def web_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    fill(folder)
    write_version(folder, "heavy", lstm(hidden=128))
    return folder


@pytest.fixture(scope="session")
def one_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For servers that are about something else: each model adds a tenth of a second to a start."""
    folder = tmp_path_factory.mktemp("one")
    write_version(folder, "lstm", lstm())
    return folder


@pytest.fixture(scope="session")
def web_server(web_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    more = ("--metrics-listen", "127.0.0.1:0", "--operations-folder", str(tmp_path_factory.mktemp("operations")))
    with serving(
        web_models, "--web", "127.0.0.1:0", "--max-message-bytes", str(MOST), "--parallel", "1", *more
    ) as server:
        yield server


@pytest.fixture(scope="session")
def page(web_server: Running) -> str:
    return web_server.page()
