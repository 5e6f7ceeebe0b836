"""The page's server: in the loop of gRPC's, with a door of its own to the services."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path

import grpc
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lstm_explain.errors import Error
from lstm_explain.serving.loop import Loop
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.scratch import Scratch
from lstm_explain.serving.security.access import Access
from lstm_explain.serving.security.tls import TLSFiles
from lstm_explain.serving.settings import Settings, split_address
from lstm_explain.serving.web.bodies import Bodies
from lstm_explain.serving.web.connections import Connection, end_slow
from lstm_explain.serving.web.gateway import Gateway
from lstm_explain.serving.web.guard import Guard
from lstm_explain.serving.web.https import Contexts
from lstm_explain.serving.web.listener import Server

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "static"
SECONDS_BETWEEN_LOOKS = 1.0  # for connections that wait for too long
SECONDS_TO_START = 10.0
SECONDS_TO_ANSWER = 2.0  # after the services have stopped, for what they answered last


class WebServer:
    """`bind`, `door`, `start`; at the end `close` and, when the services have stopped, `join`."""

    def __init__(
        self,
        settings: Settings,
        address: str,
        access: Access,
        metrics: Metrics,
        loop: Loop,
        much_was_used: Callable[[], None],
    ) -> None:
        """much_was_used: called after a request that took much memory.

        Raises Error where certificates cannot be used.
        """
        self._settings = settings
        self._address = address
        self._access = access
        self._metrics = metrics
        self._loop = loop
        self._much_was_used = much_was_used
        self._contexts: Contexts | None = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            self._contexts = Contexts(TLSFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca))
        self._folder = Scratch()
        self._socket: socket.socket | None = None
        self._server: Server | None = None
        self._serving: Future[None] | None = None

    def bind(self) -> None:
        """Raises Error."""
        self._socket = bound(self._address, self._settings.reuse_port)

    def door(self, server: grpc.aio.Server) -> None:
        """Lets us in to the services: by a socket in a folder that only our own user can open, so without TLS."""
        try:
            server.add_insecure_port(self._door)
        except RuntimeError as error:
            raise Error(f"--web: cannot make a socket in {self._folder.name}; TMPDIR names another folder") from error

    def start(self) -> None:
        """Raises Error."""
        self._serving = self._loop.begin(self._run())
        end = time.monotonic() + SECONDS_TO_START
        while self._server is None or not self._server.started:
            if self._serving.done() or time.monotonic() > end:
                raise Error(f"--web: the page did not start on {self._address}")
            time.sleep(0.005)

    def close(self) -> None:
        """Takes no new calls; those at work go on."""
        if self._server is not None:
            self._server.should_exit = True

    def join(self) -> None:
        if self._serving is not None:
            wait([self._serving], SECONDS_TO_ANSWER)
        self._folder.cleanup()

    @property
    def _door(self) -> str:
        return f"unix:{self._folder.name}/services"

    async def _run(self) -> None:
        try:
            await self._serve()
        except Exception:
            log.exception("the page's server ended")

    async def _serve(self) -> None:
        assert self._socket is not None
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(self._door, options=options) as channel:
            config = uvicorn.Config(
                self._application(channel),
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=Connection.most,
                timeout_graceful_shutdown=int(self._settings.grace_period + SECONDS_TO_ANSWER),
            )
            config.load()
            config.ssl = None if self._contexts is None else self._contexts.first
            self._server = Server(config, self._settings.web_patience)
            looking = asyncio.create_task(self._look(self._server))
            try:
                await self._server.serve(sockets=[self._socket])
            finally:
                looking.cancel()

    async def _look(self, server: uvicorn.Server) -> None:
        """Ends connections whose clients are too slow."""
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            # A body that is too slow is refused by who reads it, with a reason; this is for all others.
            late = end_slow(server.server_state.connections, self._settings.web_patience + SECONDS_BETWEEN_LOOKS)
            self._metrics.web_refusals.labels("slow").inc(late)

    def _application(self, channel: grpc.aio.Channel) -> ASGIApp:
        settings = self._settings
        bodies = Bodies(max(settings.max_web_bytes, settings.max_message_bytes), settings.web_patience)
        gateway = Gateway(channel, self._access, self._metrics, settings.max_message_bytes, bodies, self._much_was_used)
        routes = [*gateway.routes(), Mount("/", StaticFiles(directory=PAGE, html=True))]
        names = self._settings.web_hosts.split(",")
        return Guard(Starlette(routes=routes), names, self._metrics)


def bound(address: str, reuse_port: bool) -> socket.socket:
    """A socket that holds the address and does not listen yet. Raises Error."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        own = socket.socket(family, kind, protocol)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if reuse_port else socket.SO_REUSEADDR, 1)
        own.bind(where)
    except OSError as error:
        raise Error(f"cannot listen on {address}: {error.strerror}") from error
    return own
