# SPDX-License-Identifier: Apache-2.0
"""Arrays that write down what is done to them as ONNX nodes."""
