"""What the entries of a ledger are called: that depends on the method."""

from __future__ import annotations

_BASELINE, _TOGETHER = "score of the baseline", "what steps do together"
# By the method's name: what `absorbed` and `residual` hold. Without one: LRP.
_HELD = {
    "lrp": ("kept by biases and stabilisers", "rounding"),
    "gradient": ("kept by nothing", "not explained: derivatives are no shares"),
    "gradient_times_input": ("kept by nothing", "what is not linear"),
    "smooth_grad": ("kept by nothing", "not explained: derivatives are no shares"),
    "integrated_gradients": (_BASELINE, "error of the integral (convergence delta)"),
    "occlusion": (_BASELINE, _TOGETHER),
    "shapley_sampling": (_BASELINE, "rounding"),
    "contextual_decomposition": ("constant of the readout", _TOGETHER),
}


def entries(method: str = "lrp") -> tuple[tuple[str, str], ...]:
    """The ledger's entries in order, with what they hold under the method of that name."""
    absorbed, residual = _HELD.get(method, ("absorbed", "residual"))
    return (
        ("inputs", "the inputs"),
        ("initial_states", "constant initial states"),
        ("absorbed", absorbed),
        ("residual", residual),
    )
