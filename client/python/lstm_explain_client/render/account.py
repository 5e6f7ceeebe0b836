"""What the entries of a ledger are called: that depends on the method."""

from __future__ import annotations

from lstm_explain_client.method_types import METHODS


def entries(method: str = "lrp") -> tuple[tuple[str, str], ...]:
    """The ledger's entries in order, with what they hold under the method of that name."""
    known = METHODS.get(method)
    return (
        ("inputs", "the inputs"),
        ("initial_states", "constant initial states"),
        ("absorbed", known.absorbed if known else "absorbed"),
        ("residual", known.residual if known else "residual"),
    )
