"""The port from which Prometheus reads metrics."""

from __future__ import annotations

import logging
import socket
import threading
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from lstm_explain.errors import Error
from lstm_explain.serving.settings import split_address

log = logging.getLogger(__name__)

SECONDS_OF_SILENCE = 10.0  # after which a connection is closed
MOST_CONNECTIONS = 32  # at a time; more are closed at once


class _Handler(WSGIRequestHandler):
    timeout = SECONDS_OF_SILENCE

    def log_message(self, *_: object) -> None:
        """A scrape is no event."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    free = threading.Semaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was reset is no event either; the standard library would print a traceback."""
        log.debug("a request for metrics ended early", exc_info=True)


def expose(registry: CollectorRegistry, address: str) -> None:
    """Serves the metrics in a thread. Raises Error."""
    host, port = split_address(address)
    try:
        family, _, _, _, where = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        kind = type("_Server", (_Server,), {"address_family": family})
        server = kind(where, _Handler)
    except OSError as error:
        raise Error(f"cannot listen on {address}: {error.strerror}") from error
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
