"""What is served: loads what lies in the folder of models, anew where it changes, and no more than fits into memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lstm_explain.catalogue.layout import MODEL, NAME, Source, State, Tag, find_sources, fingerprint
from lstm_explain.catalogue.misplaced import NO_VERSION, Misplaced, find_misplaced
from lstm_explain.catalogue.served import ServedModel, load_served, memory_of
from lstm_explain.errors import Error
from lstm_explain.service.board import NOWHERE, Board
from lstm_explain.service.bulletin import Bulletin, Event
from lstm_explain.service.errors import NotFound, NotReady
from lstm_explain.service.snapshot import Entry, Failed, Key, Quarantined, Ready, Resting, Snapshot, Unloaded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Room:
    """model_bytes: the most that one version's files may have. loaded_bytes: the most that all models in memory may
    take, by the estimate of `memory_of`. None: any number.
    """

    model_bytes: int | None = None
    loaded_bytes: int | None = None

    def check(self, size: int) -> None:
        """Raises Error if a model whose files have `size` bytes can never be loaded."""
        if self.model_bytes is not None and size > self.model_bytes:
            raise Error(f"the model has {size} bytes, more than --max-model-bytes allows ({self.model_bytes})")
        if self.loaded_bytes is not None and memory_of(size) > self.loaded_bytes:
            needs = f"about {memory_of(size)} bytes of memory"
            raise Error(f"the model takes {needs}, more than --max-loaded-bytes allows ({self.loaded_bytes})")


class Repository:
    """Serves an immutable snapshot, which every change swaps for another: a request keeps what it began with.

    on_change: called after every change, with the new snapshot. bulletin: of the server's other processes, if any.
    board: where a load is marked while it goes on. on_trust: called with what was in quarantine and is not to be any
    more, since somebody has loaded it or its files have changed or gone.
    """

    def __init__(
        self,
        root: Path,
        room: Room = Room(),
        on_change: Callable[[Snapshot], None] = lambda _: None,
        bulletin: Bulletin | None = None,
        board: Board | None = None,
        on_trust: Callable[[Key], None] = lambda _: None,
    ) -> None:
        self._root = root
        self._room = room
        self._on_change = on_change
        self._bulletin = bulletin
        self._board = board or Board()
        self._on_trust = on_trust
        self._verdicts: Mapping[Key, tuple[str, str]] = {}
        self._snapshot = Snapshot()
        self._states: dict[Key, State] = {}  # of the files as they were when last loaded, well or not
        self._unloaded: set[str] = set() if bulletin is None else bulletin.unloaded()
        self._misplaced: set[str] = set()  # what the log has said of them
        self._used: dict[Key, float] = {}  # when each was last asked for
        self.changing = threading.RLock()  # held by who changes anything: one load at a time

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def at_hand(self, name: str, version: str = "") -> ServedModel | None:
        """What `ready` gives, where it need not look for it."""
        served = self._snapshot.asked.get((name, version))
        if served is not None:
            self._used[served.card.name, served.card.version] = time.monotonic()
        return served

    def ready(self, name: str, version: str = "") -> ServedModel:
        """The model to answer with, loaded again if it was resting. Raises NotFound, NotReady."""
        served = self.at_hand(name, version)
        if served is None:
            snapshot = self.with_news(name, version)
            entry = snapshot.ready(name, version)
            if isinstance(entry, Resting):
                with self.changing:
                    served = self._awake(self._snapshot.ready(name, str(entry.version)))
            else:
                served = snapshot.asked[name, version] = entry
            self._used[served.card.name, served.card.version] = time.monotonic()
        return served

    def with_news(self, name: str, version: str = "") -> Snapshot:
        """The snapshot; if this version is not in it, after a look at what other processes have brought."""
        try:
            self._snapshot.entry(name, version)
        except NotFound:
            self.follow()
        return self._snapshot

    def load(self) -> Snapshot:
        """Brings the snapshot up to date with the folder; what has not changed there is not loaded again.

        Raises OSError if the folder cannot be listed.
        """
        with self.changing:
            sources, misplaced = find_sources(self._root), find_misplaced(self._root)
            if not sources:
                misplaced.append(Misplaced("", NO_VERSION, f"no model: expected <model>/1/{MODEL} or <model>.onnx"))
            self._look(sources, misplaced, self._snapshot)
            return self._snapshot

    def reload(self, name: str) -> None:
        """Loads every version of a model anew. Raises NotFound, and NotReady if one cannot be loaded."""
        try:
            self._reload(name)
        finally:
            self._tell("load", name)

    def unload(self, name: str) -> None:
        """Takes a model out of service, and out of memory when requests at work are done. Raises NotFound."""
        self.with_news(name)
        self._unload(name)
        self._tell("unload", name)

    def adopt(self, served: ServedModel, source: Source) -> None:
        """Takes in what was loaded elsewhere and now lies at `source`."""
        with self.changing:
            self._make_room(served.card.memory, source.key)
            self._states[source.key] = source.state()
            self._used[source.key] = time.monotonic()
            self._change({source.key: served, (source.name, NO_VERSION): None})
            was_unloaded = source.name in self._unloaded
            self._unloaded.discard(source.name)
            if was_unloaded:
                self._look_at(source.name)
        self._tell("load" if was_unloaded else "change", source.name)

    def forget(self, name: str) -> None:
        """Lets go of the versions of a model that are not in the folder any more."""
        self._look_at(name)
        self._tell("change", name)

    def follow(self) -> None:
        """Does what the server's other processes were asked to do."""
        if self._bulletin is not None:
            self._bulletin.follow({"load": self._reload, "unload": self._unload, "change": self._look_at})

    def judge(self, verdicts: Mapping[Tag, str]) -> None:
        """Takes these out of service, for the reasons given, and takes back what is not among them any more."""
        self._verdicts = {tag.key: (tag.files, why) for tag, why in verdicts.items()}
        held = {entry.name for entry in self._snapshot if isinstance(entry, Quarantined)}
        for name in held | {tag.name for tag in verdicts if tag.name in self._snapshot.models}:
            try:
                self._look_at(name)
            except OSError as error:
                log.error("model %s cannot be looked at: %s", name, error.strerror)

    def _tell(self, event: Event, name: str) -> None:
        if self._bulletin is not None:
            self._bulletin.post(event, name)

    def _reload(self, name: str) -> None:
        with self.changing:
            self._unloaded.discard(name)
            self._trust([key for key in self._verdicts if key[0] == name])
            for key in [key for key in self._states if key[0] == name]:
                del self._states[key]
            self._look_at(name)
            if name not in self._snapshot.models:
                raise NotFound(f"there is no model {name!r}", field="model_name")
            problems = [(e, problem) for e in self._snapshot.models[name].values() if (problem := _problem(e))]
        if problems:
            told = "; ".join(f"{titled(e.name, e.version)} failed to load: {problem}" for e, problem in problems)
            raise NotReady(told, field="model_name")

    def _unload(self, name: str) -> None:
        with self.changing:
            if name not in self._snapshot.models:
                raise NotFound(f"there is no model {name!r}", field="model_name")
            self._unloaded.add(name)
            self._change({(name, v): Unloaded(name, v) for v in self._snapshot.models[name]})
            log.info("model %s is unloaded", name)

    def _look_at(self, name: str) -> None:
        with self.changing:
            sources = find_sources(self._root, name) if NAME.fullmatch(name) else []
            misplaced = find_misplaced(self._root, name) if NAME.fullmatch(name) else []
            self._look(sources, misplaced, (e for e in self._snapshot if e.name == name))

    def _look(self, sources: Sequence[Source], misplaced: Sequence[Misplaced], known: Iterable[Entry]) -> None:
        """Loads what is new or changed of `sources`, and drops what is `known` and not among them or `misplaced`."""
        failed = {(m.name, m.version): Failed(m.name, m.version, m.reason) for m in misplaced if m.name}
        for source in sources:  # a model by this name is found all the same
            failed.pop((source.name, NO_VERSION), None)
        gone = {(e.name, e.version) for e in known} - {source.key for source in sources} - set(failed)
        for key in gone:
            self._states.pop(key, None)
            self._used.pop(key, None)
            log.info("%s is gone", titled(*key))
        self._change(dict.fromkeys(gone))
        self._trust(gone & self._verdicts.keys())
        self._unloaded -= {name for name, _ in gone if name not in self._snapshot.models}
        for reason in {m.reason for m in misplaced} - self._misplaced:
            log.warning("in the folder of models: %s", reason)
        self._misplaced |= {m.reason for m in misplaced}
        new = {key: entry for key, entry in failed.items() if self._snapshot.get(key) != entry}
        self._change({key: entry for key, entry in new.items() if key[0] not in self._unloaded})
        for source in sources:
            self._refresh(source)

    def _refresh(self, source: Source) -> None:
        """Loads a version if its files are others than when it was last loaded."""
        known = self._snapshot.get(source.key)
        if source.name in self._unloaded:
            if not isinstance(known, Unloaded):
                self._change({source.key: Unloaded(source.name, source.version)})
            return
        try:
            state = source.state()
        except OSError as error:
            self._change({source.key: Failed(source.name, source.version, f"cannot be read: {error.strerror}")})
            return
        files, why = self._verdicts.get(source.key, ("", ""))
        if files == fingerprint(state):
            self._states[source.key] = state
            if not isinstance(known, Quarantined):
                self._change({source.key: Quarantined(source.name, source.version, why)})
            return
        as_before = self._states.get(source.key) == state and not isinstance(known, Quarantined)
        if known is not None and not isinstance(known, Unloaded) and as_before:
            return
        self._states[source.key] = state
        if files:
            self._trust([source.key])
        entry = self._loaded(source)
        if isinstance(entry, Failed) and isinstance(known, ServedModel):
            log.error("model %s version %d stays as it was", source.name, source.version)
            entry = replace(known, card=replace(known.card, problem=entry.reason))
        self._change({source.key: entry})

    def _trust(self, keys: Iterable[Key]) -> None:
        trusted = set(keys)
        self._verdicts = {key: verdict for key, verdict in self._verdicts.items() if key not in trusted}
        for key in trusted:
            self._on_trust(key)

    def _awake(self, entry: Ready) -> ServedModel:
        """The version in memory; whoever came first has loaded it for all. Raises NotReady."""
        if isinstance(entry, ServedModel):
            return entry
        key = (entry.name, entry.version)
        source = next((s for s in find_sources(self._root, entry.name) if s.key == key), None)
        loaded: Entry = Failed(*key, "its files are gone") if source is None else self._loaded(source)
        self._change({key: loaded})
        if not isinstance(loaded, ServedModel):
            raise NotReady(f"model {entry.name!r} version {entry.version} cannot be loaded again", field="model")
        return loaded

    def _loaded(self, source: Source) -> ServedModel | Failed:
        place = NOWHERE
        try:
            place = self._board.begin(Tag(*source.key, fingerprint(source.state())).encoded())
            size = source.size()
            self._room.check(size)
            self._make_room(memory_of(size), source.key)
            served = load_served(source)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        except Error as error:
            reason = without_root(str(error), self._root)
        except Exception as error:  # one model must not keep the others from being served
            log.exception("model %s version %d failed to load", source.name, source.version)
            reason = f"unexpected {type(error).__name__}; the server's log has more"
        else:
            log.info("model %s version %d is ready", source.name, source.version)
            self._used[source.key] = time.monotonic()
            return served
        finally:
            self._board.end(place)
        log.error("model %s version %d failed to load: %s", source.name, source.version, reason)
        return Failed(source.name, source.version, reason)

    def _make_room(self, wanted: int, key: Key) -> None:
        """Lets the least recently used models rest until `wanted` more bytes fit. The one of `key` is going anyway."""
        most = self._room.loaded_bytes
        if most is None:
            return
        loaded = [e for e in self._snapshot if isinstance(e, ServedModel) and (e.name, e.version) != key]
        loaded.sort(key=lambda e: self._used.get((e.name, e.version), 0.0), reverse=True)
        resting: dict[Key, Entry | None] = {}
        while loaded and sum(e.card.memory for e in loaded) + wanted > most:
            oldest = loaded.pop()
            resting[oldest.name, oldest.version] = Resting(oldest.card)
            log.info("model %s version %d leaves memory", oldest.name, oldest.version)
        self._change(resting)

    def _change(self, entries: Mapping[Key, Entry | None]) -> None:
        if entries:
            self._snapshot = self._snapshot.with_entries(entries)
            self._on_change(self._snapshot)


def _problem(entry: Entry) -> str:
    if isinstance(entry, Failed):
        return entry.reason
    return entry.card.problem if isinstance(entry, Ready) else ""


def titled(name: str, version: int) -> str:
    """The version, as messages name it; the model, where no version of it can be found."""
    return f"model {name} version {version}" if version != NO_VERSION else f"model {name}"


def without_root(text: str, root: Path) -> str:
    """Callers learn nothing of the host's folders."""
    for folder in (root.resolve(), root.absolute(), root):
        text = text.replace(f"{folder}/", "")
    return text
