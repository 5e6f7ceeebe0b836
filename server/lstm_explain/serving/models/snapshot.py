"""An immutable snapshot of all model versions, with the state of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lstm_explain.repository.misplaced import NO_VERSION
from lstm_explain.repository.model_folder import VERSION
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


@dataclass(frozen=True)
class Snapshot:
    """models: the entries by name, then by version in ascending order. resolved: a cache of the models that answer
    requests, by name and version as a request gives them.
    """

    models: Mapping[str, Mapping[int, Entry]] = field(default_factory=dict)
    resolved: dict[tuple[str, str], ServedModel] = field(default_factory=dict, compare=False, repr=False)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for versions in self.models.values() for entry in versions.values())

    def get(self, key: Key) -> Entry | None:
        return self.models.get(key[0], {}).get(key[1])

    def entry(self, name: str, version: str = "") -> Entry:
        """The entry of a version; by default the newest that is ready, or else the newest. Raises NotFound."""
        versions = self.models.get(name)
        if not versions:
            raise NotFound(f"there is no model {name!r}", field="model")
        if list(versions) == [NO_VERSION]:
            return versions[NO_VERSION]
        if not version:
            ready = [e for e in versions.values() if isinstance(e, Ready)]
            return ready[-1] if ready else list(versions.values())[-1]
        found = versions.get(int(version)) if VERSION.fullmatch(version) else None
        if found is None:
            known = ", ".join(str(v) for v in versions)
            raise NotFound(f"model {name!r} has no version {version!r}, only {known}", field="version")
        return found

    def ready(self, name: str, version: str = "") -> Ready:
        """The ready version that answers a request. Raises NotFound, NotReady."""
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
        """A snapshot with these entries replaced; None removes an entry."""
        entries = {(e.name, e.version): e for e in self} | dict(changes)
        models: dict[str, dict[int, Entry]] = {}
        for name, version in sorted(entries):
            entry = entries[name, version]
            if entry is not None:
                models.setdefault(name, {})[version] = entry
        return Snapshot(models)
