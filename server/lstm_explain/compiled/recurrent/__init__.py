# SPDX-License-Identifier: Apache-2.0
"""Recurrent nodes in a compiled file: their inner values from the hidden states, and the way back as a Scan.

The kernels of the engine work step by step. Here, one formula covers all steps: given the hidden states, which ONNX's
operator returns, the pre-activations take one product, and what one unit of relevance (or of the gradient) at a state
becomes at each sum is a coefficient per step, computed by the rules of `operators/formulas.py`. The backward pass is
linear in what it carries, so its Scan only multiplies by these coefficients and by the recurrent weights.
"""
