"""Builds the server, runs it, and lets it finish what it has begun."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from lstm_explain.errors import Error
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving import listening
from lstm_explain.serving.calls import Calls
from lstm_explain.serving.connections import ConnectionGauge
from lstm_explain.serving.execution.explainer import Explainer
from lstm_explain.serving.loop import Loop
from lstm_explain.serving.models.announcements import SECONDS_BETWEEN_LOOKS as SECONDS_BETWEEN_NEWS
from lstm_explain.serving.models.announcements import Announcements
from lstm_explain.serving.models.imports import Imports
from lstm_explain.serving.models.loading import Loader, ModelMemoryLimits
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.models.quarantine import Quarantine
from lstm_explain.serving.models.snapshot import Evicted, Failed, InTrial, Key, Ready, Snapshot, Unloaded
from lstm_explain.serving.observability import tracing
from lstm_explain.serving.observability.metrics import FORGOTTEN, Metrics
from lstm_explain.serving.registration import Methods
from lstm_explain.serving.scheduling import compile_time
from lstm_explain.serving.scheduling.admission import Admission, ConcurrencyLimit, Slots, StreamLimit, StreamPermits
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.scheduling.memory_trim import SECONDS_BETWEEN_ROUNDS, Housekeeping
from lstm_explain.serving.scheduling.watchdog import Watchdog
from lstm_explain.serving.security.access import Access
from lstm_explain.serving.security.tokens import Tokens
from lstm_explain.serving.servicers.explanation import ExplanationServicer
from lstm_explain.serving.servicers.health import NOT_SERVING, SERVING, UNKNOWN, Health
from lstm_explain.serving.servicers.inference import InferenceServicer
from lstm_explain.serving.servicers.models import ModelServicer
from lstm_explain.serving.servicers.reflection import Pools
from lstm_explain.serving.settings import Settings
from lstm_explain.serving.shared_board import SharedBoard
from lstm_explain.serving.trials.results import TrialResults
from lstm_explain.serving.trials.trials import Trials
from lstm_explain.serving.warm_up import warm_up
from lstm_explain.serving.wire import check_described, probe_request
from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import (
    explanation_pb2,
    explanation_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
)

if TYPE_CHECKING:
    from lstm_explain.serving.web.site import WebServer

log = logging.getLogger(__name__)

SERVICES = (
    explanation_pb2.DESCRIPTOR.services_by_name["ExplanationService"].full_name,
    model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
)
# Threads beside those of explanations, so that lists are answered and models imported when all of these are busy.
SPARE_THREADS = 8
SECONDS_BETWEEN_BEATS = 0.5
LOW_PRIORITY = 10  # as the kernel counts: from 0, the usual one, to 19
# Of this stream a request that is no message is answered like any other bad one.
TOLERANT = ("/lstm_explain.v1.ExplanationService/ExplainStream",)
LENGTHS = (12, 18, 24)  # of texts to rehearse with, in words: the engine prepares itself for each
# By state, as the metrics call it: `resting` is ready too, though not in memory.
STATES: dict[str, tuple[type, ...]] = {
    "ready": (ServedModel, Evicted),
    "resting": (Evicted,),
    "unloaded": (Unloaded,),
    "failed": (Failed,),
    "loading": (InTrial,),
}
LIVE = "live"  # what health calls the process itself, whatever it has to serve
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Server:
    """One process's server: `warm_up` loads the models, `listen` begins to serve.

    board, caution: shared with the process that leads this one. on_trust: see ModelManager.
    """

    def __init__(
        self,
        settings: Settings,
        board: SharedBoard,
        quarantine: Quarantine,
        on_trust: Callable[[Key], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._board = board
        self._caution = quarantine
        self._stopping = threading.Event()
        self._metrics = Metrics()
        self._housekeeping = Housekeeping()
        room = ModelMemoryLimits(settings.max_model_bytes, settings.max_loaded_bytes)
        announcements = None if settings.announcements is None else Announcements(settings.announcements)
        loader = Loader(room, Trials(settings.trial_bounds, TrialResults(settings.verdicts)), check_described)
        leave = self._housekeeping.model_has_left
        self._repository = ModelManager(
            settings.models, room, self._show, announcements, board, on_trust, loader, leave
        )
        self._imports = Imports(settings.models, self._repository, loader) if settings.allow_import else None
        self._watchdog = Watchdog(settings.stuck_seconds)
        self._loaded, self._missing = False, ""  # whether models are; of those that are required
        self._shown: set[str] = set()  # models that health knows
        self._loop = Loop()
        self._beside = BackgroundThreads(settings.max_concurrent + SPARE_THREADS)
        access = Access(Tokens(settings.tokens) if settings.tokens else None)
        self._site = (
            None
            if settings.web is None
            else _site(settings, settings.web, access, self._metrics, self._loop, self._housekeeping)
        )
        self._grpc, self._health = self._loop.run(self._built(access))

    @property
    def repository(self) -> ModelManager:
        return self._repository

    def warm_up(self) -> None:
        """Loads every model and tries it out. Raises lstm_explain.Error."""
        compile_time.follow()
        self._watchdog.start()
        if self._imports is not None:
            self._imports.clean()
        gc.freeze()  # what was imported stays: no collection need look at it, which takes as long as many a request
        _in_background(self._repository.load) if self._settings.gently else self._repository.load()
        gc.collect()  # now, rather than in the first request
        self._rehearse()
        self._loaded = True
        self._show(self._repository.snapshot)
        self._repeat("housekeeping", SECONDS_BETWEEN_ROUNDS, self._housekeeping.give_back)
        self._repeat("connections", SECONDS_BETWEEN_ROUNDS, ConnectionGauge(self._settings).look)
        if self._settings.poll_seconds is not None:
            self._repeat("poll", self._settings.poll_seconds, self._repository.look)
        if self._settings.announcements is not None:
            self._repeat("follow", SECONDS_BETWEEN_NEWS, self._repository.follow)
        self._loop.soon(self._beat)

    def listen(self) -> None:
        """From now on connections come here. Raises lstm_explain.Error."""
        listening.bind(self._grpc, self._settings)
        if self._site is not None:
            self._site.bind()
            self._site.door(self._grpc)
        self._loop.run(self._grpc.start())
        if self._site is not None:
            self._site.start()

    def stop(self, grace: float) -> None:
        """Says NOT_SERVING, and after the drain delay takes no new calls and gives those at work `grace` seconds."""
        self._stopping.set()
        self._loop.soon(self._health.end)
        time.sleep(self._settings.drain_delay)
        self._loop.soon(self._health.close)
        if self._site is not None:
            self._site.close()
        self._loop.run(self._grpc.stop(grace))
        if self._site is not None:
            self._site.join()
        self._beside.shut_down()
        self._loop.close()
        tracing.shut_down()

    async def _built(self, access: Access) -> tuple[grpc.aio.Server, Health]:
        """The server with its services. In the loop, which both belong to."""
        settings, background, health = self._settings, self._beside, Health()
        calls = Calls(self._metrics, access, background, TOLERANT)
        server = grpc.aio.server(interceptors=[calls], options=listening.options(settings))
        explainer = Explainer(
            self._repository,
            Slots(settings.slots),
            self._metrics,
            background,
            settings.limits,
            self._housekeeping,
            settings.max_request_seconds,
            self._board,
            self._caution,
        )
        inside, streams = (
            ConcurrencyLimit(settings.max_concurrent, "requests"),
            StreamLimit(settings.max_streams, settings.stream_patience),
        )
        self._doors = admission = Admission(
            inside, streams, StreamPermits(inside, settings.max_concurrent), settings.stream_window
        )
        methods = Methods(server)
        explanation_pb2_grpc.add_ExplanationServiceServicer_to_server(  # type: ignore[no-untyped-call]
            ExplanationServicer(explainer, admission), methods
        )
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(  # type: ignore[no-untyped-call]
            InferenceServicer(self._repository, explainer, admission, settings.required), methods
        )
        model_pb2_grpc.add_ModelServiceServicer_to_server(  # type: ignore[no-untyped-call]
            ModelServicer(self._repository, self._imports, settings.import_patience, background), methods
        )
        health_pb2_grpc.add_HealthServicer_to_server(health, methods)
        names = (*SERVICES, HEALTH, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer(names, Pools()), methods
        )
        return server, health

    def _rehearse(self) -> None:
        """A few requests to each model that is in memory, which nobody counts."""
        own = Explainer(self._repository, Slots(1), FORGOTTEN, self._beside, self._settings.limits, board=self._board)
        servicer = ExplanationServicer(own, self._doors)
        loaded = [entry for entry in self._repository.snapshot if isinstance(entry, ServedModel)]
        for entry in loaded:
            self._metrics.expect("Explain", entry.name, entry.default_method.name)
        warm_up(
            servicer, self._loop, self._beside, (probe_request(entry, words) for entry in loaded for words in LENGTHS)
        )

    def _show(self, snapshot: Snapshot) -> None:
        """Health and metrics of what is there: of a model SERVING if a version of it is ready, of the server if what is
        required is.
        """
        missing = self._settings.required.missing(snapshot)
        statuses = dict.fromkeys(("", *SERVICES), NOT_SERVING if missing else SERVING) | {LIVE: SERVING}
        if self._loaded and missing != self._missing:
            log.warning("the server is not ready: %s", missing) if missing else log.info("the server is ready")
            self._missing = missing
        for name in self._shown - set(snapshot.models):
            statuses[f"model/{name}"] = UNKNOWN
        for name, versions in snapshot.models.items():
            ready = any(isinstance(entry, Ready) for entry in versions.values())
            statuses[f"model/{name}"] = SERVING if ready else NOT_SERVING
        self._shown = set(snapshot.models)
        self._loop.soon(partial(self._health.set, statuses))
        for state, kinds in STATES.items():
            self._metrics.models.labels(state).set(sum(isinstance(entry, kinds) for entry in snapshot))

    def _beat(self) -> None:
        """In the loop, every so often for as long as the loop goes round."""
        self._board.beat()
        self._loop.later(SECONDS_BETWEEN_BEATS, self._beat)

    def _repeat(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        """Does `work` every so often, in a thread of its own, until the server stops."""

        def repeat() -> None:
            while not self._stopping.wait(seconds):
                try:
                    work()
                except OSError as error:
                    log.error("the folder of models cannot be read, what is loaded goes on: %s", error.strerror)
                except Exception:  # a thread that died of it would look no more
                    log.exception("%s failed", name)

        threading.Thread(target=repeat, name=name, daemon=True).start()


def _in_background(work: Callable[[], object]) -> None:
    """Does it in a thread that lets all others have the processors first. What it raises is raised here."""
    with ThreadPoolExecutor(1, "load", partial(os.setpriority, os.PRIO_PROCESS, 0, LOW_PRIORITY)) as thread:
        thread.submit(work).result()


def _site(
    settings: Settings, address: str, access: Access, metrics: Metrics, loop: Loop, housekeeping: Housekeeping
) -> WebServer:
    try:
        from lstm_explain.serving.web.site import WebServer
    except ImportError as error:
        raise Error(f"--web takes the extra web: pip install 'lstm-explain[web]' ({error})") from error
    return WebServer(settings, address, access, metrics, loop, housekeeping.much_was_used)
