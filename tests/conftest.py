# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of the service and of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.models import fill
from tests.serving.running import Running, serving
from tests.skipped import table

# A spare worker doubles what a start costs. `tests/serving/test_workers.py` asks for it.
os.environ.setdefault("LSTM_EXPLAIN_SPARE", "false")
# Many tests compare bits. Those that are about uncompiled kernels ask for them.
os.environ.setdefault("LSTM_EXPLAIN_KERNELS", "wait")
# Tests start hundreds of processes. Without bytecode, each of them would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
LONGEST = ("conformance", "web", "serving", "test_footprint.py")  # folders and files of tests, the longest first


def pytest_configure(config: pytest.Config) -> None:
    """Compiles the kernels before several processes start, each of which would compile them again."""
    several = config.getoption("numprocesses", default=None)
    if several and not hasattr(config, "workerinput"):
        subprocess.run([sys.executable, "-m", "lstm_explain.kernels.cache"], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take minutes: the clients are compiled, and many tests wait for servers. What comes
    last runs alone once the other process has nothing left.
    """
    items.sort(key=lambda item: next((i for i, part in enumerate(LONGEST) if part in item.path.parts), len(LONGEST)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Shows which parts were skipped for want of tools, and the command that installs them."""
    skipped = terminalreporter.stats.get("skipped", [])
    lines = table(report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple))
    if lines:
        terminalreporter.section("skipped for want of tools")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See tests.serving.models.fill."""
    folder = tmp_path_factory.mktemp("repository")
    fill(folder)
    return folder


@pytest.fixture(scope="session")
def running(models_folder: Path) -> Iterator[Running]:
    """One server over `models_folder` for all tests that do not stop it."""
    with serving(models_folder, "--max-message-bytes", "4000000") as server:
        yield server


@pytest.fixture
def channel(running: Running):
    with running.channel() as channel:
        yield channel
