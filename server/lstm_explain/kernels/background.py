# SPDX-License-Identifier: Apache-2.0
"""Compiles kernels in other processes, side by side, while this one answers without them (compilation.py).

The processes write to the cache, at low priority, and end when nothing is left to compile, even where this process has
ended before: so a short command leaves the cache filled for the next one. There are at most as many of them as
processors, whoever starts them; those that are too many end at once, and their work is ordered again later. Only what
is urgent, and compiles within a second, is compiled at normal priority first.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from lstm_explain.kernels import cache_folder

log = logging.getLogger(__name__)

MODE = "LSTM_EXPLAIN_KERNELS"  # see compilation.py
MOST_PROCESSES = 4
NICENESS = 19
URGENT = "urgent"  # argument of a process: it compiles its first order before it gives way
LENGTH_BYTES = 4  # of a message to such a process, before it
IDLE_SECONDS = 1.0  # after which such a process ends
SECONDS_BETWEEN_ORDERS = 5.0  # of the same kernel, where the process has ended without it
MOST_ORDERS = 3  # of the same kernel: the memory may not suffice to compile it

Order = tuple[str, str, Any]  # module, name, signature; see `order`


def most_processes() -> int:
    """Returns how many processes may compile at a time on this machine."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_PROCESSES, processors)


class Compilers:
    """The processes that compile what this process orders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: dict[str, subprocess.Popen[bytes] | None] = {}  # by what is ordered; None: done
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended_without: Counter[str] = Counter()  # how many processes were killed at it
        self._start = 0.0

    def order(self, order: Order, *, urgent: bool) -> None:
        """See `order` below. Does nothing where the same was ordered before."""
        key = f"{order[0]} {order[1]} {order[2]}"
        with self._lock:
            if key in self._orders:
                return
            if not any(self._orders.values()):
                self._start = time.monotonic()
                log.info("compiling kernels in the background; until they are ready, NumPy answers in their place")
            try:
                process = self._orders[key] = self._next_process(urgent=urgent)
                assert process.stdin is not None
                message = pickle.dumps((key, order))
                process.stdin.write(len(message).to_bytes(LENGTH_BYTES, "little") + message)
                process.stdin.flush()
            except BrokenPipeError:  # it has just ended: `_follow` does the rest
                pass
            except OSError as error:
                log.warning("kernels are not compiled: %s", error)
                self._orders[key] = None

    def compiled(self) -> int:
        """See `compiled` below."""
        with self._lock:
            return 0 if any(self._orders.values()) else len(self._orders)

    def _next_process(self, *, urgent: bool) -> subprocess.Popen[bytes]:
        """Returns a new process, as long as there are processors for more, else the one that has waited longest."""
        if len(self._processes) < most_processes():
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, *([URGENT] if urgent else [])],
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
        """Tells what has been compiled, until the process ends."""
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            key, _, failed = line.decode().rstrip("\n").partition("\t")
            with self._lock:
                self._orders[key] = None
                open_orders, count = sum(map(bool, self._orders.values())), len(self._orders)
            what, seconds = _what(key), time.monotonic() - self._start
            if failed:
                log.warning("the kernel %s is not compiled: %s", what, failed)
            log.info("compiling kernels: %d of %d after %.1f s (%s)", count - open_orders, count, seconds, what)
        process.wait()
        with self._lock:
            self._processes.remove(process)
            with suppress(OSError):
                process.stdin.close()
            left = [key for key, by in self._orders.items() if by is process]
            if process.returncode:  # killed; one that had no place has ended by itself
                self._ended_without.update(left[:1])  # orders are served in turn
            given_up = [key for key in left if self._ended_without[key] >= MOST_ORDERS]
            self._orders.update(dict.fromkeys(given_up))
        for key in given_up:
            log.warning("the kernel %s is not compiled: %d processes were killed at it", _what(key), MOST_ORDERS)
        if left:
            time.sleep(SECONDS_BETWEEN_ORDERS)
        with self._lock:
            for key in set(left).difference(given_up):
                del self._orders[key]


def _what(key: str) -> str:
    """Returns how messages name what is ordered."""
    module, name, _ = key.split(" ", 2)
    return f"{module.rpartition('.')[2]} {name}".strip()


_compilers = Compilers()
os.register_at_fork(after_in_child=lambda: globals().update(_compilers=Compilers()))


def order(module: str, name: str, signature: Any, *, urgent: bool = False) -> None:
    """Has a kernel compiled for a signature in another process. name: "" for all of the module that declare theirs."""
    _compilers.order((module, name, signature), urgent=urgent)


def compiled() -> int:
    """Returns how many orders are done, once none is left to do; 0 until then."""
    return _compilers.compiled()


def _compile_what_is_asked() -> None:
    urgent = sys.argv[1:] == [URGENT]
    if not urgent:
        _give_way()
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read_all, args=(messages,), name="messages", daemon=True).start()
    with ExitStack() as stack:
        if not _takes_a_place(stack):
            return
        with suppress(Empty):
            while message := messages.get(timeout=IDLE_SECONDS):
                key, order = pickle.loads(message)
                try:
                    _compile(order)
                    failed = ""
                except Exception as error:
                    failed = f"{type(error).__name__}: {error}".splitlines()[0]
                with suppress(OSError):  # where nobody listens any more
                    print(key, failed, sep="\t", flush=True)
                if urgent:
                    _give_way()
                    urgent = False


def _give_way() -> None:
    """Lowers the priority of this process, and that of its session, which Linux may schedule as one group beside other
    sessions; where memory runs out, it ends before one that answers.
    """
    os.nice(NICENESS)
    for file, text in (("autogroup", str(NICENESS)), ("oom_score_adj", "1000")):
        with suppress(OSError):  # of Linux only
            Path("/proc/self", file).write_text(text)


def _takes_a_place(stack: ExitStack) -> bool:
    """Returns whether there is a processor for this process; the place is free again when the stack is closed."""
    folder = cache_folder.folder_of(Path(__file__).resolve())
    for place in range(most_processes()):
        with suppress(BlockingIOError):
            if folder is not None:
                stack.enter_context(cache_folder.locked(folder, f"place-{place}", wait=False))
            return True
    return False


def _read_all(messages: SimpleQueue[bytes]) -> None:
    """Reads at once what is sent, so that the sender, which may be answering a request, never waits; b"" at the end."""
    while length := sys.stdin.buffer.read(LENGTH_BYTES):
        messages.put(sys.stdin.buffer.read(int.from_bytes(length, "little")))
    messages.put(b"")


def _compile(order: Order) -> None:
    module, name, signature = order
    loaded = import_module(module)
    if name:
        folder = cache_folder.folder_of(Path(str(loaded.__file__)).resolve())
        with ExitStack() as stack:
            if folder is not None:  # another process may be compiling the same: this one finds it in the cache then
                stack.enter_context(cache_folder.locked(folder, name))
            getattr(loaded, name).compile(signature)


if __name__ == "__main__":
    _compile_what_is_asked()
