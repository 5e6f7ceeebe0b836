# SPDX-License-Identifier: Apache-2.0
"""Each limit of a trial on its own, with a model that no other limit ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from lstm_explain.repository.model_folder import find_sources
from lstm_explain.serving.trials import trial_runner
from lstm_explain.serving.trials.results import fingerprint
from lstm_explain.serving.trials.trial_limits import TrialLimits, TrialResult
from lstm_explain.serving.trials.trial_runner import TrialRunner
from tests import hostile
from tests.serving.crashing import TRIAL_SITECUSTOMIZE
from tests.serving.models import lstm, write_version

SECONDS = 60  # until a bound has to be felt, on a machine with much else to do
MEMORY, NEVER = 256 << 20, 10_000.0

# Prints the process of a trial that begins after its parent has ended.
LATE_FORK = f"""
import os, sys, time
from lstm_explain.serving.trials.forked_trial import TrialTask, run_trial

name, version, *files = sys.argv[1:]
parent, (_, pipe) = os.getpid(), os.pipe()
fork = os.fork()
if fork == 0:
    os.close(1)
    while os.getppid() == parent:
        time.sleep(0.01)
    run_trial(TrialTask(name, int(version), *files, {MEMORY}, {NEVER}, {NEVER}, {NEVER}), pipe, parent)
print(fork, flush=True)
os._exit(0)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a `sitecustomize` for the trial process."""
    (tmp_path / "sitecustomize.py").write_text(TRIAL_SITECUSTOMIZE)
    monkeypatch.setattr(trial_runner.sys, "path", [str(tmp_path), *trial_runner.sys.path])
    return tmp_path


def gives_up() -> None:
    raise TimeoutError("no bound has ended the trial")


def verdict(folder: Path, tried: TrialRunner) -> TrialResult:
    """The result for the one model in the folder. Raises TimeoutError if no limit ends its trial."""
    (source,) = find_sources(folder)
    end = time.monotonic() + SECONDS
    return tried.result(source, fingerprint(source), source.size(), check=lambda: time.monotonic() < end or gives_up())


@pytest.mark.parametrize(
    ("name", "bounds", "message"),
    [
        ("reserve", TrialLimits(MEMORY, NEVER, NEVER), "(--trial-memory)"),
        ("share", TrialLimits(MEMORY, NEVER, NEVER), "(--trial-memory)"),
        ("sleep", TrialLimits(MEMORY, NEVER, 2.0), "(--trial-seconds)"),
    ],
)
def test_reserved_memory_shared_memory_and_elapsed_time(
    folder: Path, name: str, bounds: TrialLimits, message: str
) -> None:
    write_version(folder, name, lstm())
    received = verdict(folder, TrialRunner(bounds))
    assert not received.passed
    assert received.ended
    assert message in received.reason


def test_processor_time(folder: Path) -> None:
    write_version(folder, "endless", hostile.endless())
    received = verdict(folder, TrialRunner(TrialLimits(MEMORY, 2.0, NEVER)))
    assert (received.passed, received.ended) == (False, True)
    assert "(--trial-cpu-seconds)" in received.reason


def test_processor_time_while_the_trial_process_is_stopped(folder: Path) -> None:
    """The kernel ends the fork although the trial process is stopped."""
    write_version(folder, "endless", hostile.endless())
    tried, received = TrialRunner(TrialLimits(MEMORY, 2.0, NEVER)), list[TrialResult]()
    asking = threading.Thread(target=lambda: received.append(verdict(folder, tried)))
    asking.start()
    fork = _fork(tried)
    os.kill(tried._process.pid, signal.SIGSTOP)
    try:
        end = time.monotonic() + SECONDS
        while (state := _state(fork)) not in ("Z", ""):
            assert time.monotonic() < end, f"the trial goes on, in state {state!r}"
            time.sleep(0.05)
    finally:
        os.kill(tried._process.pid, signal.SIGCONT)
        asking.join()
    assert "--trial-cpu-seconds" in received[0].reason


def test_the_oldest_slow_trial_ends_when_there_are_too_many(folder: Path) -> None:
    """Two slow trials may run next to the others; otherwise a few of them would block all later ones."""
    for name in "abc":
        write_version(folder, name, hostile.endless())
    tried, received = TrialRunner(TrialLimits(MEMORY, NEVER, NEVER, slow=0.5)), dict[str, TrialResult]()
    over = threading.Event()

    def check() -> None:
        if over.is_set():
            gives_up()

    def ask(name: str) -> None:
        (source,) = find_sources(folder, name)
        with suppress(TimeoutError):
            received[name] = tried.result(source, fingerprint(source), source.size(), check=check)

    asking = [threading.Thread(target=ask, args=(name,)) for name in "abc"]
    for thread in asking:
        thread.start()
    end = time.monotonic() + SECONDS
    while not received and time.monotonic() < end:
        time.sleep(0.05)
    over.set()
    for thread in asking:
        thread.join()
    assert len(received) == 1
    assert all("others came after it" in one.reason for one in received.values())


@pytest.mark.parametrize("why", ["the process that tries models is killed", "nobody waits for it"])
def test_a_trial_ends_with_its_process_or_its_caller(folder: Path, why: str) -> None:
    write_version(folder, "endless", hostile.endless())
    tried, over = TrialRunner(TrialLimits(MEMORY, NEVER, NEVER)), threading.Event()
    (source,) = find_sources(folder)

    def ask() -> None:
        with suppress(TimeoutError):
            tried.result(source, fingerprint(source), source.size(), check=lambda: over.is_set() and gives_up())

    asking = threading.Thread(target=ask)
    asking.start()
    fork = _fork(tried)
    if why == "nobody waits for it":
        over.set()
    else:
        os.kill(tried._process.pid, signal.SIGKILL)
    try:
        end = time.monotonic() + SECONDS / 2
        while (state := _state(fork)) not in ("Z", ""):
            assert time.monotonic() < end, f"the trial goes on, in state {state!r}"
            time.sleep(0.05)
    finally:
        over.set()
        asking.join()
        with suppress(ProcessLookupError):
            os.kill(fork, signal.SIGKILL)


def test_a_trial_whose_process_ended_before_it_began(folder: Path) -> None:
    """The kernel kills a fork whose parent ends, but only once the fork has asked for that."""
    write_version(folder, "endless", hostile.endless())
    (source,) = find_sources(folder)
    files = [str(path) for path in (source.model_file, source.config_file, source.folder)]
    parent = subprocess.run(
        [sys.executable, "-c", LATE_FORK, source.name, str(source.version), *files], stdout=subprocess.PIPE, check=True
    )
    fork = int(parent.stdout)
    try:
        end = time.monotonic() + SECONDS / 2
        while (state := _state(fork)) not in ("Z", ""):
            assert time.monotonic() < end, f"the trial goes on, in state {state!r}"
            time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.kill(fork, signal.SIGKILL)


def _fork(tried: TrialRunner) -> int:
    """The process of the one trial, once it has begun."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if tried._process is not None:
            children = Path(f"/proc/{tried._process.pid}/task/{tried._process.pid}/children").read_text().split()
            if children:
                return int(children[0])
        time.sleep(0.02)
    raise AssertionError("no trial has begun")


def _state(pid: int) -> str:
    """The state of the process in /proc; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
