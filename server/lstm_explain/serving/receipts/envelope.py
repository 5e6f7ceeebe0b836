# SPDX-License-Identifier: Apache-2.0
"""Signs statements, and opens signed ones: DSSE envelopes (https://github.com/secure-systems-lab/dsse) as JSON."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstm_explain.errors import Error

PAYLOAD_TYPE = "application/vnd.in-toto+json"
EXTRA = "receipts need the extra `provenance`: pip install 'lstm-explain[provenance]'"
KINDS = "expected an Ed25519 key, or an ECDSA key on P-256 or P-384, in PEM format"


class Altered(Error):  # noqa: N818 - said of a receipt
    """A receipt is not what was signed, or not signed by the expected key."""


@dataclass(frozen=True)
class SigningKey:
    """A private key. signer: of securesystemslib. public: the public key in PEM format."""

    signer: Any
    public: str

    def sign(self, payload: bytes) -> str:
        """Returns the envelope in one line."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(self.signer)
        return json.dumps(envelope.to_dict(), separators=(",", ":"))


@dataclass(frozen=True)
class Opened:
    """A statement, and the id of the key that signed it."""

    statement: dict[str, Any]
    key_id: str


def read_signing_key(path: Path) -> SigningKey:
    """Returns the private key of a PEM file. Raises Error, which never repeats the content."""
    try:
        from cryptography.hazmat.primitives import serialization
        from securesystemslib.signer import CryptoSigner
    except ImportError as error:
        raise Error(f"--receipt-key: {EXTRA} ({error})") from error
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise Error(f"--receipt-key: {path.name} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        encrypted = "it is encrypted" if isinstance(error, TypeError) else "it holds no private key"
        raise Error(f"--receipt-key: {path.name} cannot be used: {encrypted}; {KINDS}") from None
    _check_kind(private.public_key(), f"--receipt-key: {path.name}")
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return SigningKey(CryptoSigner(private), public.decode())


def open_envelope(text: str, pem: bytes | None, name: str = "the key of the receipt itself") -> Opened:
    """Returns what was signed with the key. pem: the public key; None for the one that the statement names, which
    proves that nothing was altered, but not who signed. Raises Altered, Error for an unusable key.
    """
    try:
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import Error as LibraryError
    except ImportError as error:
        raise Error(f"{EXTRA} ({error})") from error
    try:
        given = json.loads(text)
        envelope = Envelope.from_dict(copy.deepcopy(given))
        # Base64 has several notations for the same bytes; only one of them is what the server wrote.
        if envelope.to_dict() != given:
            raise ValueError("it has parts that a signed envelope does not have")
        statement = json.loads(envelope.payload)
        pem = statement["predicate"]["signer"]["publicKey"].encode() if pem is None else pem
    except (LibraryError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Altered(f"this is no receipt, or an altered one: {_reason(error)}") from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Altered(f"the payload is {envelope.payload_type!r}, expected {PAYLOAD_TYPE}")
    key = _public_key(pem, name)
    try:
        envelope.verify([key], 1)
    except (LibraryError, ValueError):
        signers = ", ".join(one[:16] for one in envelope.signatures) or "nobody"
        raise Altered(f"the signature is not valid for {name} ({key.keyid[:16]}…); it names {signers}…") from None
    return Opened(statement, str(key.keyid))


def _public_key(pem: bytes, name: str) -> Any:
    """Raises Error."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from securesystemslib.signer import SSlibKey

    try:
        public = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise Error(f"{name} holds no public key; {KINDS}") from None
    _check_kind(public, name)
    return SSlibKey.from_crypto(public)


def _check_kind(public: Any, name: str) -> None:
    """Raises Error."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    elliptic = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in ("secp256r1", "secp384r1")
    if not elliptic and not isinstance(public, ed25519.Ed25519PublicKey):
        raise Error(f"{name} is another kind of key; {KINDS}")


def _reason(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
