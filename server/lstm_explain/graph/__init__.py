"""An ONNX file becomes a checked, inlined, folded graph whose live values are known."""
