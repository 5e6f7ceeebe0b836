# SPDX-License-Identifier: Apache-2.0
"""Names the entries of a ledger, which depend on the method."""

from __future__ import annotations

from lstm_explain_client.method_types import METHODS


def entries(method: str = "lrp") -> tuple[tuple[str, str], ...]:
    """Return the entries of the ledger in order, with their labels for the named method."""
    known = METHODS.get(method)
    return (
        ("inputs", "the inputs"),
        ("initial_states", "constant initial states"),
        ("absorbed", known.absorbed if known else "absorbed"),
        ("residual", known.residual if known else "residual"),
    )
