# SPDX-License-Identifier: Apache-2.0
"""Compiles kernels in other processes, side by side, while this one answers without them (compilation.py).

The processes write to the cache, at low priority. They end when this process has ended and nothing is left to compile,
so that a short command leaves the cache filled for the next one.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from lstm_explain.kernels import cache_folder

log = logging.getLogger(__name__)

MODE = "LSTM_EXPLAIN_KERNELS"  # see compilation.py
MOST_PROCESSES = 4
NICENESS = 10
LENGTH_BYTES = 4  # of a message to such a process, before it


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Compilers:
    """The processes that compile what this process orders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ordered: set[Any] = set()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._done = 0
        self._start = 0.0

    def order(self, module: str, name: str, signature: Any) -> None:
        """See `order` below. Does nothing where the same was ordered before."""
        key = (module, name, str(signature))
        with self._lock:
            if key in self._ordered:
                return
            if self._done == len(self._ordered):
                self._start = time.monotonic()
                log.info("compiling kernels in the background; until they are ready, NumPy answers in their place")
            self._ordered.add(key)
            try:
                process = self._next_process()
                assert process.stdin is not None
                message = pickle.dumps((module, name, signature))
                process.stdin.write(len(message).to_bytes(LENGTH_BYTES, "little") + message)
                process.stdin.flush()
            except OSError as error:
                log.warning("%s is not compiled: %s", name, error)
                self._done += 1

    def compiled(self) -> int:
        """See `compiled` below."""
        with self._lock:
            return self._done if self._done == len(self._ordered) else 0

    def _next_process(self) -> subprocess.Popen[bytes]:
        """Returns a new process, as long as there are processors for more, else the one that has waited longest."""
        if len(self._processes) < min(MOST_PROCESSES, _processors()):
            process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a caller that captures ours would wait for its end
                env={**os.environ, MODE: "wait", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                start_new_session=True,  # Ctrl-C is for the process that answers
            )
            threading.Thread(target=self._follow, args=(process,), name="compiled kernels", daemon=True).start()
        else:
            process = self._processes.pop(0)
        self._processes.append(process)
        return process

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        """Tells what has been compiled."""
        assert process.stdout is not None
        for line in process.stdout:
            with self._lock:
                self._done += 1
                done, count, seconds = self._done, len(self._ordered), time.monotonic() - self._start
            module, name, failed = line.decode().rstrip("\n").split(" ", 2)
            what = f"{module.rpartition('.')[2]} {name}".strip()
            log.warning("%s is not compiled: %s", what, failed) if failed else log.debug("compiled %s", what)
            if done == count:
                log.info("compiled %d kernels in %.1f s", done, seconds)
            elif done % 5 == 0:
                log.info("compiling kernels: %d of %d after %.1f s", done, count, seconds)
        with self._lock:
            if process in self._processes:
                self._processes.remove(process)
        log.warning("a process that compiles kernels has ended with code %d", process.wait())


_compilers = Compilers()
os.register_at_fork(after_in_child=lambda: globals().update(_compilers=Compilers()))


def order(module: str, name: str, signature: Any) -> None:
    """Has a kernel compiled for a signature in another process. name: "" for all of the module that declare theirs."""
    _compilers.order(module, name, signature)


def compiled() -> int:
    """Returns how many orders are done, once none is left to do; 0 until then."""
    return _compilers.compiled()


def _compile_what_is_asked() -> None:
    os.nice(NICENESS)
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read_all, args=(messages,), name="messages", daemon=True).start()
    while message := messages.get():
        module, name, signature = pickle.loads(message)
        try:
            _compile(module, name, signature)
            said = ""
        except Exception as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
        with suppress(OSError):  # where nobody listens any more
            print(f"{module} {name} {said}", flush=True)


def _read_all(messages: SimpleQueue[bytes]) -> None:
    """Reads at once what is sent, so that the sender, which may be answering a request, never waits; b"" at the end."""
    while length := sys.stdin.buffer.read(LENGTH_BYTES):
        messages.put(sys.stdin.buffer.read(int.from_bytes(length, "little")))
    messages.put(b"")


def _compile(module: str, name: str, signature: Any) -> None:
    loaded = import_module(module)
    if name:
        folder = cache_folder.folder_of(Path(str(loaded.__file__)).resolve())
        # another process may be compiling the same: this one finds it in the cache then
        with nullcontext() if folder is None else cache_folder.locked(folder, name):
            getattr(loaded, name).compile(signature)


if __name__ == "__main__":
    _compile_what_is_asked()
