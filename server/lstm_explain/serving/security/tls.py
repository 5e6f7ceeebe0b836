# SPDX-License-Identifier: Apache-2.0
"""Loads TLS certificates for gRPC, and reloads them without a restart when their files change."""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from lstm_explain.errors import Error

log = logging.getLogger(__name__)

# gRPC frees the old certificates as soon as it gets new ones, although a handshake that has just asked for them may not
# have taken a reference yet (grpc/grpc issue 36693). It asks under a lock, so no handshake can begin while the callback
# runs. The callback waits until the handshakes that have begun are past that point. They need microseconds of processor
# time; many short pauses let every runnable thread run, however busy the machine is and however the clock jumps.
PAUSES, PAUSE = 20, 0.025  # seconds each

State = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class TLSFiles:
    """PEM files.

    certificate: the server's chain, its own certificate first. client_ca: the authorities that sign clients'
    certificates; with it, every client must present a valid certificate that one of them has signed.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def state(self) -> State:
        """Returns a value that changes when one of the files does. Raises OSError."""
        files = (self.certificate, self.key, *([self.client_ca] if self.client_ca else []))
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in (path.stat() for path in files))

    def read(self) -> tuple[bytes, bytes, bytes | None]:
        """Returns the validated key, certificates and authorities. Raises OSError (which includes ssl.SSLError),
        ValueError.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key, password=_refuse_encrypted)
        authorities = None
        if self.client_ca is not None:
            authorities = self.client_ca.read_bytes()
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        return self.key.read_bytes(), self.certificate.read_bytes(), authorities


class Certificates:
    """The current certificates, for new connections; open connections keep theirs."""

    def __init__(self, files: TLSFiles) -> None:
        """Raises Error if the files cannot be used."""
        self._files = files
        try:
            self._state = files.state()
            self._first = grpc.ssl_server_certificate_configuration(*_configuration(files))
        except (OSError, ValueError) as error:
            raise Error(f"cannot use --tls-cert, --tls-key or --tls-client-ca: {_describe(error)}") from error

    def credentials(self) -> grpc.ServerCredentials:
        """Returns credentials that follow changes of the files."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._reload,  # type: ignore[arg-type]  # None is as documented
            require_client_authentication=self._files.client_ca is not None,
        )

    def _reload(self) -> grpc.ServerCertificateConfiguration | None:
        """Returns the new certificates, or None if nothing has changed. gRPC calls it at every handshake, one at a
        time.

        Files that do not belong together, because they are being written, change nothing.
        """
        try:
            state = self._files.state()
            if state == self._state:
                return None
            self._state = state
            found = _configuration(self._files)
            if self._files.state() != state:
                return None  # the files are being written: the next handshake checks again
        except (OSError, ValueError) as error:
            log.error("the changed certificates cannot be used, so the old ones stay: %s", _describe(error))
            return None
        for _ in range(PAUSES):
            time.sleep(PAUSE)
        log.info("certificates reloaded")
        return grpc.ssl_server_certificate_configuration(*found)


def _configuration(files: TLSFiles) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
    key, certificate, authorities = files.read()
    return [(key, certificate)], authorities


def _refuse_encrypted() -> bytes:
    raise ValueError("the key is encrypted; the server cannot ask for a password")


def _describe(error: Exception) -> str:
    """Returns the error without the path of the file."""
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or 'not PEM'} (do certificate and key belong together?)"
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
