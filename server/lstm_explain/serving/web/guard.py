# SPDX-License-Identifier: Apache-2.0
"""Refuses requests from pages of other sites and for foreign host names, and adds security headers to responses."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.web import connect

log = logging.getLogger(__name__)

# Everything is a file of this server: no inline script or style, and no frame around the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_READS = ("GET", "HEAD")


class Guard:
    """Wraps the whole application.

    names: host names of this server, in addition to localhost and IP addresses. A page of another site whose name is
    made to point here (DNS rebinding) still sends its own name, while an IP address cannot be rebound.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], metrics: Metrics) -> None:
        self._app = app
        self._names = frozenset({"localhost", *(name.strip().lower() for name in names if name.strip())})
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                response_headers = MutableHeaders(scope=message)
                response_headers.update(_HEADERS)
                response_headers.setdefault("cache-control", "no-cache")  # so that a new version shows at once
            await send(message)

        headers = Headers(scope=scope)
        if not self._is_ours(headers.getlist("host")):
            refusal = self._refusal("host", "this is not a name of this server; --web-hosts adds names")
            return await refusal(scope, receive, send_with_headers)
        if scope["method"] not in _READS:
            try:
                from_here = _is_from_here(headers)
            except ValueError:
                refusal = self._refusal("origin", "the Origin header is not a valid address", 400, "INVALID_ARGUMENT")
                return await refusal(scope, receive, send_with_headers)
            if not from_here:
                refusal = self._refusal("origin", "pages of other sites may not call this server")
                return await refusal(scope, receive, send_with_headers)
        await self._app(scope, receive, send_with_headers)

    def _refusal(self, reason: str, message: str, status: int = 403, code: str = "PERMISSION_DENIED") -> Response:
        self._metrics.web_refusals.labels(reason).inc()
        log.info("refused: %s", message)
        return Response(connect.error(code, message), status, media_type="application/json")

    def _is_ours(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        try:
            name = (urlsplit(f"//{hosts[0]}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _is_from_here(headers: Headers) -> bool:
    """Returns whether the request comes from our own page or from a program. Old browsers send Origin only, programs
    neither.

    Raises ValueError for an Origin that is not an address.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origins = headers.getlist("origin")
    return not origins or (len(origins) == 1 and urlsplit(origins[0]).netloc == headers["host"])
