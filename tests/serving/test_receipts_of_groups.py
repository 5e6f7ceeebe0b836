# SPDX-License-Identifier: Apache-2.0
"""Receipts of requests with groups of entries, and with units that relevance passes through."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
import lstm_explain_client as client
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.receipts.envelope import Altered
from lstm_explain.serving.receipts.verification import SAME_BITS, TOLERATED, verify
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from tests.serving.calling import infer
from tests.serving.receipts import TEXT, X, run, statement, usual
from tests.serving.running import Running

WINDOW = client.Groups(window=3, features={"pair": [0, 2]})
GROUPS = {
    "windows": (WINDOW, "lrp"),
    "change points": (client.Groups(change_points=client.ChangePoints(4, 1.0)), "lrp"),
    "players": (client.Groups(window=4), "shapley_sampling"),
}


def digest(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def digests(told: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["digest"]["sha256"] for one in told["subject"]}


@pytest.fixture(scope="module")
def node(receipt_model: ServedModel) -> str:
    return next(n.name for n in receipt_model.model.proto.graph.node if n.op_type == "LSTM")


@pytest.fixture(scope="module")
def grouped(receipt_client: client.Client) -> client.Result:
    return receipt_client.explain("lstm", {"x": X}, "lrp", version="1", groups=WINDOW, receipt=True)


@pytest.fixture(scope="module")
def conditioned(receipt_client: client.Client, node: str) -> client.Result:
    through = {f"{node}.cell": [1, 4], f"{node}.cell_input": [4]}
    return receipt_client.explain("lstm", {"x": X}, "lrp", version="1", through=through, receipt=True)


@pytest.mark.parametrize("name", GROUPS)
def test_groups_are_stated_and_verified(
    receipts: Path, receipt_client: client.Client, receipt_model: ServedModel, name: str
) -> None:
    """The sums are those of the relevance that the engine finds without groups, where these are no players."""
    groups, method = GROUPS[name]
    answer = receipt_client.explain("lstm", {"x": X}, method, version="1", groups=groups, receipt=True)
    own, told = answer.groups["x"], statement(receipts, answer.receipt)
    assert digests(told)["group_relevance/x"] == digest(own.relevance)
    assert digests(told)["group_steps/x"] == digest(own.steps)
    assert ("group_standard_error/x" in digests(told)) == (method == "shapley_sampling")
    if method == "lrp":
        plain = receipt_model.model.explain({"x": X}, lx.LRP(epsilon=0.01)).relevance["x"].astype(np.float64)
        wet = [0, 2] if groups.features else [0, 1, 2, 3]
        for sample, group in np.argwhere(own.names != ""):
            start, end = own.steps[sample, group]
            features = [1, 3] if own.names[sample, group].endswith("other features") else wet
            assert own.relevance[sample, group] == pytest.approx(plain[sample, start:end, features].sum(), abs=1e-7)
    found = verify(told, receipt_model, {"x": X}, answer.relevance)
    assert (found.agreement, found.differences) == (SAME_BITS, ())


def test_a_receipt_writes_every_field_out(
    receipts: Path, grouped: client.Result, conditioned: client.Result, node: str
) -> None:
    told = statement(receipts, grouped.receipt)["predicate"]
    assert told["groups"] == {"window": 3, "features": [{"name": "pair", "features": ["0", "2"]}]}
    assert "through" not in told
    told = statement(receipts, conditioned.receipt)["predicate"]
    units = [{"value": f"{node}.cell", "units": ["1", "4"]}, {"value": f"{node}.cell_input", "units": ["4"]}]
    assert told["through"] == units
    assert "groups" not in told


def test_chosen_units_are_those_of_the_engine(
    receipts: Path, conditioned: client.Result, receipt_model: ServedModel, node: str
) -> None:
    through = {f"{node}.cell": [1, 4], f"{node}.cell_input": [4]}
    ours = receipt_model.model.explain({"x": X}, lx.LRP(epsilon=0.01), through=through).relevance["x"]
    told = statement(receipts, conditioned.receipt)
    assert digests(told)["relevance/x"] == digest(ours)
    assert verify(told, receipt_model, {"x": X}, conditioned.relevance).agreement == SAME_BITS


def test_the_command_says_what_the_relevance_is_about(
    receipts: Path, grouped: client.Result, conditioned: client.Result, receipted: client.Result, node: str
) -> None:
    """A receipt of a part of the relevance must not pass for one of the whole."""
    units = f"{node}.cell=1,4; {node}.cell_input=4"
    assert f"\n  through     {units}\n" in run(receipts, conditioned.receipt, *usual(receipts)).stdout
    assert "\n  groups      window=3; features.pair=0,2\n" in run(receipts, grouped.receipt, *usual(receipts)).stdout
    assert json.loads(run(receipts, conditioned.receipt, *usual(receipts), "--json").stdout)["through"] == units
    plain = run(receipts, receipted.receipt, *usual(receipts))
    assert (plain.returncode, "through" in plain.stdout, "groups" in plain.stdout) == (0, False, False)


def test_several_targets_with_groups(
    receipts: Path, receipt_client: client.Client, receipt_model: ServedModel, node: str
) -> None:
    more = {"groups": WINDOW, "through": {f"{node}.hidden": [0, 1]}}
    answers = receipt_client.explain_many("lstm", {"x": X}, "every class", version="1", receipt=True, **more)
    told = statement(receipts, answers[0].receipt)
    assert digests(told)["group_relevance/x"] == digest(np.stack([one.groups["x"].relevance for one in answers]))
    assert verify(told, receipt_model, {"x": X}, {}).agreement == SAME_BITS


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(told: dict[str, Any]) -> None:
        for key in path[:-1]:
            told = told[key]
        if to is None:
            del told[path[-1]]
        else:
            told[path[-1]] = to

    return change


def _digest_of(name: str) -> Callable[[dict[str, Any]], None]:
    def change(told: dict[str, Any]) -> None:
        next(one for one in told["subject"] if one["name"] == name)["digest"]["sha256"] = "0" * 64

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_digest_of("group_relevance/x"), "have other bits, .*: group_relevance/x$"),
        (_digest_of("group_names/x"), "have other bits, .*: group_names/x$"),
        (_set("predicate", "groups", "window", to=4), "have other bits, .*group_names/x, group_relevance/x"),
        (_set("predicate", "groups", "features", 0, "features", to=["0", "1"]), ": group_relevance/x$"),
        (_set("predicate", "groups", "features", 0, "name", to="trio"), ": group_names/x$"),
        (_set("predicate", "groups", to=None), "have other bits, .*: group_names/x, group_relevance/x, group_steps/x$"),
        (_set("predicate", "groups", to={"days": 3}), "lacks what a verification needs"),
    ],
)
def test_altered_groups_are_found(
    receipts: Path,
    grouped: client.Result,
    receipt_model: ServedModel,
    change: Callable[[dict[str, Any]], None],
    problem: str,
) -> None:
    told = statement(receipts, grouped.receipt)
    change(told)
    with pytest.raises(Altered, match=problem):
        verify(told, receipt_model, {"x": X}, {})


@pytest.mark.parametrize(
    "change",
    [
        _set("predicate", "through", 0, "units", to=["1", "3"]),
        _set("predicate", "through", 1, to=None),
        _set("predicate", "through", to=None),
    ],
)
def test_altered_units_are_found(
    receipts: Path, conditioned: client.Result, receipt_model: ServedModel, change: Callable[[dict[str, Any]], None]
) -> None:
    told = statement(receipts, conditioned.receipt)
    change(told)
    with pytest.raises(Altered, match=r"have other bits, .*ledger/absorbed.*relevance/x"):
        verify(told, receipt_model, {"x": X}, {})


def test_names_and_steps_of_groups_must_be_the_same_on_any_machine(
    receipts: Path, grouped: client.Result, receipt_model: ServedModel
) -> None:
    told = statement(receipts, grouped.receipt)
    told["predicate"]["environment"]["processor"]["name"] = "another"
    _digest_of("group_relevance/x")(told)  # its bits may differ there
    assert verify(told, receipt_model, {"x": X}, grouped.relevance).agreement == TOLERATED
    _digest_of("group_steps/x")(told)
    with pytest.raises(Altered, match="these arrays have other values: group_steps/x"):
        verify(told, receipt_model, {"x": X}, grouped.relevance)


def test_words_are_found_in_the_text(receipts: Path, receipt_client: client.Client, tmp_path: Path) -> None:
    words = client.Groups(words=True)
    receipt = receipt_client.explain("words", {"tokens": TEXT}, groups=words, receipt=True).receipt
    arguments = ["--model", str(receipts / "models" / "words"), "--key", str(receipts / "server.pem")]
    assert json.loads(run(receipts, receipt, *arguments, "--text", TEXT, "--json").stdout)["agreement"] == SAME_BITS
    other = run(receipts, receipt, *arguments, "--text", "the plot is bad.")
    assert (other.returncode, "this is not the input tokens of the receipt" in other.stderr) == (1, True)
    ids, _ = lx.load(receipts / "models" / "words").tokenizers["tokens"](np.array([TEXT], object))
    np.save(tmp_path / "ids.npy", ids)
    without = run(receipts, receipt, *arguments, "--input", f"tokens={tmp_path / 'ids.npy'}")
    assert without.returncode == 2
    assert "the groups of this receipt are words" in without.stderr


def test_the_open_inference_protocol(receipts: Path, receipt_server: Running, receipt_model: ServedModel) -> None:
    message = infer("lstm")
    message.model_version = "1"
    message.parameters["explain_receipt"].bool_param = True
    message.parameters["explain_groups"].string_param = "window=2"
    with receipt_server.channel() as channel:
        answer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message)
    names = [output.name for output in answer.outputs]
    told = statement(receipts, answer.parameters["receipt"].string_param)
    data = answer.raw_output_contents[names.index("group_relevance:x")]
    assert digests(told)["group_relevance/x"] == hashlib.sha256(data).hexdigest()
    assert verify(told, receipt_model, {"x": X}, {}).agreement == SAME_BITS
