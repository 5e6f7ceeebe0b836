"""Everything that the engine raises on purpose.

Error
├── ModelError            the file is unreadable, invalid, or reaches outside its folder
├── UnsupportedOperator   a node on the explained path has no rule
├── InputError            an array does not fit the model's input
├── TargetError           the target does not fit the model's output
└── MethodError           a method or one of its parameters is unknown or out of range
"""


class Error(Exception):
    """Base class. `field` is the path of the argument that was wrong, for example `inputs.x`, or empty."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class ModelError(Error):
    """The model cannot be read, is not valid ONNX, or refers to files outside its folder."""


class UnsupportedOperator(Error):  # noqa: N818 - the public name
    """The method cannot pass through a node. `node` is its name and `op` its operator."""

    def __init__(self, node: str, op: str, reason: str) -> None:
        super().__init__(f"node {node!r} ({op}): {reason}", field="method")
        self.node = node
        self.op = op
        self.reason = reason


class InputError(Error):
    """An input is missing, unknown, or of the wrong type, rank, extent or content."""


class TargetError(Error):
    """The target names an output, a position or weights that the model does not have."""


class MethodError(Error):
    """A method's name or parameter is unknown or out of range."""
