"""Who may ask: no page of another site, nobody by a name that is not ours. And what browsers are told of the page."""

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

# Everything comes from here and is a file: no script or style in the page itself, no frame around it.
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
    """Around the whole application.

    names: by which we may be called, beside localhost and IP addresses. A page elsewhere whose name is made to point
    here (DNS rebinding) still asks by its own name; an address can be made to point nowhere else.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], metrics: Metrics) -> None:
        self._app = app
        self._names = frozenset({"localhost", *(name.strip().lower() for name in names if name.strip())})
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(scope=message)
                told.update(_HEADERS)
                told.setdefault("cache-control", "no-cache")  # a new version of the page is seen at once
            await send(message)

        headers = Headers(scope=scope)
        if not self._is_ours(headers.getlist("host")):
            refusal = self._refusal("host", "this server does not go by that name; --web-hosts adds names")
            return await refusal(scope, receive, answered)
        if scope["method"] not in _READS:
            try:
                from_here = _is_from_here(headers)
            except ValueError:
                refusal = self._refusal("origin", "the Origin header is no address of a site", 400, "INVALID_ARGUMENT")
                return await refusal(scope, receive, answered)
            if not from_here:
                refusal = self._refusal("origin", "pages of other sites may not call this server")
                return await refusal(scope, receive, answered)
        await self._app(scope, receive, answered)

    def _refusal(self, why: str, told: str, status: int = 403, code: str = "PERMISSION_DENIED") -> Response:
        self._metrics.web_refusals.labels(why).inc()
        log.info("refused: %s", told)
        return Response(connect.error(code, told), status, media_type="application/json")

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
    """Whether our own page calls, or what is no browser. Old browsers say Origin only, programs neither.

    Raises ValueError for an Origin that is no address.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origins = headers.getlist("origin")
    return not origins or (len(origins) == 1 and urlsplit(origins[0]).netloc == headers["host"])
