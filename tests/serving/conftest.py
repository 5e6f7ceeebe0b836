# SPDX-License-Identifier: Apache-2.0
"""The server whose page the gateway tests call, and the one that signs receipts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lstm_explain.repository.model_folder import find_model
from lstm_explain.repository.served_model import ServedModel, load_served
from lstm_explain_client import Client, Result
from tests.serving.calling import sequence
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


@pytest.fixture(scope="session")
def receipts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See tests.serving.receipts.write_models."""
    from tests.serving.receipts import write_models  # imports packages of an extra

    folder = tmp_path_factory.mktemp("receipts")
    write_models(folder)
    return folder


@pytest.fixture(scope="session")
def receipt_server(receipts: Path) -> Iterator[Running]:
    with serving(receipts / "models", "--receipt-key", str(receipts / "server.key")) as server:
        yield server


@pytest.fixture(scope="session")
def receipt_client(receipt_server: Running) -> Iterator[Client]:
    with Client(receipt_server.address) as client:
        yield client


@pytest.fixture(scope="session")
def receipted(receipt_client: Client) -> Result:
    """An explanation with a receipt."""
    return receipt_client.explain("lstm", {"x": sequence()}, "lrp", target=2, version="1", receipt=True)


@pytest.fixture(scope="session")
def receipt_model(receipts: Path) -> ServedModel:
    """The model of `receipted`, in this process."""
    return load_served(find_model(receipts / "models" / "lstm" / "1"))
