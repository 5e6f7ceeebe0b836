"""How much memory there is, and how much of it each part of a server may use by default."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
# The process that holds the port, the libraries that all map, and the process in which models are tried: measured 28,
# 132 and 85 with the bundled models.
SHARED = 272 * MIB
# Of each worker its own: measured 128 at first, 160 once it had used every method, 300 where it had to compile kernels.
PROCESS = 192 * MIB
SPARES = 1  # workers beside those that serve: it waits to take a worker's place
HEADROOM = 0.9  # of what there is: the allocator, gRPC and the page cache take the rest
LEAST_REQUEST, MOST_REQUEST = 64 * MIB, 4096 * MIB
BEYOND_ESTIMATE = 1.5  # how much more than its estimate a request may take


@dataclass(frozen=True)
class MemoryBudget:
    """parallel: requests that one worker computes at a time. request: bytes that each may take by estimate. runtime:
    bytes for ONNX Runtime in one worker.
    """

    parallel: int
    request: int
    runtime: int


def memory_budget(workers: int, parallel: int | None, processors: int, memory: int | None = None) -> MemoryBudget:
    """The share of each of `workers` processes. parallel: as it is set; None: as many as there are processors and
    memory for. memory: by default `available_memory`.

    What the processes take at rest is put aside; the rest is for the requests that may compute at a time.
    """
    whole = available_memory() if memory is None else memory
    rest = int((HEADROOM * whole - bytes_when_idle(workers)) / BEYOND_ESTIMATE)
    if parallel is None:
        parallel = max(1, min(processors // workers, rest // (workers * LEAST_REQUEST)))
    request = min(max(rest // (workers * parallel), LEAST_REQUEST), MOST_REQUEST)
    return MemoryBudget(parallel, request, max(whole // 2 // workers, LEAST_REQUEST))


def bytes_when_idle(workers: int) -> int:
    """Bytes that a server takes when nothing is asked of it."""
    return SHARED + (workers + SPARES) * PROCESS


def available_memory() -> int:
    """Bytes that this process and those that it starts may use: what the machine has, or less where a control group
    (of version 1 or 2, or one around it) or a resource limit says so.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, *_control_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")), *_resource_limits())


def _resource_limits() -> Iterator[int]:
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft


def _control_groups(membership: Path, root: Path) -> Iterator[int]:
    """Limits of the process's groups and of all around them, as `membership` names them below `root`.

    Inside a container the names may be those that the host uses; what counts then lies at the root.
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
            with suppress(OSError, ValueError):  # no such group here, or no limit: "max"
                yield int((folder / file).read_text())
            if folder == base:
                break
