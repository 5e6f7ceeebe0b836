"""Several processes behind one port. One that dies comes back; the others go on meanwhile."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from prometheus_client import CollectorRegistry, ProcessCollector, multiprocess, start_http_server

from lstm_explain.errors import Error
from lstm_explain.service import logs
from lstm_explain.service.listening import Addresses, page_url
from lstm_explain.service.processes import Processes
from lstm_explain.service.scratch import scratch
from lstm_explain.service.settings import ENV_PREFIX, Settings, split_address, unknown_variables
from lstm_explain.service.stopping import Stopping

log = logging.getLogger(__name__)

READY = b"lstm-explain ready on "
SHORT_LIFE = 5.0  # seconds; a worker that lives shorter is started again only after a pause
PAUSE = 1.0
SECONDS_BEYOND_GRACE = 5.0

Worker = subprocess.Popen[bytes]


class Workers:
    """The processes of one server. `start` returns when all of them are ready."""

    def __init__(self, settings: Settings, environment: dict[str, str], metrics_folder: str) -> None:
        self._settings = settings
        self._environment = environment
        self._metrics_folder = metrics_folder
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._running: set[Worker] = set()
        self.replaced = 0  # workers that ended before they should

    def start(self) -> None:
        """Raises lstm_explain.Error if a worker ends before it is ready."""
        first = self._launch()  # alone: it fills the cache of compiled kernels that the others read
        others = [] if first is None else [self._launch(wait=False) for _ in range(self._settings.workers - 1)]
        workers = [first, *(w if w is not None and _becomes_ready(w) else None for w in others)]
        for worker in workers:
            if worker is None:
                self.stop()
                raise Error("a worker ended before it was ready; the log says why")
            threading.Thread(target=self._keep, args=(worker,), daemon=True).start()

    def stop(self) -> None:
        """Lets every worker finish what it has begun."""
        with self._lock:
            self._stopping.set()
            running = set(self._running)
        for worker in running:
            worker.send_signal(signal.SIGTERM)
        end = time.monotonic() + self._settings.drain_delay + self._settings.grace_period + SECONDS_BEYOND_GRACE
        for worker in running:
            try:
                worker.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()

    def processes(self) -> list[int]:
        """Of the workers that are there at the moment."""
        with self._lock:
            return [worker.pid for worker in self._running]

    def _launch(self, *, wait: bool = True) -> Worker | None:
        """A new worker; None if it ends before it is ready, or everything is stopping."""
        command = [sys.executable, "-m", "lstm_explain.cli", "serve"]
        with self._lock:
            if self._stopping.is_set():
                return None
            worker = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE)
            self._running.add(worker)
        return worker if not wait or _becomes_ready(worker) else None

    def _keep(self, worker: Worker) -> None:
        """Replaces the worker whenever it ends."""
        current: Worker | None = worker
        while not self._stopping.is_set():
            started = time.monotonic()
            if current is not None:
                code = current.wait()
                with self._lock:
                    self._running.discard(current)
                    self.replaced += not self._stopping.is_set()
                multiprocess.mark_process_dead(current.pid, self._metrics_folder)  # type: ignore[no-untyped-call]
                if not self._stopping.is_set():
                    log.error("worker %d ended with %d, another one takes its place", current.pid, code)
            if time.monotonic() - started < SHORT_LIFE:
                self._stopping.wait(PAUSE)
            current = self._launch()


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; prints one line when ready. Raises lstm_explain.Error if it cannot start."""
    logs.set_up(settings.log_level, settings.log_format)
    for name in unknown_variables():
        log.warning("%s is not a setting", name)
    stopping = Stopping()
    with (
        _reserved(settings.listen) as address,
        nullcontext() if settings.web is None else _reserved(settings.web) as web,
        scratch() as folder,
    ):
        workers = Workers(settings, _environment(settings, address, web, folder), folder)
        _start_metrics(settings, folder, workers)
        workers.start()
        page = None if web is None else page_url(web, encrypted=settings.tls_cert is not None)
        Addresses(address, page).tell()
        stopping.wait()
        log.info("stopping; requests at work have %g seconds to finish", settings.grace_period)
        workers.stop()


@contextmanager
def _reserved(address: str) -> Iterator[str]:
    """The address with the port that all workers share, kept ours while they come and go."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as reservation:
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reservation.bind(where)  # and never listens, so that no connection comes here
            yield f"{host}:{reservation.getsockname()[1]}"
    except OSError as error:
        raise Error(f"cannot listen on {address}: {error.strerror}") from error


def _environment(settings: Settings, address: str, web: str | None, folder: str) -> dict[str, str]:
    """The settings of one worker, as environment variables."""
    own = settings.model_dump(exclude={"metrics_listen"}, exclude_none=True)
    processors = len(os.sched_getaffinity(0))
    own |= {"listen": address, "reuse_port": True, "workers": 1, "parent": os.getpid()}
    if web is not None:
        own["web"] = web
    own["bulletin"] = f"{folder}/bulletin"
    own.setdefault("parallel", max(1, processors // settings.workers))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    python_path = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    metrics = {"PROMETHEUS_MULTIPROC_DIR": folder}
    return inherited | python_path | metrics | {ENV_PREFIX + key.upper(): str(value) for key, value in own.items()}


def _start_metrics(settings: Settings, folder: str, workers: Workers) -> None:
    if settings.metrics_listen is None:
        return
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
    ProcessCollector(registry=registry)
    registry.register(Processes(lambda: [os.getpid(), *workers.processes()], lambda: workers.replaced))
    host, port = split_address(settings.metrics_listen)
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        raise Error(f"cannot listen on {settings.metrics_listen}: {error.strerror}") from error


def _becomes_ready(worker: Worker) -> bool:
    assert worker.stdout is not None
    return worker.stdout.readline().startswith(READY)
