# SPDX-License-Identifier: Apache-2.0
"""Turns an ONNX file into a checked, inlined and folded graph in the operators that the rules know."""
