"""What is served: loads what lies in the folder of models, anew where it changes, and no more than fits into memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lstm_explain.cancellation import Cancelled
from lstm_explain.errors import Error
from lstm_explain.repository.misplaced import NO_VERSION, Misplaced, find_misplaced
from lstm_explain.repository.model_folder import MODEL, NAME, Source, State, Tag, find_sources, fingerprint
from lstm_explain.repository.served_model import ServedModel, memory_of
from lstm_explain.serving.errors import NotFound, NotReady
from lstm_explain.serving.models.announcements import Announcements, Event
from lstm_explain.serving.models.loading import (
    SECONDS_BETWEEN_LOOKS,
    Loader,
    LoaderThreads,
    ModelMemoryLimits,
    VersionLoading,
)
from lstm_explain.serving.models.snapshot import (
    Entry,
    Evicted,
    Failed,
    InTrial,
    Key,
    Quarantined,
    Ready,
    Snapshot,
    Unloaded,
)
from lstm_explain.serving.shared_board import SharedBoard
from lstm_explain.serving.trials.trials import Trial

log = logging.getLogger(__name__)


class ModelManager:
    """Serves an immutable snapshot, which every change swaps for another: a request keeps what it began with.

    Versions are tried and loaded in threads of their own, so nothing waits for one but who asked for it.

    on_change: called after every change, with the new snapshot. on_leave: called when a model has left memory.
    bulletin: of the server's other processes, if any. loader: by default one that tries nothing. board: where a load
    is marked while it goes on. on_trust: called with what was in quarantine and is not to be any more, since somebody
    has loaded it or its files have changed or gone.
    """

    def __init__(
        self,
        root: Path,
        room: ModelMemoryLimits = ModelMemoryLimits(),  # noqa: B008 - frozen
        on_change: Callable[[Snapshot], None] = lambda _: None,
        announcements: Announcements | None = None,
        board: SharedBoard | None = None,
        on_trust: Callable[[Key], None] = lambda _: None,
        loader: Loader | None = None,
        on_leave: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = root
        self._room = room
        self._on_change = on_change
        self._on_leave = on_leave
        self._bulletin = announcements
        self._board = board or SharedBoard()
        self._on_trust = on_trust
        self._verdicts: Mapping[Key, tuple[str, str]] = {}
        self._loader = loader or Loader(room)
        self._snapshot = Snapshot()
        self._states: dict[Key, State] = {}  # of the files as they were when last loaded, well or not
        self._unloaded: set[str] = set() if announcements is None else announcements.unloaded()
        self._misplaced: set[str] = set()  # what the log has said of them
        self._used: dict[Key, float] = {}  # when each was last asked for
        self._loading: dict[Key, VersionLoading] = {}
        self._hands = LoaderThreads()
        self.changing = threading.RLock()  # held by who changes anything, and never while a model is tried or loaded

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
            if isinstance(entry, Evicted):
                served = self._awake((entry.name, entry.version))
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

        Does not wait for models whose trial goes on for long, as soon as others can be served. Raises OSError if the
        folder cannot be listed.
        """
        self._wait(self.look())
        return self._snapshot

    def look(self) -> list[VersionLoading]:
        """The same, and waits for nothing."""
        with self.changing:
            sources, misplaced = find_sources(self._root), find_misplaced(self._root)
            if not sources:
                misplaced.append(Misplaced("", NO_VERSION, f"no model: expected <model>/1/{MODEL} or <model>.onnx"))
            return self._look(sources, misplaced, self._snapshot)

    def settle(self, name: str) -> None:
        """Waits for the versions of a model that are being loaded."""
        with self.changing:
            loadings = [loading for key, loading in self._loading.items() if key[0] == name]
        self._wait(loadings)

    def reload(self, name: str) -> None:
        """Loads every version of a model anew. Raises NotFound, and NotReady if one cannot be loaded."""
        try:
            for loading in self._begin_again(name):
                loading.done.wait()
            self._refuse_problems(name)
        finally:
            self._tell("load", name)

    def unload(self, name: str) -> None:
        """Takes a model out of service, and out of memory when requests at work are done. Raises NotFound."""
        self.with_news(name)
        self._unload(name)
        self._tell("unload", name)

    def adopt(self, served: ServedModel, source: Source) -> None:
        """Takes in what was loaded elsewhere and now lies at `source`. For versions that come with it, `settle`."""
        self._loader.passed(source)
        with self.changing:
            self._make_room(served.card.memory, source.key)
            self._states[source.key] = source.state()
            self._used[source.key] = time.monotonic()
            self._change({source.key: served, (source.name, NO_VERSION): None})
            was_unloaded = source.name in self._unloaded
            self._unloaded.discard(source.name)
            if was_unloaded:
                self._look_for(source.name)
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
        self._wait(self._begin_again(name))
        self._refuse_problems(name)

    def _begin_again(self, name: str) -> list[VersionLoading]:
        with self.changing:
            self._unloaded.discard(name)
            self._trust([key for key in self._verdicts if key[0] == name])
            for key in [key for key in self._states if key[0] == name]:
                del self._states[key]
            for key in [key for key in self._loading if key[0] == name]:
                self._give_up(key)
            loadings = self._look_for(name, again=True)
            if not loadings and name not in self._snapshot.models:
                raise NotFound(f"there is no model {name!r}", field="model_name")
            return loadings

    def _refuse_problems(self, name: str) -> None:
        versions = self._snapshot.models.get(name, {}).values()
        problems = [(e, problem) for e in versions if (problem := _problem(e))]
        if problems:
            told = "; ".join(f"{titled(e.name, e.version)} failed to load: {problem}" for e, problem in problems)
            raise NotReady(told, field="model_name")

    def _unload(self, name: str) -> None:
        with self.changing:
            if name not in self._snapshot.models:
                raise NotFound(f"there is no model {name!r}", field="model_name")
            self._unloaded.add(name)
            for key in [key for key in self._loading if key[0] == name]:
                self._give_up(key)
            self._change({(name, v): Unloaded(name, v) for v in self._snapshot.models[name]})
            log.info("model %s is unloaded", name)

    def _look_at(self, name: str) -> None:
        self._wait(self._look_for(name))

    def _look_for(self, name: str, *, again: bool = False) -> list[VersionLoading]:
        with self.changing:
            sources = find_sources(self._root, name) if NAME.fullmatch(name) else []
            misplaced = find_misplaced(self._root, name) if NAME.fullmatch(name) else []
            return self._look(sources, misplaced, (e for e in self._snapshot if e.name == name), again=again)

    def _wait(self, loadings: Iterable[VersionLoading]) -> None:
        """Until each is done, or slow while something else can be served."""
        for loading in loadings:
            while not loading.done.wait(SECONDS_BETWEEN_LOOKS):
                if loading.slow and any(isinstance(entry, Ready) for entry in self._snapshot):
                    break

    def _look(
        self, sources: Sequence[Source], misplaced: Sequence[Misplaced], known: Iterable[Entry], *, again: bool = False
    ) -> list[VersionLoading]:
        """Begins to load what is new or changed of `sources`, and drops what is `known` and not among them or
        `misplaced`.
        """
        failed = {(m.name, m.version): Failed(m.name, m.version, m.reason) for m in misplaced if m.name}
        for source in sources:  # a model by this name is found all the same
            failed.pop((source.name, NO_VERSION), None)
        gone = {(e.name, e.version) for e in known} - {source.key for source in sources} - set(failed)
        for key in gone:
            self._states.pop(key, None)
            self._used.pop(key, None)
            self._give_up(key)
            log.info("%s is gone", titled(*key))
        self._change(dict.fromkeys(gone))
        self._trust(gone & self._verdicts.keys())
        self._unloaded -= {name for name, _ in gone if name not in self._snapshot.models}
        for reason in {m.reason for m in misplaced} - self._misplaced:
            log.warning("in the folder of models: %s", reason)
        self._misplaced |= {m.reason for m in misplaced}
        new = {key: entry for key, entry in failed.items() if self._snapshot.get(key) != entry}
        self._change({key: entry for key, entry in new.items() if key[0] not in self._unloaded})
        loadings: list[VersionLoading] = []
        for source in sources:
            loading = self._refresh(source, loadings[-1] if loadings else None, again=again)
            if loading is not None:
                loadings.append(loading)
        return loadings

    def _refresh(self, source: Source, after: VersionLoading | None, *, again: bool) -> VersionLoading | None:
        """Begins to load a version if its files are others than when it was last loaded."""
        known = self._snapshot.get(source.key)
        if source.name in self._unloaded:
            if not isinstance(known, Unloaded):
                self._change({source.key: Unloaded(source.name, source.version)})
            return None
        try:
            state = source.state()
        except OSError as error:
            self._change({source.key: Failed(source.name, source.version, f"cannot be read: {error.strerror}")})
            return None
        files, why = self._verdicts.get(source.key, ("", ""))
        if files == fingerprint(state):
            self._states[source.key] = state
            self._give_up(source.key)
            if not isinstance(known, Quarantined):
                self._change({source.key: Quarantined(source.name, source.version, why)})
            return None
        if files:
            self._trust([source.key])
        settled = isinstance(known, Ready | Failed) and not isinstance(known, Quarantined)
        if settled and source.key not in self._loading and self._states.get(source.key) == state:
            return None
        return self._begin(source, state, after, again=again)

    def _trust(self, keys: Iterable[Key]) -> None:
        trusted = set(keys)
        self._verdicts = {key: verdict for key, verdict in self._verdicts.items() if key not in trusted}
        for key in trusted:
            self._on_trust(key)

    def _begin(
        self, source: Source, state: State, after: VersionLoading | None = None, *, again: bool = False
    ) -> VersionLoading:
        """Has the version loaded; joins those who wait for the same."""
        coming = self._loading.get(source.key)
        if coming is not None and coming.state == state:
            return coming
        self._give_up(source.key)
        loading = self._loading[source.key] = VersionLoading(source, state, again, after)
        self._hands.do(lambda: self._bring(loading))
        return loading

    def _give_up(self, key: Key) -> None:
        """What is being loaded there is not taken in."""
        loading = self._loading.pop(key, None)
        if loading is not None:
            loading.cancelled = True
            if isinstance(self._snapshot.get(key), InTrial):
                self._change({key: None})

    def _bring(self, loading: VersionLoading) -> None:
        """In a thread of its own."""
        source = loading.source
        try:
            entry = self._loaded(loading)
            with self.changing:
                if self._loading.get(source.key) is loading:
                    del self._loading[source.key]
                    if source.model_file.is_file():  # else it is gone, as the next look will find
                        self._states[source.key] = loading.state
                        loading.entry = self._taken_in(source, entry)
        except Cancelled:
            log.info("model %s version %d is not wanted any more", source.name, source.version)
        finally:
            loading.done.set()

    def _taken_in(self, source: Source, entry: ServedModel | Failed) -> Entry:
        known, taken = self._snapshot.get(source.key), entry
        if isinstance(entry, ServedModel):
            self._make_room(entry.card.memory, source.key)
            self._used[source.key] = time.monotonic()
            log.info("model %s version %d is ready", source.name, source.version)
        elif isinstance(known, ServedModel):
            log.error("model %s version %d stays as it was", source.name, source.version)
            taken = replace(known, card=replace(known.card, problem=entry.reason))
        self._change({source.key: taken})
        return taken

    def _awake(self, key: Key) -> ServedModel:
        """A version that was resting, in memory again; whoever came first loads it for all. Raises NotReady."""
        with self.changing:
            entry = self._snapshot.ready(key[0], str(key[1]))
            if isinstance(entry, ServedModel):
                return entry
            source = next((s for s in find_sources(self._root, key[0]) if s.key == key), None)
            loading = None if source is None else self._begin(source, source.state())
            if loading is None:
                self._change({key: Failed(*key, "its files are gone")})
        if loading is not None:
            loading.done.wait()
            if isinstance(loading.entry, ServedModel):
                return loading.entry
        raise NotReady(f"model {key[0]!r} version {key[1]} cannot be loaded again", field="model")

    def _loaded(self, loading: VersionLoading) -> ServedModel | Failed:
        """Raises Cancelled when nobody wants it any more."""
        source = loading.source

        def begun(trial: Trial) -> None:
            loading.trial = trial

        def check() -> None:
            loading.check()
            if loading.slow:
                self._show_coming(loading)

        @contextmanager
        def marked() -> Iterator[None]:
            place = self._board.begin(Tag(*source.key, fingerprint(source.state())).encoded())
            try:
                yield
            finally:
                self._board.end(place)

        def make_room(size: int) -> None:
            loading.wait_for_turn()
            with self.changing:
                self._make_room(memory_of(size), source.key)

        try:
            return self._loader.served(
                source, again=loading.again, check=check, begun=begun, before=make_room, around=marked
            )
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        except Error as error:
            reason = without_root(str(error), self._root)
        except Exception as error:  # one model must not keep the others from being served
            log.exception("model %s version %d failed to load", source.name, source.version)
            reason = f"unexpected {type(error).__name__}; the server's log has more"
        log.error("model %s version %d failed to load: %s", source.name, source.version, reason)
        return Failed(source.name, source.version, reason)

    def _show_coming(self, loading: VersionLoading) -> None:
        """Lists a version whose trial goes on for long, unless something else is known of it."""
        key = loading.source.key
        with self.changing:
            if self._loading.get(key) is loading and self._snapshot.get(key) is None:
                log.warning("the trial of model %s version %d goes on for long", *key)
                self._change({key: InTrial(*key)})

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
            resting[oldest.name, oldest.version] = Evicted(oldest.card)
            log.info("model %s version %d leaves memory", oldest.name, oldest.version)
        self._change(resting)

    def _change(self, entries: Mapping[Key, Entry | None]) -> None:
        if entries:
            leave = any(isinstance(self._snapshot.get(key), ServedModel) for key in entries)
            self._snapshot = self._snapshot.with_entries(entries)
            self._on_change(self._snapshot)
            if leave:
                self._on_leave()


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
