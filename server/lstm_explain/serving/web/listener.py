"""Where the page's connections come from: uvicorn's server, but that a TLS handshake has to end in time."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import uvicorn

from lstm_explain.serving.web.connections import Connection


class Server(uvicorn.Server):
    """patience: seconds that a handshake may take. uvicorn leaves that to asyncio, which allows a minute."""

    def __init__(self, config: uvicorn.Config, deadline: float) -> None:
        super().__init__(config)
        self._patience = deadline

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens on these sockets itself, instead of uvicorn."""
        config = self.config
        protocol = partial(Connection, config, self.server_state, self.lifespan.state)
        deadline = self._patience if config.ssl is not None else None
        loop = asyncio.get_running_loop()
        listeners = [
            await loop.create_server(
                protocol, sock=own, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=deadline
            )
            for own in sockets or []
        ]
        await super().startup([])
        self.servers += listeners
