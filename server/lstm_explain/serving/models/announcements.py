# SPDX-License-Identifier: Apache-2.0
"""Lets the processes of one server announce changes of their models to each other, through a shared file.

A caller's request to load, unload, import or delete a model reaches one process. The others follow it within
SECONDS_BETWEEN_CHECKS, or at once when they are asked for a model that they do not know.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from lstm_explain.errors import Error
from lstm_explain.serving.shared_journal import SharedJournal

log = logging.getLogger(__name__)

SECONDS_BETWEEN_CHECKS = 0.2

# load: loaded again; unload: taken out of service; change: versions were added to the folder or removed from it.
Event = Literal["load", "unload", "change"]


class Announcements:
    """One process's view of the file."""

    def __init__(self, path: Path) -> None:
        self._journal = SharedJournal(path)
        self._sender = uuid.uuid4().hex
        self._following = threading.Lock()

    def post(self, event: Event, name: str) -> None:
        """Announces an event to the other processes."""
        self._journal.append({"sender": self._sender, "event": event, "model": name})

    def unloaded(self) -> set[str]:
        """Models that were taken out of service before this process started. Call it before `follow`."""
        names: set[str] = set()
        with self._following:
            for event, name in self._read_new():
                if event == "unload":
                    names.add(name)
                elif event == "load":
                    names.discard(name)
        return names

    def follow(self, handlers: Mapping[Event, Callable[[str], None]]) -> None:
        """Handles the events that others have announced; returns when all are handled, even if another thread handles
        some of them.
        """
        with self._following:
            for event, name in self._read_new():
                try:
                    handlers[event](name)
                except (Error, OSError) as error:
                    log.error("cannot follow another process's %s of model %s: %s", event, name, error)

    def _read_new(self) -> list[tuple[Event, str]]:
        entries = self._journal.read_new()
        return [(entry["event"], entry["model"]) for entry in entries if entry["sender"] != self._sender]
