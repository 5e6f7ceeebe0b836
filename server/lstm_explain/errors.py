"""Everything that the engine raises on purpose.

Error
├── ModelError            the file is unreadable, invalid, or reaches outside its folder
├── UnsupportedOperator   a node on the explained path has no rule
├── InputError            an array does not fit the model's input
├── TargetError           the target does not fit the model's output
└── MethodError           a method or one of its parameters is unknown or out of range
"""

from __future__ import annotations

LONGEST = 2000  # characters of a message: it quotes names from files and requests, and travels in a gRPC trailer


class Error(Exception):
    """Base class. `field` is the path of the argument that was wrong, for example `inputs.x`, or empty."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message if len(message) <= LONGEST else f"{message[:LONGEST]}…")
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


def drop_tracebacks(error: BaseException) -> None:
    """Takes the tracebacks off an error and off all errors behind it, once nobody will look at them any more.

    A traceback keeps the arrays of all frames that it passed through for as long as anything refers to the error, and
    a frame that refers to the error in turn makes a cycle, which only a full garbage collection frees. Clearing the
    frames is not enough: they keep what their closures hold.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            waiting += [one.__cause__, one.__context__]
