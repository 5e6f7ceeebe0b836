# SPDX-License-Identifier: Apache-2.0
"""The backward pass through all iterations of a loop, in one call of ONNX Runtime."""
