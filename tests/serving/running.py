# SPDX-License-Identifier: Apache-2.0
"""Runs the real server in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc

from lstm_explain.serving.trials.trial_process import PROCESS_NAME

READY = re.compile(r"lstm-explain ready on ([^\s\"]+)\"?\}?$", re.MULTILINE)  # as text or as JSON
PAGE = re.compile(r"lstm-explain page on ([^\s\"]+)\"?\}?$", re.MULTILINE)
SECONDS_TO_START = 90
# Not by preexec_fn: Python would fork, and gRPC's threads, which go on in the child, abort it when files are closed.
LIMITED = """
import os, resource, sys

resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
os.execv(sys.argv[3], sys.argv[3:])
"""


def listens(process: int) -> bool:
    """Whether the process listens on a TCP port."""
    inodes = set()
    with suppress(OSError):  # the process has ended
        for fd in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):  # it has just been closed
                inodes.add(os.readlink(fd))
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return any(row[3] == "0A" and f"socket:[{row[9]}]" in inodes for row in rows)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lstm_explain.cli", *arguments]


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def metrics(address: str) -> dict[str, float]:
    """The metrics that Prometheus would read there, by name and labels."""
    text = urllib.request.urlopen(f"http://{address}/metrics", timeout=20).read().decode()
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in rows}


def on_trial(server: Running) -> list[int]:
    """The processes that are trying a model at the moment: forks of the trial process."""
    trying = [p for p in server.family() if tries_models(p)]
    return [p for p in trying if int((_read(f"/proc/{p}/stat").rpartition(b")")[2].split() or [0, 0])[1]) in trying]


def tries_models(process: int) -> bool:
    """Whether it is the trial process, or one of its forks."""
    return _read(f"/proc/{process}/comm") == f"{PROCESS_NAME}\n".encode()


def _read(path: str) -> bytes:
    """The content of the file; empty if the process has ended."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


@dataclass(frozen=True)
class Running:
    address: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    out: IO[bytes]

    def page(self) -> str:
        """The address of the page, which is printed right after the other one."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if reported := PAGE.search(Path(self.out.name).read_text()):
                return reported[1]
            time.sleep(0.02)
        raise AssertionError("no page was told of")

    def logged(self) -> str:
        """Everything written to stderr so far."""
        return Path(self.log.name).read_text()

    def family(self) -> list[int]:
        """The ids of the server's process and its descendants."""
        found = [self.process.pid]
        for process in found:
            with suppress(OSError):  # it has ended
                for children in Path(f"/proc/{process}/task").glob("*/children"):
                    found += [int(child) for child in children.read_text().split()]
        return found

    def workers(self) -> list[int]:
        """The ids of the workers that serve, oldest first, without the spare one."""
        return [process for process in self.family()[1:] if listens(process)]

    def stop(self) -> int:
        """Sends SIGTERM, and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def resident(self) -> int:
        """Resident bytes of the server's process and its descendants."""
        parents, pages = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has just ended
                fields = stat.read_text().rpartition(")")[2].split()
                parents[int(stat.parent.name)], pages[int(stat.parent.name)] = int(fields[1]), int(fields[21])
        family = {self.process.pid}
        while more := {child for child, parent in parents.items() if parent in family} - family:
            family |= more
        return sum(pages.get(process, 0) for process in family) * os.sysconf("SC_PAGE_SIZE")

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(self.address, options=options) as channel:
            yield channel


@contextmanager
def serving(
    models: Path, *flags: str, most_files: tuple[int, int] | None = None, **environment: str
) -> Iterator[Running]:
    """A server that is ready; its process ends with the context. most_files: its limits of open files, the soft and the
    hard one.
    """
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as log:
        arguments = command("serve", "--models", str(models), "--listen", "127.0.0.1:0", *flags)
        if most_files is not None:
            arguments = [sys.executable, "-c", LIMITED, *map(str, most_files), *arguments]
        process = subprocess.Popen(arguments, stdout=out, stderr=log, env={**os.environ, **environment})
        try:
            yield Running(_address(process, Path(out.name), Path(log.name)), process, log, out)
        finally:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], out: Path, log: Path) -> str:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and process.poll() is None:
        if ready := READY.search(out.read_text()):
            return ready[1]
        time.sleep(0.02)
    raise AssertionError(f"the server did not become ready (exit code {process.poll()}): {log.read_text()}")
