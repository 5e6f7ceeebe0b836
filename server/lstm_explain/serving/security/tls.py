"""Certificates: read, held against each other, and read anew when their files change, without a restart."""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from lstm_explain.errors import Error

log = logging.getLogger(__name__)

# gRPC frees what the old certificates are held in as soon as it gets new ones, though a handshake that has just asked
# us may not have taken hold of it yet (grpc/grpc issue 36693). It asks under a lock: while we keep it waiting no
# handshake can begin, so we do until those that have begun are past that point. They need microseconds of a processor;
# so many pauses give every thread that can run its turn, however busy the machine is and however the clock jumps.
PAUSES, PAUSE = 20, 0.025  # seconds each

State = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class TLSFiles:
    """PEM files. certificate: the server's chain, its own first. client_ca: who may have signed clients' certificates.

    With client_ca a client has to show a certificate that one of these signed and that has not expired.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def state(self) -> State:
        """Changes when a file does. Raises OSError."""
        files = (self.certificate, self.key, *([self.client_ca] if self.client_ca else []))
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in (path.stat() for path in files))

    def read(self) -> tuple[bytes, bytes, bytes | None]:
        """Key, certificates, authorities: checked. Raises OSError (which ssl.SSLError is), ValueError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key, password=_refuse_encrypted)
        authorities = None
        if self.client_ca is not None:
            authorities = self.client_ca.read_bytes()
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        return self.key.read_bytes(), self.certificate.read_bytes(), authorities


class Certificates:
    """What the files hold, as new connections get it; connections that are open keep what they began with."""

    def __init__(self, files: TLSFiles) -> None:
        """Raises Error where the files cannot be used."""
        self._files = files
        try:
            self._state = files.state()
            self._first = grpc.ssl_server_certificate_configuration(*_configuration(files))
        except (OSError, ValueError) as error:
            raise Error(f"--tls-cert, --tls-key or --tls-client-ca cannot be used: {_told(error)}") from error

    def credentials(self) -> grpc.ServerCredentials:
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._renewed,  # type: ignore[arg-type]  # None is as documented
            require_client_authentication=self._files.client_ca is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC at every handshake, one at a time; None: nothing new.

        Files that do not fit together, being half written, change nothing.
        """
        try:
            state = self._files.state()
            if state == self._state:
                return None
            self._state = state
            found = _configuration(self._files)
            if self._files.state() != state:
                return None  # being written: the next handshake looks again
        except (OSError, ValueError) as error:
            log.error("certificates changed and cannot be used, the old ones stay: %s", _told(error))
            return None
        for _ in range(PAUSES):
            time.sleep(PAUSE)
        log.info("certificates read anew")
        return grpc.ssl_server_certificate_configuration(*found)


def _configuration(files: TLSFiles) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
    key, certificate, authorities = files.read()
    return [(key, certificate)], authorities


def _refuse_encrypted() -> bytes:
    raise ValueError("the key is encrypted; the server cannot ask for a password")


def _told(error: Exception) -> str:
    """Without the path of the file."""
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or 'not PEM'} (do certificate and key belong together?)"
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
