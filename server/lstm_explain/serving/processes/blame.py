"""Which model brought a worker down: the parent's view of it.

A worker marks what it runs in shared memory (shared_board.py), where its parent reads it after a crash. Any model that
was running then is a suspect: its requests wait until another worker is ready to take over, and no two suspects run at
once in one process (quarantine.py). So the next crash has at most one suspect. For that model it is the second strike:
it is quarantined, and the models that merely ran beside it are cleared.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from lstm_explain.repository.model_folder import Tag

log = logging.getLogger(__name__)

STRIKES = 2
SECONDS_TO_FORGET = 3600.0  # a strike that was followed by no other
# An operator's, or an orchestrator's: they say nothing about what was running.
_ON_PURPOSE = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGKILL}
_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
_KILLS = "oom_kill"


class Blame:
    """clock: seconds. Strikes count for the files that a model was loaded from: others begin anew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._strikes: dict[Tag, float] = {}  # when; equal for those of one crash
        self._quarantined: dict[Tag, str] = {}  # why

    def crashed(self, running: Iterable[Tag], how: str) -> None:
        """A worker ended while these ran. how: said of its end."""
        now = self._clock()
        self._strikes = {tag: when for tag, when in self._strikes.items() if now - when < SECONDS_TO_FORGET}
        running = set(running)
        again = running & self._strikes.keys()
        for tag in again:
            self._quarantined[tag] = (
                f"in quarantine: {STRIKES} worker processes crashed while it ran, the last one with {how}; "
                "it is tried again when its files change or somebody loads it"
            )
            log.error("model %s version %d is in quarantine: a second worker crashed while it ran", *tag.key)
        if again:  # which explains the earlier crash, too
            explained = {self._strikes[tag] for tag in again}
            self._strikes = {tag: when for tag, when in self._strikes.items() if when not in explained}
            return
        for tag in running:
            log.warning("model %s version %d was running when a worker crashed", *tag.key)
            self._strikes[tag] = now

    def forgive(self, name: str, version: int) -> bool:
        """This version is trusted again. Whether that changes anything."""
        there = [tag for tag in (*self._strikes, *self._quarantined) if tag.key == (name, version)]
        for tag in there:
            self._strikes.pop(tag, None)
            self._quarantined.pop(tag, None)
        return bool(there)

    @property
    def suspects(self) -> list[Tag]:
        return list(self._strikes)

    @property
    def quarantined(self) -> dict[Tag, str]:
        return self._quarantined


class Kills:
    """Tells the kernel's out-of-memory killer from a person who kills a process: both send the same signal."""

    def __init__(self) -> None:
        self._seen = _out_of_memory()

    def blamed(self, code: int) -> bool:
        """Whether what was running may be to blame for the end of a process with this exit code."""
        before, self._seen = self._seen, _out_of_memory()
        if code == -signal.SIGKILL:
            return self._seen > before
        return code != 0 and code not in _ON_PURPOSE


def exit_code_in_words(code: int) -> str:
    """An exit code, in words."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _out_of_memory() -> int:
    """How many processes the kernel has killed for want of memory: in our container, or on this machine."""
    for path in _COUNTERS:
        with suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == _KILLS:
                    return int(count)
    return 0
