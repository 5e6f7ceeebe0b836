# SPDX-License-Identifier: Apache-2.0
"""Declares the settings of the server that concern provenance: whose models it serves, and who signs receipts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings


class ProvenanceSettings(BaseSettings):
    """The part of Settings that docs/provenance.md describes."""

    model_signatures: Literal["off", "warn", "require"] = Field(
        default="off",
        description="what happens to a model that no signer of --model-signers signed, on import and on load: it is "
        "served (off), served with a line in the log (warn), or refused (require); needs the extra `provenance`",
    )
    model_signers: Path | None = Field(
        default=None,
        description="PEM file, or folder of .pem files, with public keys, and authorities of certificates, whose "
        "signatures of models count; read whenever a model is loaded",
    )

    receipt_key: Path | None = Field(
        default=None,
        description="PEM file with the private key (Ed25519, or ECDSA on P-256 or P-384, not encrypted) that signs "
        "receipts of explanations; without it, requests for receipts are refused; needs the extra `provenance`",
    )

    @model_validator(mode="after")
    def _names_signers(self) -> Self:
        if self.model_signatures != "off" and self.model_signers is None:
            raise ValueError(f"--model-signatures {self.model_signatures} needs --model-signers")
        if self.model_signers is not None and not self.model_signers.exists():
            raise ValueError(f"--model-signers: {self.model_signers} does not exist")
        if self.receipt_key is not None and not self.receipt_key.is_file():
            raise ValueError(f"--receipt-key: {self.receipt_key} is not a file")
        return self
