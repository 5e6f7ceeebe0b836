# SPDX-License-Identifier: Apache-2.0
"""Runs the parent process of `serve`: it holds the port, starts the workers, and collects their logs and metrics."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector

from lstm_explain.kernels.background import MODE
from lstm_explain.kernels.cache import COMPILED_FOR
from lstm_explain.serving import connections
from lstm_explain.serving.addresses import cannot_listen, is_loopback, resolve, split_address
from lstm_explain.serving.audit.destination import check_writable
from lstm_explain.serving.command_line import unknown_variables
from lstm_explain.serving.drift import summaries
from lstm_explain.serving.drift.summaries import windows_file
from lstm_explain.serving.observability import logs
from lstm_explain.serving.observability.metrics_port import serve_metrics
from lstm_explain.serving.observability.process_metrics import ProcessMetrics
from lstm_explain.serving.observability.shared_values import SharedValues
from lstm_explain.serving.processes.stop_signal import StopSignal
from lstm_explain.serving.processes.worker_pool import WorkerPool
from lstm_explain.serving.scratch import scratch_folder
from lstm_explain.serving.settings import ENV_PREFIX, Settings

log = logging.getLogger(__name__)

ANNOUNCEMENTS = "announcements"  # a file in the folder that the processes share, see Settings


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, and prints a line when it is ready. Raises lstm_explain.Error."""
    stop_signal = StopSignal()
    with ExitStack() as stack:
        output = stack.enter_context(logs.capture_output(settings.log_level, settings.log_format))
        for name in unknown_variables():
            log.warning("the environment variable %s is not a setting", name)
        _warn_of_open_ports(settings)
        connections.raise_file_limit()
        if (most := connections.max_connections(settings)) < settings.max_connections:
            log.warning("the limit of open files allows %d connections, not %d", most, settings.max_connections)
        check_writable(settings.audit)
        address = stack.enter_context(_reserved(settings.listen, settings.reuse_port))
        web = None if settings.web is None else stack.enter_context(_reserved(settings.web, settings.reuse_port))
        folder = stack.enter_context(scratch_folder())
        workers = WorkerPool(settings, _worker_environment(settings, address, web, folder), folder, output)
        _serve_metrics(settings, folder, workers)

        def ready() -> None:
            logs.announce(settings.log_format, f"lstm-explain ready on {address}")
            if web is not None:
                scheme = "http" if settings.tls_cert is None else "https"
                logs.announce(settings.log_format, f"lstm-explain page on {scheme}://{web}/")

        stack.callback(workers.stop)
        workers.serve(lambda: stop_signal.received or _orphaned(settings), ready)
        log.info("stopping; running requests have %g seconds to finish", settings.grace_period)


def _orphaned(settings: Settings) -> bool:
    """Returns whether the process that --parent names is no longer the parent of this one."""
    return settings.parent is not None and os.getppid() != settings.parent


def _warn_of_open_ports(settings: Settings) -> None:
    for what, address in (("gRPC", settings.listen), ("the page", settings.web)):
        if address is not None and settings.tls_cert is None and not is_loopback(address):
            log.warning("%s is served on %s without encryption (--insecure-listen)", what, address)


@contextmanager
def _reserved(address: str, shared: bool) -> Iterator[str]:
    """Reserves the port that the workers share while they come and go; yields the address with the actual port.

    shared: with other servers, too.
    """
    try:
        family, where = resolve(address)
        with socket.socket(family, socket.SOCK_STREAM) as reservation:
            if shared:
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(reservation, where)
            # From now on workers may bind the port too. The reservation never listens, so it gets no connections.
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            yield f"{split_address(address)[0]}:{reservation.getsockname()[1]}"
    except OSError as error:
        raise cannot_listen(address, error) from error


def _bind(reservation: socket.socket, where: object) -> None:
    """Binds the address unless another socket has it; closed connections that linger on the port do not count."""
    try:
        reservation.bind(where)  # type: ignore[arg-type]
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(where)  # type: ignore[arg-type]


def _worker_environment(settings: Settings, address: str, web: str | None, folder: str) -> dict[str, str]:
    """Returns the settings of one worker, as environment variables."""
    own = settings.model_dump(exclude={"metrics_listen"}, exclude_none=True)
    processors = len(os.sched_getaffinity(0))
    own |= {"listen": address, "reuse_port": True, "workers": 1, "parent": os.getpid()}
    if web is not None:
        own["web"] = web
    own["announcements"] = f"{folder}/{ANNOUNCEMENTS}"
    own.setdefault("parallel", max(1, processors // settings.workers))
    # No settings: the image says with COMPILED_FOR which processors its kernels are compiled for.
    others = (COMPILED_FOR, MODE)
    inherited = {k: value for k, value in os.environ.items() if k in others or not k.startswith(ENV_PREFIX)}
    python_path = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    metrics = {"PROMETHEUS_MULTIPROC_DIR": folder}
    return inherited | python_path | metrics | {ENV_PREFIX + key.upper(): str(value) for key, value in own.items()}


def _serve_metrics(settings: Settings, folder: str, workers: WorkerPool) -> None:
    """Raises Error."""
    if settings.metrics_listen is None:
        return
    registry = CollectorRegistry()
    SharedValues(registry, path=folder)  # type: ignore[no-untyped-call]
    ProcessCollector(registry=registry)
    windows = windows_file(Path(folder) / ANNOUNCEMENTS)
    registry.register(
        ProcessMetrics(lambda: [os.getpid(), *workers.pids()], workers.counts, lambda: summaries.read(windows))
    )
    serve_metrics(registry, settings.metrics_listen)
