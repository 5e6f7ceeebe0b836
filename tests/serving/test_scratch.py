# SPDX-License-Identifier: Apache-2.0
"""The next server removes the scratch folder of a killed one, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lstm_explain.serving.scratch import PREFIX, SECONDS_TO_LOCK, ScratchFolder

OWNER = """
import sys
from lstm_explain.serving.scratch import ScratchFolder
folder = ScratchFolder()
print(folder.name, flush=True)
sys.stdin.read()
"""


def age(folder: Path) -> None:
    then = time.time() - SECONDS_TO_LOCK - 1
    os.utime(folder, (then, then))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_the_folder_of_a_killed_owner_is_removed_and_that_of_a_live_one_kept(place: Path) -> None:
    command = [sys.executable, "-c", OWNER]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        left, kept = (Path(process.stdout.readline().strip()) for process in (killed, living) if process.stdout)
        (left / "within").write_text("something")
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        age(left)
        age(kept)
        own = ScratchFolder()
        assert not left.exists()
        assert kept.is_dir()
        own.cleanup()
        assert not Path(own.name).exists()
        living.stdin.close()  # type: ignore[union-attr]


def test_nothing_else_is_removed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    young = place / f"{PREFIX}abcdefgh"  # its owner may not have come to lock it
    other, target = place / "lstm-explain-kernels-0", tmp_path_factory.mktemp("elsewhere")
    link, file = place / f"{PREFIX}abcdefgi", place / f"{PREFIX}abcdefgj"
    young.mkdir()
    other.mkdir()
    age(other)
    link.symlink_to(target)
    file.write_text("")
    age(file)
    age(target)
    ScratchFolder().cleanup()
    assert young.is_dir()
    assert other.is_dir()
    assert link.is_symlink()
    assert target.is_dir()
    assert file.is_file()
