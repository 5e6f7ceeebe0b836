"""The process that `serve` is: it holds the port, starts the workers and brings their logs and metrics together."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector, multiprocess

from lstm_explain.errors import Error
from lstm_explain.serving import connections
from lstm_explain.serving.observability import logs
from lstm_explain.serving.observability.metrics_port import expose
from lstm_explain.serving.observability.process_metrics import ProcessMetrics
from lstm_explain.serving.processes.stop_signal import StopSignal
from lstm_explain.serving.processes.worker_pool import Workers
from lstm_explain.serving.scratch import scratch
from lstm_explain.serving.settings import ENV_PREFIX, Settings, is_loopback, split_address, unknown_variables

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; says so on stdout when it is ready. Raises lstm_explain.Error."""
    stopping = StopSignal()
    with ExitStack() as stack:
        pump = stack.enter_context(logs.collecting(settings.log_level, settings.log_format))
        for name in unknown_variables():
            log.warning("%s is not a setting", name)
        _warn_of_open_ports(settings)
        connections.raise_limit_of_files()
        if (most := connections.most(settings)) < settings.max_connections:
            log.warning("the limit of open files allows %d connections, not %d", most, settings.max_connections)
        address = stack.enter_context(_reserved(settings.listen, settings.reuse_port))
        web = None if settings.web is None else stack.enter_context(_reserved(settings.web, settings.reuse_port))
        folder = stack.enter_context(scratch())
        workers = Workers(settings, _environment(settings, address, web, folder), folder, pump)
        _expose(settings, folder, workers)

        def ready() -> None:
            logs.say(settings.log_format, f"lstm-explain ready on {address}")
            if web is not None:
                scheme = "http" if settings.tls_cert is None else "https"
                logs.say(settings.log_format, f"lstm-explain page on {scheme}://{web}/")

        stack.callback(workers.stop)
        workers.serve(lambda: stopping.told or _left(settings), ready)
        log.info("stopping; requests at work have %g seconds to finish", settings.grace_period)


def _left(settings: Settings) -> bool:
    """Whether the process that started this one, and is to be there as long as this one is, has gone."""
    return settings.parent is not None and os.getppid() != settings.parent


def _warn_of_open_ports(settings: Settings) -> None:
    for what, address in (("listening", settings.listen), ("the page is", settings.web)):
        if address is not None and settings.tls_cert is None and not is_loopback(address):
            log.warning("%s on %s without encryption, as asked", what, address)


@contextmanager
def _reserved(address: str, shared: bool) -> Iterator[str]:
    """The address with the port that all workers share, kept ours while they come and go.

    shared: with other servers, too.
    """
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as reservation:
            if shared:
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(reservation, where)
            # Workers may bind it too from now on. The reservation never listens, so that no connection comes here.
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            yield f"{host}:{reservation.getsockname()[1]}"
    except OSError as error:
        raise Error(f"cannot listen on {address}: {error.strerror}") from error


def _bind(reservation: socket.socket, where: object) -> None:
    """Binds it, if nobody else has. Old connections that linger on the port do not count."""
    try:
        reservation.bind(where)  # type: ignore[arg-type]
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(where)  # type: ignore[arg-type]


def _environment(settings: Settings, address: str, web: str | None, folder: str) -> dict[str, str]:
    """The settings of one worker, as environment variables."""
    own = settings.model_dump(exclude={"metrics_listen"}, exclude_none=True)
    processors = len(os.sched_getaffinity(0))
    own |= {"listen": address, "reuse_port": True, "workers": 1, "parent": os.getpid()}
    if web is not None:
        own["web"] = web
    own["announcements"] = f"{folder}/bulletin"
    own.setdefault("parallel", max(1, processors // settings.workers))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    python_path = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    metrics = {"PROMETHEUS_MULTIPROC_DIR": folder}
    return inherited | python_path | metrics | {ENV_PREFIX + key.upper(): str(value) for key, value in own.items()}


def _expose(settings: Settings, folder: str, workers: Workers) -> None:
    """Raises Error."""
    if settings.metrics_listen is None:
        return
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
    ProcessCollector(registry=registry)
    registry.register(ProcessMetrics(lambda: [os.getpid(), *workers.processes()], workers.counts))
    expose(registry, settings.metrics_listen)
