# SPDX-License-Identifier: Apache-2.0
"""Serves the metrics to Prometheus over HTTP."""

from __future__ import annotations

import logging
import threading
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from lstm_explain.serving.addresses import cannot_listen, resolve

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0  # seconds after which a connection is closed
MAX_CONNECTIONS = 32  # connections at a time; further ones are closed at once


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, *_: object) -> None:
        """Logs nothing: a scrape is not an event."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    free = threading.Semaphore(MAX_CONNECTIONS)

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
        """A reset connection is not an event either; the standard library would print a traceback."""
        log.debug("a request for metrics ended early", exc_info=True)


def serve_metrics(registry: CollectorRegistry, address: str) -> None:
    """Serves the metrics in a background thread. Raises Error."""
    try:
        family, where = resolve(address)
        kind = type("_Server", (_Server,), {"address_family": family})
        server = kind(where, _Handler)
    except OSError as error:
        raise cannot_listen(address, error) from error
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
