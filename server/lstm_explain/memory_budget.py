# SPDX-License-Identifier: Apache-2.0
"""Finds out how much memory is available, and how much of it each part of a server may use by default."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
# For the process that holds the port, the libraries that all processes map, and the process that tries models.
# `python scripts/capacity.py` measures what a whole server takes.
SHARED = 272 * MIB
# Private memory of each worker that has used every method and did not have to compile kernels.
PROCESS = 192 * MIB
SPARES = 1  # Workers in addition to those that serve: one waits to replace a worker.
HEADROOM = 0.9  # Share of the available memory; the allocator, gRPC and the page cache take the rest.
MIN_REQUEST, MAX_REQUEST = 64 * MIB, 4096 * MIB
BEYOND_ESTIMATE = 1.5  # A request may take this many times its estimate.


@dataclass(frozen=True)
class MemoryBudget:
    """parallel: how many requests one worker computes at a time. request: bytes that each may take by estimate.
    runtime: bytes for ONNX Runtime in one worker.
    """

    parallel: int
    request: int
    runtime: int


def memory_budget(
    workers: int, parallel: int | None, processors: int, memory: int | None = None, *, beside: int = 0
) -> MemoryBudget:
    """Returns the share of each of `workers` processes.

    parallel: as configured; None: as many as processors and memory allow. memory: by default `available_memory`. What
    the processes take when idle is subtracted; the rest is for the requests that compute at the same time. beside: how
    many operations each worker computes beside its requests.
    """
    whole = available_memory() if memory is None else memory
    rest = int((HEADROOM * whole - bytes_when_idle(workers)) / BEYOND_ESTIMATE)
    if parallel is None:
        parallel = max(1, min(processors // workers, rest // (workers * MIN_REQUEST)))
    request = min(max(rest // (workers * (parallel + beside)), MIN_REQUEST), MAX_REQUEST)
    return MemoryBudget(parallel, request, max(whole // 2 // workers, MIN_REQUEST))


def bytes_when_idle(workers: int) -> int:
    """Returns the bytes that an idle server takes."""
    return SHARED + (workers + SPARES) * PROCESS


def available_memory() -> int:
    """Returns the bytes that this process and its children may use.

    This is the memory of the machine, or less where a control group (version 1 or 2, or one that encloses it) or a
    resource limit says so.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, *_control_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")), *_resource_limits())


def _resource_limits() -> Iterator[int]:
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft


def _control_groups(membership: Path, root: Path) -> Iterator[int]:
    """Limits of the process's control groups and of all enclosing ones, which `membership` names below `root`.

    Inside a container the names may be those of the host; the limits that apply are then at the root.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    groups = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    for _, controllers, path in [*groups, ("0", "", "/"), ("1", "memory", "/")]:
        if controllers and "memory" not in controllers.split(","):
            continue
        base, file = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # This group does not exist here, or it has no limit ("max").
                yield int((folder / file).read_text())
            if folder == base:
                break
