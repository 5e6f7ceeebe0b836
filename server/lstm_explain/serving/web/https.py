# SPDX-License-Identifier: Apache-2.0
"""TLS for the page, with the same files as gRPC, which are reloaded when they change."""

from __future__ import annotations

import logging
import ssl

from lstm_explain.errors import Error
from lstm_explain.serving.security.tls import TLSFiles

log = logging.getLogger(__name__)


class ReloadingContext:
    """An SSL context, `first`, that gives new connections the current certificates."""

    def __init__(self, files: TLSFiles) -> None:
        """Raises Error if the files cannot be used."""
        self._files = files
        try:
            self._state = files.state()
            self._newest = self.first = _context(files)
        except (OSError, ValueError) as error:
            raise Error("cannot use --tls-cert, --tls-key or --tls-client-ca") from error
        self.first.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        """Is called at every handshake. Files that do not belong together (they are being written) have no effect."""
        try:
            state = self._files.state()
            if state != self._state:
                self._state = state
                self._newest = _context(self._files)
                log.info("certificates reloaded")
        except (OSError, ValueError) as error:
            log.error("the changed certificates cannot be used, so the old ones stay: %s", type(error).__name__)
        connection.context = self._newest


def _context(files: TLSFiles) -> ssl.SSLContext:
    files.read()  # refuses an encrypted key, for which OpenSSL would ask for a password at the terminal
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.client_ca)
    return context
