# SPDX-License-Identifier: Apache-2.0
"""Changes the default version and the canary of a model while it is served, at callers' requests."""

from __future__ import annotations

import logging
from pathlib import Path

from lstm_explain.errors import InputError
from lstm_explain.repository.model_folder import find_sources
from lstm_explain.repository.model_route import Route, write_route
from lstm_explain.serving.errors import NoSpace, NotReady
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.models.snapshot import Ready

log = logging.getLogger(__name__)


class Routes:
    """Changes take effect at once in this process, and within a fifth of a second in the others of the server."""

    def __init__(self, root: Path, manager: ModelManager) -> None:
        self._root = root
        self._manager = manager

    def change(self, name: str, default: str, canary: str, share: float) -> Route:
        """Sets the default version (empty: the newest that is ready) and the canary (empty: none). Raises NotFound,
        NotReady, InputError, NoSpace.
        """
        if not 0.0 <= share <= 1.0:
            raise InputError(f"the share is {share:g}, expected a number from 0 to 1", field="canary_share")
        if share and not canary:
            raise InputError("a share needs a canary_version", field="canary_version")
        with self._manager.lock:
            numbers = [None if not version else self._ready(name, version) for version in (default, canary)]
            if canary and numbers[0] == numbers[1]:
                raise InputError(f"version {canary} is the default version", field="canary_version")
            old = self._manager.snapshot_with(name).route(name)
            before = self._current(name, old)
            after = before if numbers[0] is None else numbers[0]
            previous = old.previous if after == before else before
            return self._set(name, Route(numbers[0], numbers[1], share, previous))

    def roll_back(self, name: str) -> Route:
        """Ends the canary, if there is one; otherwise makes the previous default version the default again. Raises
        NotFound, NotReady, NoSpace.
        """
        with self._manager.lock:
            old = self._manager.snapshot_with(name).route(name)
            self._manager.snapshot.entry(name, "" if old.default is None else str(old.default))
            if old.canary is not None:
                return self._set(name, Route(old.default, None, 0.0, old.previous))
            if old.previous is None:
                raise NotReady(f"model {name!r} has no canary and no previous default version", field="name")
            self._ready(name, str(old.previous))
            return self._set(name, Route(old.previous, None, 0.0, self._current(name, old)))

    def _ready(self, name: str, version: str) -> int:
        """Returns the number of a version that is ready. Raises NotFound, NotReady."""
        return self._manager.snapshot_with(name, version).ready(name, version).version

    def _current(self, name: str, route: Route) -> int | None:
        """Returns the version that is the default now, if one is ready."""
        if route.default is not None:
            return route.default
        versions = self._manager.snapshot.models.get(name, {}).values()
        return max((entry.version for entry in versions if isinstance(entry, Ready)), default=None)

    def _set(self, name: str, route: Route) -> Route:
        sources = find_sources(self._root, name)
        if not sources or any(source.bare for source in sources):
            raise NotReady(f"model {name!r} is a file with one version; its folder would hold several", field="name")
        try:
            write_route(sources[0].folder, route)
        except OSError as error:
            raise NoSpace(f"the folder of models cannot be written to: {error.strerror}") from error
        self._manager.update_routes(name)
        log.info("model %s: %s", name, route)
        return route
