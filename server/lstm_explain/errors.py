# SPDX-License-Identifier: Apache-2.0
"""The exceptions that the engine raises deliberately.

Error
├── ModelError            the file is unreadable, invalid, or refers to files outside its folder
├── UnsupportedOperator   a node on the explained path has no rule
├── InputError            an array does not fit the model's input
├── TargetError           the target does not fit the model's output
└── MethodError           a method or one of its parameters is unknown or out of range
    └── CostError             the method would run the model on more samples than are allowed

PrecisionWarning is the one warning that it issues by Python's `warnings`.
"""

from __future__ import annotations

MAX_MESSAGE = 2000  # characters; messages quote names of any length and are sent in a gRPC trailer


class Error(Exception):
    """Base class. `field` is the path of the argument that is wrong, for example `inputs.x`, or empty."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…")
        self.field = field


class ModelError(Error):
    """The model cannot be read, is not valid ONNX, or refers to files outside its folder."""


class UnsupportedOperator(Error):  # noqa: N818 - the public name
    """The method has no rule for a node. `node` is its name and `op` its operator."""

    def __init__(self, node: str, op: str, reason: str) -> None:
        super().__init__(f"node {node!r} ({op}): {reason}", field="method")
        self.node = node
        self.op = op
        self.reason = reason


class InputError(Error):
    """An input is missing, unknown, or of the wrong type, rank, extent or content."""


class PrecisionWarning(UserWarning):
    """An input was rounded to the model's type, and some of its numbers changed by 0.5 or more.

    `warnings.simplefilter("error", PrecisionWarning)` refuses such inputs. The text names the input and the types only,
    because Python remembers every text that it has shown.
    """


class TargetError(Error):
    """The target names an output, a position or weights that the model does not have."""


class MethodError(Error):
    """A method's name or parameter is unknown or out of range."""


class CostError(MethodError):
    """The method would run the model on `samples` samples, which is more than are allowed."""

    def __init__(self, message: str, samples: int) -> None:
        super().__init__(message, field="method")
        self.samples = samples


def drop_tracebacks(error: BaseException) -> None:
    """Removes the tracebacks of an error and of the errors that caused it, once nothing reads them any more.

    A traceback keeps the arrays of all its frames alive for as long as anything refers to the error. A frame that
    refers to the error in turn makes a cycle, which only a full garbage collection frees. Clearing the frames is not
    enough: they keep what their closures hold.
    """
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            current.__traceback__ = None
            pending += [current.__cause__, current.__context__]
