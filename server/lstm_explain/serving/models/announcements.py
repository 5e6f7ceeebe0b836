"""What the processes of one server tell each other about their models: a file that all add to and all read.

A caller's wish reaches one process; the others follow it within SECONDS_BETWEEN_LOOKS, or at once when they are asked
for a model that they do not know.
"""

from __future__ import annotations

import fcntl
import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

from lstm_explain.errors import Error

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.2

# load: loaded anew; unload: taken out of service; change: versions came or went in the folder.
Event = Literal["load", "unload", "change"]
Follow = Callable[[str], None]


class Announcements:
    """One process's view of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._me = uuid.uuid4().hex
        self._read_to = 0
        self._following = threading.Lock()

    def post(self, event: Event, name: str) -> None:
        """Tells the others."""
        line = json.dumps({"who": self._me, "event": event, "model": name}) + "\n"
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line.encode())

    def unloaded(self) -> set[str]:
        """Models that were taken out of service before this process began. To be called first."""
        names: set[str] = set()
        with self._following:
            for event, name in self._news():
                if event == "unload":
                    names.add(name)
                elif event == "load":
                    names.discard(name)
        return names

    def follow(self, reactions: Mapping[Event, Follow]) -> None:
        """Does what the others have done since the last time; returns when it is done, whoever does it."""
        with self._following:
            for event, name in self._news():
                try:
                    reactions[event](name)
                except (Error, OSError) as error:
                    log.error("another process's %s of model %s cannot be followed: %s", event, name, error)

    def _news(self) -> Iterable[tuple[Event, str]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._read_to)
                lines = file.read()
        except FileNotFoundError:
            return []
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read_to += len(whole)
        told = [json.loads(line) for line in whole.splitlines()]
        return [(item["event"], item["model"]) for item in told if item["who"] != self._me]
