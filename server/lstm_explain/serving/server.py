# SPDX-License-Identifier: Apache-2.0
"""Builds the gRPC server of one process, starts it, and stops it once running requests are done."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import grpc

from lstm_explain.errors import Error
from lstm_explain.kernels import background
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving import listening
from lstm_explain.serving.audit.log import AuditLog
from lstm_explain.serving.audit.stream import AuditStream
from lstm_explain.serving.calls import Calls
from lstm_explain.serving.connections import ConnectionGauge
from lstm_explain.serving.drift.monitor import DriftMonitor
from lstm_explain.serving.drift.summaries import windows_file
from lstm_explain.serving.drift.windows import DriftWindows
from lstm_explain.serving.execution.explainer import Explainer
from lstm_explain.serving.loop import Loop
from lstm_explain.serving.models.announcements import SECONDS_BETWEEN_CHECKS as SECONDS_BETWEEN_FOLLOWS
from lstm_explain.serving.models.announcements import Announcements
from lstm_explain.serving.models.imports import Imports
from lstm_explain.serving.models.loader import Loader, ModelMemoryLimits
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.models.quarantine import Quarantine
from lstm_explain.serving.models.routes import Routes
from lstm_explain.serving.models.snapshot import Evicted, Failed, InTrial, Key, Snapshot, Unloaded
from lstm_explain.serving.observability import tracing
from lstm_explain.serving.observability.metrics import DISCARDED, Metrics
from lstm_explain.serving.operations.assembly import keeping
from lstm_explain.serving.receipts.signer import ReceiptSigner
from lstm_explain.serving.registration import SERVICES, register
from lstm_explain.serving.scheduling import compile_time
from lstm_explain.serving.scheduling.admission import Admission, ConcurrencyLimit, Slots, StreamLimit, StreamPermits
from lstm_explain.serving.scheduling.background import BackgroundThreads, lower_priority
from lstm_explain.serving.scheduling.memory_trim import SECONDS_BETWEEN_ROUNDS, MemoryTrimmer
from lstm_explain.serving.scheduling.watchdog import Watchdog
from lstm_explain.serving.security.access import Access
from lstm_explain.serving.security.model_signatures import ModelSignatures
from lstm_explain.serving.security.quotas import Quotas
from lstm_explain.serving.security.tokens import Tokens
from lstm_explain.serving.servicers.explanation import ExplanationServicer
from lstm_explain.serving.servicers.health import NOT_SERVING, SERVING, UNKNOWN, Health
from lstm_explain.serving.servicers.inference import InferenceServicer
from lstm_explain.serving.servicers.models import ModelServicer
from lstm_explain.serving.servicers.operations import OperationServicer
from lstm_explain.serving.settings import Settings
from lstm_explain.serving.shared_board import SharedBoard
from lstm_explain.serving.trials.results import TrialResults
from lstm_explain.serving.trials.trial_runner import TrialRunner
from lstm_explain.serving.warm_up import warm_up
from lstm_explain.serving.wire import check_described, probe_request

if TYPE_CHECKING:
    from lstm_explain.serving.web.site import WebServer

log = logging.getLogger(__name__)

# Threads in addition to those of explanations, so that models are listed and imported while all of those are busy.
SPARE_THREADS = 8
SECONDS_BETWEEN_HEARTBEATS = 0.5
# In this stream, bytes that are not a message get an error of their own instead of ending the stream.
TOLERANT = ("/lstm_explain.v1.ExplanationService/ExplainStream",)
WARM_UP_WORDS = (12, 18, 24)  # lengths of texts, for each of which the engine specialises
# Entries by state, as the metrics name it. `resting` models are ready too, though not in memory.
STATES: dict[str, tuple[type, ...]] = {
    "ready": (ServedModel, Evicted),
    "resting": (Evicted,),
    "unloaded": (Unloaded,),
    "failed": (Failed,),
    "loading": (InTrial,),
}
LIVE = "live"  # the health service for the process itself, whatever it serves


class Server:
    """The server of one process: `warm_up` loads the models, `listen` begins to serve.

    board, quarantine: shared with the parent process. on_release: see ModelManager. descriptors: of stdout and stderr,
    for the audit log.
    """

    def __init__(
        self,
        settings: Settings,
        board: SharedBoard,
        quarantine: Quarantine,
        on_release: Callable[[Key], None] = lambda _: None,
        descriptors: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._settings = settings
        self._board = board
        self._quarantine = quarantine
        self._stopping = threading.Event()
        self._metrics = Metrics()
        self._audit = _audit_log(settings, descriptors, self._metrics)
        self._memory_trimmer = MemoryTrimmer()
        limits = ModelMemoryLimits(settings.max_model_bytes, settings.max_loaded_bytes)
        trials = TrialRunner(settings.trial_limits, TrialResults(settings.trial_results))
        signatures = ModelSignatures(settings.model_signatures, settings.model_signers, self._metrics.signatures)
        self._check_signature = signatures.check
        loader = Loader(limits, trials, check_described, self._check_signature)
        self._models = ModelManager(
            settings.models,
            limits,
            loader=loader,
            board=board,
            announcements=None if settings.announcements is None else Announcements(settings.announcements),
            on_change=self._publish,
            on_unload=self._memory_trimmer.after_unload,
            on_release=on_release,
        )
        self._imports = Imports(settings.models, self._models, loader) if settings.allow_import else None
        self._routes = Routes(settings.models, self._models) if settings.allow_import else None
        self._watchdog = Watchdog(settings.stuck_seconds)
        self._loaded = False
        self._compiled = 0  # kernels at the last warm-up, by other processes
        self._missing = ""  # the required models that are not ready
        self._published: set[str] = set()  # models that have a health status
        self._loop = Loop()
        self._background = BackgroundThreads(settings.max_concurrent + SPARE_THREADS)
        access = Access(Tokens(settings.tokens) if settings.tokens else None, Quotas(settings.quotas))
        self._site = (
            None
            if settings.web is None
            else _site(settings, settings.web, access, self._metrics, self._loop, self._memory_trimmer)
        )
        shared = None if settings.announcements is None else windows_file(settings.announcements)
        self._drift = DriftWindows(shared) if settings.drift_share else None
        self._grpc, self._health = self._loop.run(self._build(access))

    @property
    def models(self) -> ModelManager:
        return self._models

    def warm_up(self) -> None:
        """Loads every model and sends it a few requests. Raises lstm_explain.Error."""
        compile_time.listen()
        log.info("loading the models in %s", self._settings.models)
        self._watchdog.start()
        if self._imports is not None:
            self._imports.clean()
        gc.freeze()  # exempts imported modules from collections, each of which would take as long as a request
        _at_low_priority(self._models.load) if self._settings.gently else self._models.load()
        gc.collect()  # now, rather than during the first request
        self._warm_up_models()
        self._loaded = True
        self._publish(self._models.snapshot)
        self._repeat("kernels", SECONDS_BETWEEN_ROUNDS, self._warm_up_compiled)
        self._repeat("memory trim", SECONDS_BETWEEN_ROUNDS, self._memory_trimmer.trim)
        self._repeat("connections", SECONDS_BETWEEN_ROUNDS, ConnectionGauge(self._settings).check)
        if self._settings.poll_seconds is not None:
            self._repeat("poll", self._settings.poll_seconds, self._models.scan)
        if self._settings.announcements is not None:
            self._repeat("follow", SECONDS_BETWEEN_FOLLOWS, self._models.follow)
        self._loop.call_soon(self._send_heartbeat)

    def listen(self) -> None:
        """Begins to accept connections. Raises lstm_explain.Error."""
        listening.bind(self._grpc, self._settings)
        if self._site is not None:
            self._site.bind()
            self._site.connect(self._grpc)
        self._loop.run(self._grpc.start())
        if self._operations is not None:
            self._loop.call_soon(self._operations.runner.start)
        if self._site is not None:
            self._site.start()

    def stop(self, grace: float) -> None:
        """Reports NOT_SERVING; after the drain delay refuses new calls, and gives running ones `grace` seconds."""
        self._stopping.set()
        self._loop.call_soon(self._health.end)
        time.sleep(self._settings.drain_delay)
        self._loop.call_soon(self._health.close)
        if self._site is not None:
            self._site.close()
        left = None if self._operations is None else self._loop.submit(self._operations.runner.stop(grace))
        self._loop.run(self._grpc.stop(grace))
        if left is not None:
            left.result()
        if self._site is not None:
            self._site.join()
        self._background.shut_down()
        self._loop.close()
        if self._audit is not None:
            self._audit.close()
        tracing.shut_down()

    async def _build(self, access: Access) -> tuple[grpc.aio.Server, Health]:
        """Builds the gRPC server and its services, in the event loop to which they belong."""
        settings, background, health = self._settings, self._background, Health()
        calls = Calls(self._metrics, access, background, TOLERANT, self._audit)
        server = grpc.aio.server(interceptors=[calls], options=listening.options(settings))
        explainer_with = partial(
            Explainer,
            self._models,
            metrics=self._metrics,
            memory_trimmer=self._memory_trimmer,
            board=self._board,
            quarantine=self._quarantine,
            audit=self._audit,
            receipt_of=None if settings.receipt_key is None else ReceiptSigner(settings.receipt_key),
            drift=None if self._drift is None else DriftMonitor(settings.drift_share, self._drift),
        )
        explainer = explainer_with(
            slots=Slots(settings.slots),
            background=background,
            limits=settings.limits,
            most_seconds=settings.max_request_seconds,
            most_samples_later=0 if settings.operations_folder is None else settings.max_operation_samples,
        )
        self._operations = keeping(
            settings, explainer_with, background, self._metrics, self._audit, self._check_signature
        )
        calls_limit = ConcurrencyLimit(settings.max_concurrent, "requests")
        self._admission = admission = Admission(
            calls_limit,
            StreamLimit(settings.max_streams, settings.stream_patience),
            StreamPermits(calls_limit, settings.max_concurrent),
            settings.stream_window,
        )
        waits = ConcurrencyLimit(settings.max_concurrent, "waits")
        register(
            server,
            ExplanationServicer(explainer, admission),
            InferenceServicer(self._models, explainer, admission, settings.required_models),
            ModelServicer(self._models, self._imports, self._routes, settings.import_patience, background),
            OperationServicer(self._operations, admission, waits, background),
            health,
        )
        return server, health

    def _warm_up_compiled(self) -> None:
        """Warms up again once the kernels are compiled that the warm-up ordered: it loads them, and orders those that
        only they call for.
        """
        compiled = background.compiled()
        if compiled > self._compiled:
            self._compiled = compiled
            self._warm_up_models()

    def _warm_up_models(self) -> None:
        """Sends a few requests to each model in memory. No metric counts them."""
        own = Explainer(self._models, Slots(1), DISCARDED, self._background, self._settings.limits, board=self._board)
        servicer = ExplanationServicer(own, self._admission)
        loaded = [entry for entry in self._models.snapshot if isinstance(entry, ServedModel)]
        for entry in loaded:
            self._metrics.expect("Explain", entry.name, entry.default_method.name)
        requests = (probe_request(entry, words) for entry in loaded for words in WARM_UP_WORDS)
        warm_up(servicer, self._loop, self._background, requests)

    def _publish(self, snapshot: Snapshot) -> None:
        """Updates health and metrics. A model is SERVING if it answers requests that name no version, the server if
        everything that is required is ready.
        """
        missing = self._settings.required_models.missing(snapshot)
        statuses = dict.fromkeys(("", *SERVICES), NOT_SERVING if missing else SERVING) | {LIVE: SERVING}
        if self._loaded and missing != self._missing:
            log.warning("the server is not ready: %s", missing) if missing else log.info("the server is ready")
            self._missing = missing
        for name in self._published - set(snapshot.models):
            statuses[f"model/{name}"] = UNKNOWN
        for name in snapshot.models:
            statuses[f"model/{name}"] = SERVING if snapshot.is_ready(name) else NOT_SERVING
        self._published = set(snapshot.models)
        self._loop.call_soon(partial(self._health.set, statuses))
        if self._loaded and self._drift is not None:
            self._drift.keep({(entry.name, entry.version) for entry in snapshot})
        for state, kinds in STATES.items():
            self._metrics.models.labels(state).set(sum(isinstance(entry, kinds) for entry in snapshot))

    def _send_heartbeat(self) -> None:
        """Runs in the event loop, so that heartbeats stop when the loop does."""
        self._board.beat()
        self._loop.call_later(SECONDS_BETWEEN_HEARTBEATS, self._send_heartbeat)

    def _repeat(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        """Calls `work` every `seconds` in a thread of its own, until the server stops."""

        def repeat() -> None:
            while not self._stopping.wait(seconds):
                try:
                    work()
                except OSError as error:
                    log.error("the folder of models cannot be read; loaded models stay in service: %s", error.strerror)
                except Exception:  # the thread must go on
                    log.exception("%s failed", name)

        threading.Thread(target=repeat, name=name, daemon=True).start()


def _at_low_priority(work: Callable[[], object]) -> None:
    """Calls `work` in a thread of low priority, and raises its exceptions here."""
    with ThreadPoolExecutor(1, "load", lower_priority) as thread:
        thread.submit(work).result()


def _audit_log(settings: Settings, descriptors: Mapping[str, int], metrics: Metrics) -> AuditLog | None:
    if settings.audit is None:
        return None
    stream = AuditStream(settings.audit, descriptors.get(settings.audit, -1), metrics)
    return AuditLog(stream, with_inputs=settings.audit_inputs, with_subjects=settings.tls_client_ca is not None)


def _site(
    settings: Settings, address: str, access: Access, metrics: Metrics, loop: Loop, memory_trimmer: MemoryTrimmer
) -> WebServer:
    try:
        from lstm_explain.serving.web.site import WebServer
    except ImportError as error:
        raise Error(f"--web needs the extra `web`: pip install 'lstm-explain[web]' ({error})") from error
    return WebServer(settings, address, access, metrics, loop, memory_trimmer.after_heavy_request)
