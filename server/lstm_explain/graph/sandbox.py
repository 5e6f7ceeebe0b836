# SPDX-License-Identifier: Apache-2.0
"""Runs ONNX's shape inference on a model in another process, because a damaged model can end the process that reads it.

ONNX and ONNX Runtime infer shapes with the same code, whose assertions abort. The other process runs this module, which
imports little besides ONNX. It waits for models on stdin and exits when none arrives for a while.

The server goes further: it loads and runs a whole model in a process that may crash (serving/trials/trial_process.py).
A model that passed there skips the sandbox: see `skip_sandbox`.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

LENGTH = struct.Struct("<Q")
SURVIVED = b"."
IDLE_SECONDS = 20.0
MAX_SECONDS = 30.0
MAX_MEMORY = 2 << 30  # The models arrive without their weights.

Process = subprocess.Popen[bytes]


class Sandbox:
    """One process for all models, started when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Process | None = None

    def survives(self, model: bytes) -> bool:
        """Returns whether ONNX finishes with this model in time, with a result or with an error."""
        if not sys.executable:  # Python is embedded in another program, so no process can be started.
            return True
        with self._lock:
            running = self._process
            if running is not None and running.poll() is None and _send(running, model):
                answer = _receive(running)
                if answer or running.wait() != 0:  # Otherwise it was just exiting and has not seen the model.
                    return self._outcome(running, answer)
            process = self._process = _start()
            _send(process, model)
            return self._outcome(process, _receive(process))

    def _outcome(self, process: Process, answer: bytes) -> bool:
        if answer == SURVIVED:
            return True
        process.kill()
        process.wait()
        self._process = None
        return False


def _receive(process: Process) -> bytes:
    """Returns the reply; empty where the process has ended, by itself or because it took too long."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], MAX_SECONDS)[0]:
        process.kill()
    return process.stdout.read(1)


def _start() -> Process:
    command = [sys.executable, "-P", "-m", __spec__.name]
    own = str(Path(__file__).parents[2])  # the folder from which this package was imported
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([own, *filter(None, sys.path)])}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, bufsize=0, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)


def _send(process: Process, model: bytes) -> bool:
    """Returns whether the process accepted the model."""
    assert process.stdin is not None
    try:
        process.stdin.write(LENGTH.pack(len(model)))
        rest = memoryview(model)
        while rest:
            rest = rest[process.stdin.write(rest) :]
    except BrokenPipeError:
        return False
    return True


_sandbox = Sandbox()
_is_skipped: ContextVar[bool] = ContextVar("lstm_explain_skip_sandbox", default=False)


@contextmanager
def skip_sandbox() -> Iterator[None]:
    """Within this context, `survives` is always True in this thread: the models have been tried, or this process may
    crash.
    """
    token = _is_skipped.set(True)
    try:
        yield
    finally:
        _is_skipped.reset(token)


def survives(model: bytes) -> bool:
    """Returns whether ONNX finishes with this model; see Sandbox.survives."""
    return _is_skipped.get() or _sandbox.survives(model)


# --- the other process -----------------------------------------------------------------------------------------------


def _main() -> None:
    import resource

    import onnx.inliner

    from lstm_explain.graph.shape_inference import infer_shapes

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    while select.select([sys.stdin], [], [], IDLE_SECONDS)[0]:
        head = sys.stdin.buffer.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return
        data = sys.stdin.buffer.read(*LENGTH.unpack(head))
        try:
            model = infer_shapes(onnx.ModelProto.FromString(data))
            model = onnx.inliner.inline_local_functions(model)
            infer_shapes(model)
        except MemoryError:
            return
        except Exception:
            pass
        os.write(1, SURVIVED)


if __name__ == "__main__":
    _main()
