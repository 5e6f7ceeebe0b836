# SPDX-License-Identifier: Apache-2.0
"""What the audit log says of one request, collected while the request is handled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstm_explain.explanation import Explanation
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.target import Target

PEER, SUBJECT = "x-lstm-explain-peer", "x-lstm-explain-subject"  # metadata by which the page names its own caller


@dataclass(frozen=True)
class Origin:
    """Where a call comes from.

    caller: the name of the token, or empty. subject: of the client's certificate, or empty. peer: the address, as gRPC
    writes it, or `page:` and the address of a browser. face: `grpc` or `page`.
    """

    request_id: str = ""
    caller: str = ""
    subject: str = ""
    peer: str = ""
    face: str = "grpc"


class RequestNote:
    """One request or one change of the repository; whoever learns something about it notes it here.

    model, version: as the caller named them, until it is known which version answers. item: the id of a request in a
    stream. targets: those that the answer explains. error: the message of the error that the caller received.
    left_out: the samples that a condition left unexplained, for all targets.
    """

    __slots__ = ("change", "digest", "error", "item", "left_out", "model", "request", "targets", "version")

    def __init__(self, model: str = "", version: str = "", item: str = "") -> None:
        self.model, self.version, self.item = model, version, item
        self.digest = self.error = self.change = ""
        self.request: ModelRequest | None = None
        self.targets: Sequence[Target] = ()
        self.left_out = 0

    def name(self, model: str, version: str) -> None:
        """Notes the model and version that the caller named."""
        self.model, self.version = model, version

    def answered(self, explanations: Sequence[Explanation]) -> None:
        """Notes what the answer explains, and how much of it a condition left out."""
        self.targets = [explanation.target for explanation in explanations]
        self.left_out = sum(explanation.left_out for explanation in explanations)

    def answered_by(self, served: ServedModel) -> None:
        """Notes which version answers, or was added."""
        self.model, self.version, self.digest = served.name, str(served.version), served.card.digest
