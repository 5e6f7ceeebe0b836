# SPDX-License-Identifier: Apache-2.0
"""Creates an authority, certificates that it signs, and connections that use them."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _builder(self._name, self._name, self._key.public_key(), DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def sign(self, name: str, valid_for: datetime.timedelta = DAY, *, signing: bool = False) -> Pair:
        """Signs a certificate for `name` on 127.0.0.1 and localhost; with a negative time, it has expired. signing: for
        signatures of files.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = _builder(_name(name), self._name, key.public_key(), valid_for)
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        if signing:
            builder = builder.add_extension(
                x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True
            )
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(certificate, private)


@dataclass(frozen=True)
class Files:
    """The files of a server's certificate and key, and of the authority for clients."""

    folder: Path

    @property
    def flags(self) -> list[str]:
        return ["--tls-cert", str(self.folder / "server.pem"), "--tls-key", str(self.folder / "server.key")]

    @property
    def client_flags(self) -> list[str]:
        return ["--tls-client-ca", str(self.folder / "clients.pem")]

    def write(self, pair: Pair, clients: Authority | None = None) -> None:
        """Replaces each file by renaming a new one, as renewal tools do."""
        content = {"server.pem": pair.certificate, "server.key": pair.key}
        if clients is not None:
            content["clients.pem"] = clients.certificate
        for name, data in content.items():
            (self.folder / f"{name}.new").write_bytes(data)
            os.replace(self.folder / f"{name}.new", self.folder / name)


def secure_channel(address: str, root: bytes, client: Pair | None = None) -> grpc.Channel:
    """A channel with a handshake of its own, even if others are open."""
    credentials = grpc.ssl_channel_credentials(
        root, client.key if client else None, client.certificate if client else None
    )
    return grpc.secure_channel(address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])


def shown(address: str, root: bytes) -> int:
    """The serial number of the certificate that a new connection gets."""
    context = ssl.create_default_context(cadata=root.decode())
    context.set_alpn_protocols(["h2"])
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as s:
        der = s.getpeercert(binary_form=True)
    assert der is not None
    return serial(ssl.DER_cert_to_PEM_cert(der).encode())


def serial(pem: bytes) -> int:
    return x509.load_pem_x509_certificate(pem).serial_number


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, valid_for: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + valid_for)
    )
