"""Measurements, side by side with ONNX Runtime's own forward pass in the same run: `make bench`."""
