# SPDX-License-Identifier: Apache-2.0
"""Remembers the descriptions of models, whose names the pictures of results show."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lstm_explain_client import models
from lstm_explain_client.errors import ExplainError, PermissionDenied, Unimplemented
from lstm_explain_client.models import ModelDetail
from lstm_explain_client.result import Result
from lstm_explain_client.results import Results
from lstm_explain_client.wire import Answer
from lstm_explain_proto.lstm_explain.v1 import model_pb2

Key = tuple[str, str]


@dataclass
class DescribedModels:
    """The descriptions by name and version; None where the server refuses to tell.

    wanted: whether to ask for any. A version is asked for once, and again only where the server could not answer.
    """

    SECONDS = 5.0  # the time limit of the call; a result without names is better than one that comes late

    wanted: bool
    _known: dict[Key, ModelDetail | None] = field(default_factory=dict)

    def question(self, result: Result | None) -> model_pb2.GetModelRequest | None:
        """Returns the request to make before the result is named; None if there is nothing to ask."""
        if result is None or not self.wanted or (result.model, result.version) in self._known:
            return None
        return model_pb2.GetModelRequest(name=result.model, version=result.version)

    def learn(self, question: model_pb2.GetModelRequest, response: model_pb2.GetModelResponse) -> None:
        self._known[question.name, question.version] = models.detail(response.model)

    def failed(self, question: model_pb2.GetModelRequest, error: ExplainError) -> None:
        if isinstance(error, PermissionDenied | Unimplemented):
            self._known[question.name, question.version] = None

    def named(self, result: Result) -> Result:
        """Returns the result with names, where they are known."""
        detail = self._known.get((result.model, result.version))
        return result if detail is None else result.with_names(detail)

    def all_named(self, results: Results) -> Results:
        return Results(map(self.named, results))

    def named_answer(self, answer: Answer) -> Answer:
        if answer.results is not None:
            return replace(answer, results=self.all_named(answer.results))
        return answer if answer.result is None else replace(answer, result=self.named(answer.result))
