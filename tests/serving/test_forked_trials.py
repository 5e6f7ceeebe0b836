# SPDX-License-Identifier: Apache-2.0
"""The first process that tries models is a fork of a worker. It differs in nothing from one that starts by itself, and
neither of the two does the other harm.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lstm_explain_proto.lstm_explain.v1 import model_pb2
from tests.serving.crashing import TRIAL_SITECUSTOMIZE
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, on_trial, serving, tries_models
from tests.serving.test_trials import explained, listed, until

READY, FAILED = model_pb2.MODEL_STATE_READY, model_pb2.MODEL_STATE_FAILED
FORKED, STARTED = pytest.param("1", id="forked"), pytest.param("2", id="started")  # --threads


@contextmanager
def trying(folder: Path, *flags: str) -> Iterator[Running]:
    """A server whose trials have faults, as the names of the models say. It finds new models soon."""
    (folder / "sitecustomize.py").write_text(TRIAL_SITECUSTOMIZE)
    write_version(folder, "good", lstm())
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    with serving(folder, "--poll-seconds", "0.2", *flags, PYTHONPATH=paths) as server:
        yield server


def trial_process(server: Running) -> int:
    """The process that tries models, without its forks."""
    (process,) = {p for p in server.family() if tries_models(p)} - set(on_trial(server))
    return process


def state(process: int) -> dict[str, object]:
    """What a process inherits: signals, limits, priorities, open files, memory shared with others."""
    proc = Path(f"/proc/{process}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    names = ["Threads", "SigBlk", "SigIgn", "SigCgt", "CapEff", "NoNewPrivs", "Seccomp", "VmLck"]
    files = [os.readlink(file).partition("[")[0] for file in sorted((proc / "fd").iterdir())]
    maps = [line.split(maxsplit=5) for line in (proc / "maps").read_text().splitlines()]
    return {
        **{name: status[name].strip() for name in names},
        "limits": (proc / "limits").read_text(),
        "oom_score_adj": (proc / "oom_score_adj").read_text(),
        "niceness": os.getpriority(os.PRIO_PROCESS, process),
        "leads its session": os.getsid(process) == process,
        "files": files,
        "shared and writable": [line[5:] for line in maps if line[1] == "rw-s"],
        "folder": os.readlink(proc / "cwd"),
    }


def test_a_fork_inherits_what_a_process_that_starts_by_itself_does(tmp_path: Path) -> None:
    """Above all none of the worker's files: otherwise, the parent would not notice when the worker ends."""
    write_version(tmp_path, "good", lstm())
    states = []
    for threads, forked in (("1", True), ("2", False)):
        with serving(tmp_path, "--threads", threads) as server:
            process, (worker,) = trial_process(server), server.workers()
            commands = [Path(f"/proc/{number}/cmdline").read_bytes() for number in (process, worker)]
            assert (commands[0] == commands[1]) == forked
            standard = {os.readlink(f"/proc/{worker}/fd/{number}") for number in (0, 1, 2)}
            assert standard.isdisjoint(os.readlink(f"/proc/{process}/fd/{number}") for number in (0, 1))
            states.append(state(process))
    assert states[0] == states[1]
    assert states[0]["files"] == ["pipe:", "pipe:", "/dev/null", "anon_inode:"]


def test_a_worker_that_has_another_thread_does_not_fork(tmp_path: Path) -> None:
    """Such a thread may hold a lock, which nothing would release in the fork."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, threading\n"
        "if 'LSTM_EXPLAIN_WORKER' in os.environ:\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    write_version(tmp_path, "good", lstm())
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with serving(tmp_path, PYTHONPATH=paths) as server:
        command = Path(f"/proc/{trial_process(server)}/cmdline").read_bytes()
        assert b"lstm_explain.serving.trials.trial_process" in command
        explained(server)


def test_a_crash_harms_nobody_and_a_killed_trial_process_is_replaced(tmp_path: Path) -> None:
    write_version(tmp_path, "crash", lstm())
    with trying(tmp_path) as server:
        until(lambda: listed(server).get("crash", (0, ""))[0] == FAILED)
        assert "SIGSEGV" in listed(server)["crash"][1]
        assert listed(server)["good"] == (READY, "")
        workers, fork = server.workers(), trial_process(server)
        os.kill(fork, signal.SIGKILL)  # for want of memory, say
        until(lambda: fork not in server.family())  # it does not stay as a zombie
        write_version(tmp_path, "later", lstm(1))
        until(lambda: listed(server).get("later") == (READY, ""))
        assert trial_process(server) != fork
        assert server.workers() == workers
        explained(server, "later")
        assert server.stop() == 0


def test_trials_end_with_the_worker(tmp_path: Path) -> None:
    with trying(tmp_path) as server:
        write_version(tmp_path, "sleep", lstm())
        until(lambda: bool(on_trial(server)))
        (worker,), trials = server.workers(), [trial_process(server), *on_trial(server)]
        os.kill(worker, signal.SIGKILL)
        until(lambda: all(ended(process) for process in trials))
        until(lambda: bool(server.workers()))
        explained(server)


def ended(process: int) -> bool:
    """Whether the process has ended, even where its parent has not waited for it yet."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.mark.parametrize("threads", [FORKED, STARTED])
def test_pages_of_files_do_not_count_as_memory_of_a_trial(tmp_path: Path, threads: str) -> None:
    """The two processes have different pages of files in memory: those of the engine, or next to none."""
    for name in ("mapped", "share"):
        write_version(tmp_path, name, lstm())
    with trying(tmp_path, "--threads", threads, "--trial-memory", str(64 << 20)) as server:
        until(lambda: {state for state, _ in listed(server).values()} == {READY, FAILED} and len(listed(server)) == 3)
        models = listed(server)
    assert models["mapped"] == (READY, "")
    assert "--trial-memory" in models["share"][1]
