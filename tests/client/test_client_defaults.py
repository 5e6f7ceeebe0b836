# SPDX-License-Identifier: Apache-2.0
"""Omitted arguments take the model's defaults from its model.yaml."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lstm_explain_client import AsyncClient, Client, Request, Result
from tests.serving.running import Running, serving

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def adding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of `addition` with an epsilon of its own, so that the test can distinguish the defaults."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(MODELS / "addition", folder / "addition")
    card = folder / "addition" / "model.yaml"
    card.write_text(re.sub(r"(?m)^method: .*$", "method: {name: lrp, epsilon: 0.000001}", card.read_text()))
    with serving(folder) as server:
        yield server


def blocking(address: str, x: np.ndarray) -> Result:
    with Client(address) as client:
        return client.explain("addition", {"x": x})


def streamed(address: str, x: np.ndarray) -> Result:
    with Client(address) as client:
        (answer,) = client.explain_stream([Request("addition", {"x": x})])
        return answer.get()


def awaited(address: str, x: np.ndarray) -> Result:
    async def ask() -> Result:
        async with AsyncClient(address) as client:
            return await client.explain("addition", {"x": x})

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [blocking, streamed, awaited])
def test_without_a_method_the_default_of_the_model_is_used(ask, adding):
    x = np.zeros((1, 12, 3), np.float32)
    x[0, :, 0] = np.linspace(-0.8, 0.8, 12)
    x[0, [2, 7], 0] = 0.0
    x[0, 2, 1], x[0, 7, 2] = 0.5, 0.75
    result = ask(adding.address, x)
    np.testing.assert_allclose(result.explained, [1.25], atol=0.1)  # the model is a sum
    assert result.method.epsilon == 1e-6
    assert abs(result.ledger.absorbed[0]) < 0.02 * abs(result.explained[0])
