# SPDX-License-Identifier: Apache-2.0
"""Holds the current snapshot of all model versions, and evicts the least recently used models from memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from lstm_explain.repository.model_route import Route
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.models.snapshot import Entry, Evicted, Key, Snapshot

log = logging.getLogger(__name__)


class ModelTable:
    """The current snapshot. Every change replaces it, so that a request keeps the model that it began with.

    max_loaded_bytes: the most that all models in memory may take, by estimate; None: any number. on_change: called
    after every change, with the new snapshot. on_unload: called when a model has left memory.
    """

    def __init__(
        self,
        max_loaded_bytes: int | None,
        on_change: Callable[[Snapshot], None],
        on_unload: Callable[[], None],
    ) -> None:
        self._max_loaded_bytes = max_loaded_bytes
        self._on_change = on_change
        self._on_unload = on_unload
        self._snapshot = Snapshot()
        self._last_used: dict[Key, float] = {}
        self.lock = threading.RLock()  # held for every change, and never while a model is tried or loaded

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def touch(self, served: ServedModel) -> None:
        """Notes that the model was used just now."""
        self._last_used[served.card.name, served.card.version] = time.monotonic()

    def change(self, entries: Mapping[Key, Entry | None]) -> None:
        """Replaces these entries; None removes one, too."""
        if not entries:
            return
        unloads = any(isinstance(self._snapshot.get(key), ServedModel) for key in entries)
        for key, entry in entries.items():
            if entry is None:
                self._last_used.pop(key, None)
        self._snapshot = self._snapshot.with_entries(entries)
        self._on_change(self._snapshot)
        if unloads:
            self._on_unload()

    def change_routes(self, routes: Mapping[str, Route]) -> None:
        """Replaces which versions of these models answer."""
        if any(self._snapshot.route(name) != route for name, route in routes.items()):
            self._snapshot = self._snapshot.with_routes(routes)
            self._on_change(self._snapshot)

    def make_room(self, size: int, key: Key) -> None:
        """Evicts the least recently used models until `size` more bytes fit; the model of `key` is replaced anyway."""
        if self._max_loaded_bytes is None:
            return
        loaded = [e for e in self._snapshot if isinstance(e, ServedModel) and (e.name, e.version) != key]
        loaded.sort(key=lambda e: self._last_used.get((e.name, e.version), 0.0), reverse=True)
        evicted: dict[Key, Entry | None] = {}
        while loaded and sum(e.card.memory for e in loaded) + size > self._max_loaded_bytes:
            oldest = loaded.pop()
            evicted[oldest.name, oldest.version] = Evicted(oldest.card)
            log.info("model %s version %d is evicted from memory", oldest.name, oldest.version)
        self.change(evicted)
