"""Tries ONNX's own code on a model in another process: a damaged model can end the process that reads it.

ONNX and ONNX Runtime infer shapes by the same code, whose assertions abort. The other process runs this module, which
imports ONNX and nothing else of size; it waits for models on stdin and leaves when none comes for a while.

The server goes further: it loads and runs a whole model in a process that may crash
(serving/trials/trial_process.py). A model that passed there skips the sandbox: see `tried`.
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
MOST_SECONDS = 30.0
MOST_MEMORY = 2 << 30  # the models come without their weights

Process = subprocess.Popen[bytes]


class Trier:
    """One other process for all models, started when there is none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Process | None = None

    def survives(self, model: bytes) -> bool:
        """Whether ONNX comes to an end with this model: with a result or with an error, and soon."""
        if not sys.executable:  # Python inside another program: nothing can be started
            return True
        with self._lock:
            waiting = self._process
            if waiting is not None and waiting.poll() is None and _give(waiting, model):
                answer = _answer(waiting)
                if answer or waiting.wait() != 0:  # else it was leaving at that very moment, and has not looked
                    return self._told(waiting, answer)
            process = self._process = _start()
            _give(process, model)
            return self._told(process, _answer(process))

    def _told(self, process: Process, answer: bytes) -> bool:
        if answer == SURVIVED:
            return True
        process.kill()
        process.wait()
        self._process = None
        return False


def _answer(process: Process) -> bytes:
    """Empty: it has ended, by itself or because it took too long."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], MOST_SECONDS)[0]:
        process.kill()
    return process.stdout.read(1)


def _start() -> Process:
    command = [sys.executable, "-P", "-m", __spec__.name]
    own = str(Path(__file__).parents[2])  # this package, however it has been found
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([own, *filter(None, sys.path)])}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, bufsize=0, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)


def _give(process: Process, model: bytes) -> bool:
    """False: nobody takes it any more."""
    assert process.stdin is not None
    try:
        process.stdin.write(LENGTH.pack(len(model)))
        rest = memoryview(model)
        while rest:
            rest = rest[process.stdin.write(rest) :]
    except BrokenPipeError:
        return False
    return True


_trier = Trier()
_is_tried: ContextVar[bool] = ContextVar("lstm_explain_is_tried", default=False)


@contextmanager
def tried() -> Iterator[None]:
    """Inside, this thread takes models to survive: they have been tried, or this process may crash."""
    token = _is_tried.set(True)
    try:
        yield
    finally:
        _is_tried.reset(token)


def survives(model: bytes) -> bool:
    """See Trier.survives."""
    return _is_tried.get() or _trier.survives(model)


# --- the other process -----------------------------------------------------------------------------------------------


def _main() -> None:
    import resource

    import onnx.inliner

    from lstm_explain.graph.shape_inference import infer_shapes

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
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
