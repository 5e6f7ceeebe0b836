# SPDX-License-Identifier: Apache-2.0
"""Recurrent nodes as formulas over all steps: the inner values from the hidden states, and the backward pass as a loop.

The kernels work step by step. Here, one formula covers all steps: given the hidden states, the pre-activations take one
product, and what one unit of relevance (or of the gradient) at a state becomes at each sum is a coefficient per step,
computed by the rules of `operators/formulas.py`. The backward pass is linear in what it carries, so its loop only
multiplies by these coefficients and by the recurrent weights.

On traced arrays, the loop becomes a Scan of a compiled file (`compiled/recurrent_nodes.py`). On NumPy arrays, the same
formulas answer while kernels are being compiled (`without_kernels.py`).
"""
