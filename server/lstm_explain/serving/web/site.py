# SPDX-License-Identifier: Apache-2.0
"""Runs the page's HTTP server in the event loop of the gRPC server, to which it connects through a Unix socket."""

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
from lstm_explain.serving.addresses import cannot_listen, resolve
from lstm_explain.serving.loop import Loop
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.scratch import ScratchFolder
from lstm_explain.serving.security.access import Access
from lstm_explain.serving.security.tls import TLSFiles
from lstm_explain.serving.settings import Settings
from lstm_explain.serving.web.bodies import Bodies
from lstm_explain.serving.web.connections import Connection, end_slow
from lstm_explain.serving.web.gateway import Gateway
from lstm_explain.serving.web.guard import Guard
from lstm_explain.serving.web.https import ReloadingContext
from lstm_explain.serving.web.listener import PageServer
from lstm_explain.serving.web.streaming import StreamGateway

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "static"
SECONDS_BETWEEN_CHECKS = 1.0  # for slow connections
SECONDS_TO_START = 10.0
SECONDS_TO_ANSWER = 2.0  # seconds for the last answers after the services have stopped


class WebServer:
    """Call `bind`, `connect` and `start`; at the end `close` and, when the services have stopped, `join`."""

    def __init__(
        self,
        settings: Settings,
        address: str,
        access: Access,
        metrics: Metrics,
        loop: Loop,
        after_heavy: Callable[[], None],
    ) -> None:
        """after_heavy: called after a request that took much memory. Raises Error if certificates cannot be used."""
        self._settings = settings
        self._address = address
        self._access = access
        self._metrics = metrics
        self._loop = loop
        self._after_heavy = after_heavy
        self._tls: ReloadingContext | None = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            self._tls = ReloadingContext(TLSFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca))
        self._folder = ScratchFolder()
        self._socket: socket.socket | None = None
        self._server: PageServer | None = None
        self._serving: Future[None] | None = None

    def bind(self) -> None:
        """Binds the address. Raises Error."""
        self._socket = bind_socket(self._address, self._settings.reuse_port)

    def connect(self, server: grpc.aio.Server) -> None:
        """Adds a Unix socket to the gRPC server, without TLS: only our own user can open its folder. Raises Error."""
        try:
            server.add_insecure_port(self._grpc_address)
        except RuntimeError as error:
            raise Error(
                f"--web: cannot create a socket in {self._folder.name}; set TMPDIR to another folder"
            ) from error

    def start(self) -> None:
        """Begins to serve. Raises Error."""
        self._serving = self._loop.submit(self._run())
        end = time.monotonic() + SECONDS_TO_START
        while self._server is None or not self._server.started:
            if self._serving.done() or time.monotonic() > end:
                raise Error(f"--web: the page did not start on {self._address}")
            time.sleep(0.005)

    def close(self) -> None:
        """Refuses new calls; running ones go on."""
        if self._server is not None:
            self._server.should_exit = True

    def join(self) -> None:
        """Waits for the last answers, and cleans up."""
        if self._serving is not None:
            wait([self._serving], SECONDS_TO_ANSWER)
        self._folder.cleanup()

    @property
    def _grpc_address(self) -> str:
        return f"unix:{self._folder.name}/services"

    async def _run(self) -> None:
        try:
            await self._serve()
        except Exception:
            log.exception("the page's server failed")

    async def _serve(self) -> None:
        assert self._socket is not None
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(self._grpc_address, options=options) as channel:
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
            config.ssl = None if self._tls is None else self._tls.first
            self._server = PageServer(config, self._settings.web_patience)
            checking = asyncio.create_task(self._end_slow_connections(self._server))
            try:
                await self._server.serve(sockets=[self._socket])
            finally:
                checking.cancel()

    async def _end_slow_connections(self, server: uvicorn.Server) -> None:
        """Periodically ends connections whose clients are too slow."""
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_CHECKS)
            # The gateway refuses slow bodies itself, with a reason; this is for all other cases.
            late = end_slow(server.server_state.connections, self._settings.web_patience + SECONDS_BETWEEN_CHECKS)
            self._metrics.web_refusals.labels("slow").inc(late)

    def _application(self, channel: grpc.aio.Channel) -> ASGIApp:
        settings = self._settings
        bodies = Bodies(max(settings.max_web_bytes, settings.max_message_bytes), settings.web_patience)
        gateway = Gateway(channel, self._access, self._metrics, settings.max_message_bytes, bodies, self._after_heavy)
        routes = [*gateway.routes(), StreamGateway(gateway).route(), Mount("/", StaticFiles(directory=PAGE, html=True))]
        names = self._settings.web_hosts.split(",")
        return Guard(Starlette(routes=routes), names, self._metrics)


def bind_socket(address: str, reuse_port: bool) -> socket.socket:
    """Returns a socket that is bound to the address and does not listen yet. Raises Error."""
    try:
        family, where = resolve(address)
        own = socket.socket(family, socket.SOCK_STREAM)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if reuse_port else socket.SO_REUSEADDR, 1)
        own.bind(where)
    except OSError as error:
        raise cannot_listen(address, error) from error
    return own
