# SPDX-License-Identifier: Apache-2.0
"""Listens for the page's connections: uvicorn's server with a time limit for TLS handshakes."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import uvicorn

from lstm_explain.serving.web.connections import Connection


class PageServer(uvicorn.Server):
    """handshake_timeout: in seconds. uvicorn leaves that to asyncio, which allows a minute."""

    def __init__(self, config: uvicorn.Config, handshake_timeout: float) -> None:
        super().__init__(config)
        self._handshake_timeout = handshake_timeout

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens on these sockets with our own protocol, in place of uvicorn's."""
        config = self.config
        protocol = partial(Connection, config, self.server_state, self.lifespan.state)
        timeout = self._handshake_timeout if config.ssl is not None else None
        loop = asyncio.get_running_loop()
        listeners = [
            await loop.create_server(
                protocol, sock=own, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=timeout
            )
            for own in sockets or []
        ]
        await super().startup([])
        self.servers += listeners
