# SPDX-License-Identifier: Apache-2.0
"""Decides, in the parent process, which model has crashed a worker.

A worker marks what it runs in shared memory (shared_board.py), where the parent reads it after a crash. Every model
that was running is a suspect: its requests wait until another worker is ready to take over, and no two suspects run at
the same time in one process (quarantine.py). So the next crash has at most one suspect. For that model it is the second
strike: it is quarantined, and the models that merely ran at the same time are cleared.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lstm_explain.repository.model_folder import Tag

log = logging.getLogger(__name__)

STRIKES = 2
SECONDS_TO_FORGET = 3600.0  # a strike without another one
# Signals from an operator or an orchestrator: they say nothing about the models that were running.
_DELIBERATE = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGKILL}
_OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
_OOM_KEY = "oom_kill"


class Blame:
    """Counts strikes by model and files, so that new files of a model begin without strikes."""

    def __init__(self) -> None:
        self._strikes: dict[Tag, float] = {}  # the time of each; equal for those of one crash
        self._quarantined: dict[Tag, str] = {}  # the reasons

    def record_crash(self, running: Iterable[Tag], cause: str) -> None:
        """A worker crashed while these models ran. cause: how it ended, in words."""
        now = time.monotonic()
        self._strikes = {tag: when for tag, when in self._strikes.items() if now - when < SECONDS_TO_FORGET}
        running = set(running)
        again = running & self._strikes.keys()
        for tag in again:
            self._quarantined[tag] = (
                f"in quarantine: {STRIKES} worker processes crashed while it ran, the last one with {cause}; "
                "it is tried again when its files change or a caller loads it"
            )
            log.error("model %s version %d is in quarantine: a second worker crashed while it ran", *tag.key)
        if again:  # they explain the earlier crash, too
            explained = {self._strikes[tag] for tag in again}
            self._strikes = {tag: when for tag, when in self._strikes.items() if when not in explained}
            return
        for tag in running:
            log.warning("model %s version %d was running when a worker crashed", *tag.key)
            self._strikes[tag] = now

    def forgive(self, name: str, version: int) -> bool:
        """Clears a version, and returns whether that changes anything."""
        tags = [tag for tag in (*self._strikes, *self._quarantined) if tag.key == (name, version)]
        for tag in tags:
            self._strikes.pop(tag, None)
            self._quarantined.pop(tag, None)
        return bool(tags)

    @property
    def suspects(self) -> list[Tag]:
        return list(self._strikes)

    @property
    def quarantined(self) -> dict[Tag, str]:
        return self._quarantined


class OutOfMemoryKills:
    """Distinguishes the kernel's out-of-memory killer from a person: both send SIGKILL."""

    def __init__(self) -> None:
        self._seen = _count_kills()

    def models_to_blame(self, code: int) -> bool:
        """Returns whether the models that were running may have caused the end of a process with this exit code."""
        before, self._seen = self._seen, _count_kills()
        if code == -signal.SIGKILL:
            return self._seen > before
        return code != 0 and code not in _DELIBERATE


def exit_code_in_words(code: int) -> str:
    """Returns an exit code as text: the name of the signal, if there was one."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _count_kills() -> int:
    """Returns how many processes the kernel has killed to free memory, in this container or on this machine."""
    for path in _OOM_COUNTERS:
        with suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == _OOM_KEY:
                    return int(count)
    return 0
