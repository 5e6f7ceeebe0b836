# SPDX-License-Identifier: Apache-2.0
"""Implements `lstm-explain verify`, which checks the receipt of an explanation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_explain.cli.input_files import read_inputs
from lstm_explain.cli.options import NOT_POSSIBLE, AsJson, fail
from lstm_explain.kernels import cache

if TYPE_CHECKING:
    from lstm_explain.repository.served_model import ServedModel
    from lstm_explain.serving.receipts.envelope import Opened
    from lstm_explain.serving.receipts.verification import Verified


def verify(
    receipt: Annotated[Path, typer.Argument(metavar="RECEIPT", help="The file with the receipt.")],
    model: Annotated[
        Path, typer.Option("--model", metavar="MODEL", help="The model's folder, or its file, as it was served.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="[NAME=]FILE", help="An input, as `explain` takes it. Repeat for more."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A text, for a model with a tokenizer; repeat for more samples.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="PUBLIC.pem", help="The server's public key. Without it, only alterations show, not who signed."
        ),
    ] = None,
    relevance: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="The relevance that the caller got for an input. Repeat for more."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Largest difference of a number on another kind of processor; default: 0.001."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Checks a receipt: the signature, the model, the inputs, and the answer, which is computed again.

    Exit code: 0 the receipt holds, 1 it does not, 2 an argument is wrong or a file cannot be read.
    """
    cache.use(wait=True)
    from lstm_explain.serving.receipts.envelope import Altered, open_envelope
    from lstm_explain.serving.receipts.verification import TOLERANCE
    from lstm_explain.serving.receipts.verification import verify as check

    if not inputs and not text:
        raise typer.BadParameter("give the inputs: --input [NAME=]FILE, or --text for a model with a tokenizer")
    pem = None if key is None else key.read_bytes()
    try:
        content = receipt.read_text(encoding="utf-8", errors="replace").strip()
        opened = open_envelope(content, pem, "the key of the receipt itself" if key is None else key.name)
        served = _served(model, opened)
        found = check(
            opened.statement,
            served,
            _inputs(served, inputs or (), text or ()),
            read_inputs(relevance or (), served.model, option="--relevance"),
            TOLERANCE if tolerance is None else tolerance,
        )
    except Altered as error:
        if as_json:
            print(json.dumps({"holds": False, "problem": str(error)}))
        fail(f"the receipt does not hold: {error}", NOT_POSSIBLE)
    _report(opened, found, signer_known=key is not None, as_json=as_json)


def _served(path: Path, opened: Opened) -> ServedModel:
    """Returns the version that the receipt names where the folder has several."""
    from lstm_explain.repository.model_folder import find_model, find_sources
    from lstm_explain.repository.served_model import load_served

    path = path.absolute()
    try:
        version = opened.statement["predicate"]["model"]["version"]
    except (KeyError, TypeError):
        version = ""
    sources = find_sources(path.parent, path.name) if path.is_dir() else []
    chosen = [source for source in sources if source.folder == path and str(source.version) == version]
    return load_served(chosen[0] if chosen else find_model(path))


def _inputs(served: ServedModel, files: Any, texts: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {**read_inputs(files, served.model, served.config.features)}
    if texts:
        if not served.model.tokenizers:
            raise typer.BadParameter("--text needs a model whose model.yaml names a tokenizer")
        arrays |= {name: list(texts) for name in served.model.tokenizers}
    return arrays


def _asked(predicate: dict[str, Any]) -> dict[str, str]:
    """Returns what the reader must know of the request, because it limits what the relevance is about, as text."""
    from google.protobuf.json_format import ParseDict

    from lstm_explain.repository.group_notation import groups_as_text
    from lstm_explain.repository.through_notation import through_as_text
    from lstm_explain.serving.wire.groups import to_groups
    from lstm_explain_proto.lstm_explain.v1 import explanation_pb2

    found = {"condition": predicate.get("condition", "")}
    if "groups" in predicate:
        found["groups"] = groups_as_text(to_groups(ParseDict(predicate["groups"], explanation_pb2.Groups())))
    found["through"] = through_as_text({one["value"]: one["units"] for one in predicate.get("through", ())})
    return {name: text for name, text in found.items() if text}


def _report(opened: Opened, found: Verified, *, signer_known: bool, as_json: bool) -> None:
    predicate = opened.statement["predicate"]
    if as_json:
        summary = {
            "holds": True,
            "signer": opened.key_id,
            "signer_checked": signer_known,
            "model": predicate["model"]["name"],
            "version": predicate["model"]["version"],
            "time": predicate["time"],
            "request_id": predicate["requestId"],
            **_asked(predicate),
            "agreement": found.agreement,
            "largest_difference": found.largest,
            "elementwise": found.elementwise,
            "differences": list(found.differences),
        }
        print(json.dumps(summary))
        return
    model = predicate["model"]
    named = f"{model['name']} version {model['version']}, {predicate['time']}, request {predicate['requestId']}"
    print(f"The receipt holds: {named}")
    signer = (
        "the key that you gave" if signer_known else "a key that only the receipt names; --key PUBLIC.pem checks whose"
    )
    print(f"  signed by   {opened.key_id[:16]}…, {signer}")
    print(f"  model       {model['digest']['sha256']}")
    for name, text in _asked(predicate).items():
        print(f"  {name:<11} {text}")
    if not found.largest and found.agreement == "the same bits":
        print("  the answer  computed again, has the same bits")
    else:
        print(f"  the answer  computed again, differs by at most {found.largest:.2g} of the sample's scale")
        if not found.elementwise:
            print("              in the ledger; --relevance NAME=FILE compares the elements as well")
    for difference in found.differences:
        print(f"  elsewhere   {difference}")
