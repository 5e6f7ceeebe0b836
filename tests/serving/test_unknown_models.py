# SPDX-License-Identifier: Apache-2.0
"""A caller who misspells the name of a model learns what there is."""

from __future__ import annotations

import pytest

from lstm_explain.serving.errors import NotFound
from lstm_explain.serving.models.snapshot import MOST_NAMES, Snapshot, Unloaded


def snapshot(*names: str) -> Snapshot:
    return Snapshot({name: {1: Unloaded(name, 1)} for name in names})


@pytest.mark.parametrize(
    ("names", "asked", "said"),
    [
        (("addition", "sentiment"), "sentimant", "did you mean 'sentiment'? The models are addition, sentiment"),
        (("addition", "sentiment"), "weather", "there is no model 'weather'; the models are addition, sentiment"),
        ((), "weather", "there is no model 'weather'; the server has no models"),
        (tuple(f"m{i:02}" for i in range(MOST_NAMES + 3)), "weather", "m09 and 3 more"),
    ],
)
def test_the_nearest_name_and_all_others_are_told(names: tuple[str, ...], asked: str, said: str) -> None:
    with pytest.raises(NotFound) as raised:
        snapshot(*names).entry(asked)
    assert str(raised.value).endswith(said)


def test_a_caller_reads_it(channel) -> None:
    """Over gRPC."""
    from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
    from tests.serving.calling import refusal

    with pytest.raises(Exception) as raised:  # noqa: PT011 - gRPC's own types are not public
        model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(name="lstn"))
    assert "there is no model 'lstn'; did you mean " in refusal(raised.value).message
