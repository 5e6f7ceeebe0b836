# SPDX-License-Identifier: Apache-2.0
"""Keys in files, and folders that are signed as `model_signing sign` signs them."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from model_signing import hashing, signing

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def write_key(folder: Path, name: str, key: Key | None = None) -> Path:
    """Writes a private key (by default a new one on P-256) and NAME.pem, its public key; returns the former's path."""
    key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
    secret = folder / f"{name}.key"
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / f"{name}.pem").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return secret


def sign_folder(folder: Path, key: Path) -> Path:
    """Writes the signature of a version's folder, and returns its path."""
    return _write(folder, signing.Config().use_elliptic_key_signer(private_key=key))


def sign_folder_with_certificate(folder: Path, key: Path, certificate: Path, chain: list[Path]) -> Path:
    config = signing.Config().use_certificate_signer(
        private_key=key, signing_certificate=certificate, certificate_chain=chain
    )
    return _write(folder, config)


def _write(folder: Path, config: signing.Config) -> Path:
    signature = folder / "model.sig"
    signature.unlink(missing_ok=True)
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[signature]))
    config.sign(folder, signature)
    return signature


def flip(path: Path, at: int = -1) -> None:
    """Changes one bit of the file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
