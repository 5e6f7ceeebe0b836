# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that compare with ONNX Runtime's own forward pass in the same run; `make bench` runs them."""
