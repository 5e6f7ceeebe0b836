"""A worker as its parent sees it: a process, what it says, its shared memory, its signs of life."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Literal

from lstm_explain.serving import shared_board
from lstm_explain.serving.observability.output_capture import OutputCapture
from lstm_explain.serving.processes.channel import Control
from lstm_explain.serving.settings import ENV_PREFIX

# starting: loads its models. warm: could serve. chosen: was told to. serving. leaving: serves what it has begun.
Stage = Literal["starting", "warm", "chosen", "serving", "leaving"]


class ChildProcess:
    """Started when it is made. environment: with its settings."""

    def __init__(self, environment: dict[str, str], folder: str, pump: OutputCapture, *, gently: bool) -> None:
        ours, theirs = socket.socketpair()
        reading, words = os.pipe()
        with theirs, shared_board.new_file(folder) as file:
            fds = (theirs.fileno(), pump.out, file.fileno())
            own = {f"{ENV_PREFIX}WORKER": ",".join(map(str, fds)), f"{ENV_PREFIX}GENTLY": str(gently)}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lstm_explain.cli", "serve"],
                env=environment | own,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                pass_fds=fds,
            )
            self.board = shared_board.SharedBoard(file.fileno())
        os.close(words)
        pump.read(reading, self.pid)
        self.control = Control(ours)
        self.stage: Stage = "starting"
        self.silent = 0.0  # seconds since its last sign of life, of those in which we looked
        self._beats = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def serves(self) -> bool:
        """Whether it does, or is about to."""
        return self.stage in ("chosen", "serving")

    def look(self, seconds: float) -> None:
        """Counts these seconds as silent, unless there was a sign of life."""
        beats = self.board.beats()
        self.silent = 0.0 if beats != self._beats or self.stage == "starting" else self.silent + seconds
        self._beats = beats

    def is_stopped(self) -> bool:
        """Whether somebody has stopped it, by SIGSTOP or with a debugger."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] in "tT"
        except (OSError, IndexError):
            return False

    def end(self) -> None:
        """Asks it to finish what it has begun; what serves nobody is ended at once."""
        self.process.send_signal(signal.SIGKILL if self.stage in ("starting", "warm") else signal.SIGTERM)

    def reap(self, seconds: float) -> int:
        """The exit code, of a process that is about to end or is killed after so many seconds."""
        try:
            return self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self) -> None:
        self.control.close()
        self.board.close()
