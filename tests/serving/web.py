# SPDX-License-Identifier: Apache-2.0
"""Sends plain HTTP to the page's port, with no code of the page or the gateway."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from google.protobuf import json_format

from lstm_explain_proto.lstm_explain.v1 import explanation_pb2

EXPLAIN = "/lstm_explain.v1.ExplanationService/Explain"
LIST = "/lstm_explain.v1.ModelService/ListModels"
GET = "/lstm_explain.v1.ModelService/GetModel"
MOST = 400_000  # bytes of a body
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def field(self) -> str:
        """The invalid field that an error names."""
        details = self.json().get("details", [])
        return next(
            (d["debug"]["fieldViolations"][0].get("field", "") for d in details if "BadRequest" in d["type"]), ""
        )


def ask(
    page: str,
    path: str,
    body: bytes | None = b"{}",
    headers: dict[str, str] | None = None,
    *,
    method: str = "POST",
    host: str | None = None,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Sends one request over a new connection. host: the Host header, if it differs from the address."""
    where = urlsplit(page)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    options = {"context": context} if context is not None else {}
    connection = kind(where.hostname or "", where.port, timeout=30, **options)
    try:
        connection.putrequest(method, path, skip_host=host is not None)
        if host:
            connection.putheader("Host", host)
        for name, value in {**JSON, "content-length": str(len(body or b"")), **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        reported = {name.lower(): value for name, value in response.getheaders()}
        try:
            text = response.read()
        except ConnectionResetError:  # what is no HTTP is refused, and the connection closed, before all of it is read
            text = b""
        return Answer(response.status, reported, text)
    finally:
        connection.close()


def explanation(message: explanation_pb2.ExplainRequest) -> bytes:
    """The body of a call to Explain."""
    return json_format.MessageToJson(message).encode()


def refused(answer: Answer) -> str:
    """The code of an error."""
    assert answer.headers["content-type"] == "application/json"
    return str(answer.json()["code"])
