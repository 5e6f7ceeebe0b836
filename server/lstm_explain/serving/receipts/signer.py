# SPDX-License-Identifier: Apache-2.0
"""Signs a receipt for each answer whose request asks for one."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from lstm_explain.kernels.compilation import was_without
from lstm_explain.serving.execution.batcher import Job
from lstm_explain.serving.receipts.envelope import read_signing_key
from lstm_explain.serving.receipts.statement import Answered, statement


class ReceiptSigner:
    """Signs with the private key of a PEM file."""

    def __init__(self, path: Path) -> None:
        """Raises Error if the key cannot be used."""
        self._key = read_signing_key(path)

    def __call__(self, job: Job) -> str:
        """Returns the receipt of an answered job."""
        request = job.request
        explanations = job.answer if request.targets else [job.answer]
        answered = Answered(
            job.served,
            request.inputs,
            explanations,
            bool(request.targets),
            request.capture,
            request.condition,
            was_without(job.began),
            request.groups,
            request.through,
        )
        time = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content = statement(answered, job.request_id, time, self._key.public)
        return self._key.sign(json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode())
