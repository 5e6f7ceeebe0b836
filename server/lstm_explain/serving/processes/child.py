# SPDX-License-Identifier: Apache-2.0
"""A worker as its parent sees it: the process, its messages, its shared memory, its heartbeat."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Literal

from lstm_explain.serving import procfs, shared_board
from lstm_explain.serving.observability.output_capture import OutputCapture
from lstm_explain.serving.processes.channel import Channel
from lstm_explain.serving.settings import ENV_PREFIX

# starting: loads its models. warm: able to serve. chosen: asked to serve. leaving: finishes running requests.
Stage = Literal["starting", "warm", "chosen", "serving", "leaving"]


class ChildProcess:
    """Starts the process. environment: with its settings. folder: for shared memory. output: the object that reads its
    output.
    """

    def __init__(self, environment: dict[str, str], folder: str, output: OutputCapture, *, gently: bool) -> None:
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        stdout = os.dup(1)  # for the audit log
        with theirs, shared_board.new_file(folder) as file:
            fds = (theirs.fileno(), output.out, file.fileno(), stdout)
            own = {f"{ENV_PREFIX}WORKER": ",".join(map(str, fds)), f"{ENV_PREFIX}GENTLY": str(gently)}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lstm_explain.cli", "serve"],
                env=environment | own,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=fds,
            )
            self.board = shared_board.SharedBoard(file.fileno())
        os.close(writing)
        os.close(stdout)
        output.read(reading, self.pid)
        self.channel = Channel(ours)
        self.stage: Stage = "starting"
        self.silent = 0.0  # seconds since the last heartbeat, as far as `update` has counted them
        self._beats = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def serves(self) -> bool:
        """Whether it serves or is about to."""
        return self.stage in ("chosen", "serving")

    def update(self, seconds: float) -> None:
        """Counts these seconds as silent, unless there was a heartbeat."""
        beats = self.board.beats()
        self.silent = 0.0 if beats != self._beats or self.stage == "starting" else self.silent + seconds
        self._beats = beats

    def is_stopped(self) -> bool:
        """Returns whether somebody has stopped it, by SIGSTOP or with a debugger."""
        return procfs.is_stopped(self.pid)

    def end(self) -> None:
        """Asks it to finish running requests and end; one that does not serve yet is killed."""
        self.process.send_signal(signal.SIGKILL if self.stage in ("starting", "warm") else signal.SIGTERM)

    def reap(self, seconds: float) -> int:
        """Waits for the process to end, kills it after so many seconds, and returns its exit code."""
        try:
            return self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self) -> None:
        self.channel.close()
        self.board.close()
