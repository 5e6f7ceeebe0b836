# SPDX-License-Identifier: Apache-2.0
"""How much memory a server detects, and how it divides it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lstm_explain.memory_budget import BEYOND_ESTIMATE, MIB, _control_groups, bytes_when_idle, memory_budget

GIB = 1024 * MIB


def limits(tmp_path: Path, membership: str, files: dict[str, str]) -> list[int]:
    (tmp_path / "cgroup").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sorted(set(_control_groups(tmp_path / "cgroup", tmp_path / "fs")))


@pytest.mark.parametrize(
    ("membership", "files", "least"),
    [
        ("0::/\n", {"memory.max": "2147483648\n"}, 2 * GIB),  # a container with a name space of its own
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "1073741824\n"}, GIB),  # the group around it counts
        ("0::/a/b\n", {"a/b/memory.max": "1073741824\n", "a/memory.max": "2147483648\n"}, GIB),
        ("0::/docker/1f\n", {"memory.max": "2147483648\n"}, 2 * GIB),  # the host's name, seen from inside
        ("5:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n", {"memory/a/b/memory.limit_in_bytes": "1073741824\n"}, GIB),
        ("4:memory:/docker/1f\n", {"memory/memory.limit_in_bytes": "1073741824\n"}, GIB),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("4:memory:/\n", {}, None),
        ("", {}, None),
    ],
)
def test_the_smallest_limit_of_the_groups_counts(
    tmp_path: Path, membership: str, files: dict[str, str], least: int | None
) -> None:
    assert min(limits(tmp_path, membership, files), default=None) == least


def test_a_resource_limit_counts_too() -> None:
    most = 3 * GIB
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({most}, {most}));"
        "from lstm_explain.memory_budget import available_memory; print(available_memory())"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert int(completed.stdout) <= most


@pytest.mark.parametrize("memory", [GIB, 2 * GIB, 4 * GIB, 16 * GIB, 256 * GIB])
@pytest.mark.parametrize(("workers", "parallel"), [(1, 1), (1, 2), (4, 2), (2, 16), (1, None), (8, None)])
def test_default_shares_fit_into_the_memory(memory: int, workers: int, parallel: int | None) -> None:
    """Where memory is too scarce for the minimum of a request, there is nothing to divide."""
    share = memory_budget(workers, parallel, 64, memory)
    assert share.runtime * workers <= max(memory // 2, workers * 64 * MIB)
    at_work = workers * share.parallel * BEYOND_ESTIMATE * share.request
    least = share.request == 64 * MIB and (parallel is not None or share.parallel == 1)
    assert least or bytes_when_idle(workers) + at_work <= memory
    assert 64 * MIB <= share.request <= 4 * GIB
    assert share.parallel == parallel or 1 <= share.parallel <= 64 // workers
