# SPDX-License-Identifier: Apache-2.0
"""Checks OpenSSF model signatures (https://github.com/ossf/model-signing-spec) before a model's files are read.

The signature of a version is the file model.sig in its folder, as `model_signing sign` writes it. It must name every
other file of the folder, and the version must not take files from the folder above, which the signature cannot cover.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lstm_explain.errors import Error
from lstm_explain.repository.background_file import BACKGROUND
from lstm_explain.repository.model_digest import SIGNATURE
from lstm_explain.repository.model_folder import Source
from lstm_explain.repository.model_yaml import read_config
from lstm_explain.serving.errors import Untrusted

log = logging.getLogger(__name__)

OFF, WARN, REQUIRE = "off", "warn", "require"
VALID, MISSING, INVALID = "valid", "missing", "invalid"
EXTRA = "signatures of models need the extra `provenance`: pip install 'lstm-explain[provenance]'"
_PUBLIC_KEY, _CERTIFICATE = "-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----"
_CHANGED = re.compile(r"Hash mismatch for \\?'([^'\\]*)\\?'")
_MAX_SIGNATURE_BYTES = 16 << 20

Verify = Callable[[Path, Path], None]  # the folder and the signature; raises where they do not fit


class ModelSignatures:
    """policy: off, warn or require. signers: a PEM file, or a folder of them. counter: counts checks by result."""

    def __init__(self, policy: str, signers: Path | None, counter: Any) -> None:
        """Raises Error where the policy needs something that is missing."""
        self._policy = policy
        self._signers = signers
        self._counter = counter
        self._reported: dict[tuple[Path, str], str] = {}
        self._lock = threading.Lock()
        if policy != OFF and signers is not None:
            _import()
            _verifiers(signers)

    def check(self, source: Source) -> None:
        """Raises Untrusted if the policy refuses the version, Error if the signers cannot be read, OSError."""
        if self._policy == OFF or self._signers is None:
            return
        verifiers = _verifiers(self._signers)
        try:
            _verify(source, verifiers)
        except Untrusted as error:
            missing = not (source.model_file.parent / SIGNATURE).is_file()
            self._report(source, MISSING if missing else INVALID, str(error))
            if self._policy == REQUIRE:
                raise
        else:
            self._report(source, VALID, "")

    def _report(self, source: Source, result: str, problem: str) -> None:
        """Counts and logs a result once: every load checks twice."""
        key, value = (source.model_file, source.name), f"{result} {problem}"
        with self._lock:
            known = self._reported.get(key)
            self._reported[key] = value
        if known == value:
            return
        self._counter.labels(result).inc()
        if result == VALID:
            log.info("model %s version %d: the signature is valid", source.name, source.version)
        elif self._policy == WARN:
            log.warning("model %s version %d is served although %s", source.name, source.version, problem)


def _verify(source: Source, verifiers: dict[str, Verify]) -> None:
    """Raises Untrusted, OSError."""
    folder, signature = source.model_file.parent, source.model_file.parent / SIGNATURE
    if source.bare:
        raise Untrusted(f"{source.model_file.name} has no folder of its own, in which {SIGNATURE} could sign it")
    if not signature.is_file():
        raise Untrusted(f"it is not signed: there is no {SIGNATURE} next to {source.model_file.name}")
    if signature.stat().st_size > _MAX_SIGNATURE_BYTES:
        raise Untrusted(f"{SIGNATURE} has more than {_MAX_SIGNATURE_BYTES} bytes")
    content = signature.read_bytes()
    signed = _signed_by_any(folder, content, verifiers)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if unsigned := sorted(files - signed - {SIGNATURE}):
        raise Untrusted(f"{SIGNATURE} does not cover {', '.join(unsigned[:5])}")
    if shared := _taken_from_above(source):
        raise Untrusted(f"{SIGNATURE} does not cover {shared}, which lies above the version's folder; move it there")


def _signed_by_any(folder: Path, content: bytes, verifiers: dict[str, Verify]) -> set[str]:
    """Returns the names of the files that the signature covers. Raises Untrusted unless they are as they were signed
    by one of the signers.
    """
    with tempfile.NamedTemporaryFile(suffix=".sig") as copy:  # the file itself may change between check and use
        copy.write(content)
        copy.flush()
        problems = {}
        for signer, verify in verifiers.items():
            try:
                verify(folder, Path(copy.name))
            except Exception as error:  # of many kinds: the library parses JSON, keys, certificates and folders
                problems[signer] = _in_short(str(error) or type(error).__name__)
            else:
                return _names_in(content)
    each = "; ".join(f"{signer}: {problem}" for signer, problem in problems.items())
    raise Untrusted(f"{SIGNATURE} is not a valid signature of its files by a trusted signer ({each})")


def _in_short(problem: str) -> str:
    """Returns the library's message in one line, without the digests."""
    changed = _CHANGED.findall(problem)
    return f"changed since it was signed: {', '.join(changed)}" if changed else " ".join(problem.split())[:300]


def _names_in(content: bytes) -> set[str]:
    """Returns the names of the files that a valid signature lists."""
    payload = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
    return {resource["name"] for resource in payload["predicate"]["resources"]}


def _taken_from_above(source: Source) -> str:
    """Returns the name of a file of the model's folder that the version would use, or nothing. Raises Error."""
    own, above = source.model_file.parent, source.folder
    if source.config_file.parent != own and source.config_file.is_file():
        return source.config_file.name
    config = read_config(source.config_file).config  # absent, or covered by the signature
    names = [BACKGROUND] if config.tokenizer is None else [BACKGROUND, config.tokenizer.file]
    return next((name for name in names if not (own / name).is_file() and (above / name).is_file()), "")


def _verifiers(signers: Path) -> dict[str, Verify]:
    """Returns a verifier by name for each key, and for each file with authorities. Raises Error, OSError."""
    files = sorted(signers.glob("*.pem")) if signers.is_dir() else [signers]
    found: dict[str, Verify] = {}
    for path in files:
        try:
            text = path.read_text(encoding="ascii")
            if _CERTIFICATE in text:
                found[path.name] = _configured("use_certificate_verifier", certificate_chain=[path])
            elif _PUBLIC_KEY in text:
                found[path.name] = _configured("use_elliptic_key_verifier", public_key=path)
            else:
                raise ValueError("expected a public key or certificates in PEM format")
        except ValueError as error:
            raise Error(f"--model-signers: {path.name}: {error}") from error
    if not found:
        raise Error(f"--model-signers: the folder {signers} has no .pem file")
    return found


def _configured(method: str, **arguments: Any) -> Verify:
    config = getattr(_import().Config(), method)(**arguments)

    def verify(folder: Path, signature: Path) -> None:
        # Which files may remain unsigned is decided here, because model.sig itself is one of them.
        config.set_ignore_unsigned_files(True).verify(folder, signature)

    return verify


def _import() -> Any:
    """Raises Error where the extra is not installed."""
    try:
        from model_signing import verifying
    except ImportError as error:
        raise Error(f"{EXTRA} ({error})") from error
    return verifying
