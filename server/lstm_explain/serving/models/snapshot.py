# SPDX-License-Identifier: Apache-2.0
"""An immutable snapshot of all model versions, with the state of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from lstm_explain.repository.misplaced import NO_VERSION
from lstm_explain.repository.model_folder import VERSION
from lstm_explain.repository.model_route import Route
from lstm_explain.repository.served_model import Carded, ServedModel
from lstm_explain.serving import errors
from lstm_explain.serving.errors import NotFound, NotReady


class Evicted(Carded):
    """A ready version that was evicted from memory. The next request for it loads it again."""


@dataclass(frozen=True)
class Unloaded:
    """A version that a caller has taken out of service, until a caller loads it again."""

    name: str
    version: int


@dataclass(frozen=True)
class Failed:
    """A version that could not be loaded, and the reason. NO_VERSION stands for a model that has no version."""

    name: str
    version: int
    reason: str


class Quarantined(Failed):
    """A version that ran when worker processes crashed."""


@dataclass(frozen=True)
class InTrial:
    """A version whose trial takes unusually long."""

    name: str
    version: int


Ready = ServedModel | Evicted
Entry = Ready | Unloaded | Failed | InTrial
Key = tuple[str, int]
NO_ROUTE = Route()
MOST_NAMES = 10  # models that an error lists
MAX_NAME_LENGTH = 128  # of a name; comparing longer ones with all models would take too long


@dataclass(frozen=True)
class Snapshot:
    """models: the entries by name, then by version in ascending order. routes: by name, which version answers requests
    that name none. resolved: a cache of the models that answer
    requests, by name and version as a request gives them.
    """

    models: Mapping[str, Mapping[int, Entry]] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    resolved: dict[tuple[str, str], ServedModel] = field(default_factory=dict, compare=False, repr=False)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for versions in self.models.values() for entry in versions.values())

    def get(self, key: Key) -> Entry | None:
        return self.models.get(key[0], {}).get(key[1])

    def entry(self, name: str, version: str = "") -> Entry:
        """Returns the entry of a version; by default the default version of the model or, if it has none, the newest
        that is ready, or else the newest. Raises NotFound, and NotReady for a default version that does not exist.
        """
        versions = self.models.get(name)
        if not versions:
            raise NotFound(f"there is no model {name!r}{self._hint(name)}", field="model")
        if list(versions) == [NO_VERSION]:
            return versions[NO_VERSION]
        default = self.route(name).default
        if not version and default is not None:
            if default not in versions:
                raise NotReady(f"the default version {default} of model {name!r} does not exist", field="model")
            return versions[default]
        if not version:
            ready = [e for e in versions.values() if isinstance(e, Ready)]
            return ready[-1] if ready else list(versions.values())[-1]
        found = versions.get(int(version)) if VERSION.fullmatch(version) else None
        if found is None:
            known = ", ".join(str(v) for v in versions)
            raise NotFound(f"model {name!r} has no version {version!r}, only {known}", field="version")
        return found

    def route(self, name: str) -> Route:
        """Returns which version of the model answers requests that name none."""
        return self.routes.get(name, NO_ROUTE)

    def routed(self, name: str, key: str, wanted: bool | None) -> str:
        """Returns the version for a request that names none: empty for the default version.

        key: see `Route.takes_canary`. wanted: whether the caller asks for the canary; None: its share decides, and a
        canary that is not ready gets none.
        """
        route = self.routes.get(name)
        if route is None or route.canary is None or wanted is False:
            return ""
        if wanted or (route.takes_canary(key) and isinstance(self.get((name, route.canary)), Ready)):
            return str(route.canary)
        return ""

    def is_ready(self, name: str) -> bool:
        """Returns whether the model answers requests that name no version."""
        try:
            self.ready(name)
        except (NotFound, NotReady):
            return False
        return True

    def _hint(self, name: str) -> str:
        """Returns the nearest name, and the names that there are."""
        known = [one for one in self.models if one]
        if not known:
            return "; the server has no models"
        near = get_close_matches(name, known, 1) if len(name) <= MAX_NAME_LENGTH else []
        suggestion = f"; did you mean {near[0]!r}? The" if near else "; the"
        more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
        return f"{suggestion} models are {', '.join(known[:MOST_NAMES])}{more}"

    def ready(self, name: str, version: str = "") -> Ready:
        """Returns the ready version that answers a request. Raises NotFound, NotReady."""
        entry = self.entry(name, version)
        if isinstance(entry, Unloaded):
            raise NotReady(f"model {name!r} version {entry.version} is unloaded", field="model")
        if isinstance(entry, Quarantined):
            raise errors.Quarantined(f"model {name!r} version {entry.version} is {entry.reason}", field="model")
        if isinstance(entry, InTrial):
            raise NotReady(f"model {name!r} version {entry.version} is still on trial", field="model")
        if isinstance(entry, Failed):
            version = f" version {entry.version}" if entry.version != NO_VERSION else ""
            raise NotReady(f"model {name!r}{version} failed to load: {entry.reason}", field="model")
        return entry

    def with_entries(self, changes: Mapping[Key, Entry | None]) -> Snapshot:
        """Returns a snapshot with these entries replaced; None removes an entry."""
        entries = {(e.name, e.version): e for e in self} | dict(changes)
        models: dict[str, dict[int, Entry]] = {}
        for name, version in sorted(entries):
            entry = entries[name, version]
            if entry is not None:
                models.setdefault(name, {})[version] = entry
        return Snapshot(models, self.routes)

    def with_routes(self, changes: Mapping[str, Route]) -> Snapshot:
        """Returns a snapshot with the routes of these models replaced."""
        return Snapshot(self.models, {**self.routes, **changes})
