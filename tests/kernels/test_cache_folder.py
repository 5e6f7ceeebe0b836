# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels are shared by installations with the same source, and only by these."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lstm_explain.kernels import cache_folder

PACKAGE = Path(cache_folder.__file__).parent.parent
SMALL = """
import numba as nb
from lstm_explain.kernels.scalar_functions import settle

@nb.njit(cache=True)
def small(r, z):
    return settle(r, z, 0.0, 0.1)
"""
CALL = """
{first}
from lstm_explain.kernels.small import small
small(1.0, 2.0)
print(small.stats.cache_path, len(small.stats.cache_hits))
"""


def compiled_in(clone: Path, home: Path, first: str = "", **more: str) -> tuple[Path, int]:
    """Where another process, which imports the package from `clone`, has the kernel, and how often it found it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "LSTM_EXPLAIN_", "XDG_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(clone), **more}
    said = subprocess.run(
        [sys.executable, "-c", CALL.format(first=first)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=clone,
    ).stdout
    folder, _, hits = said.strip().rpartition(" ")
    return Path(folder), int(hits)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return copy_to(tmp_path / "clone")


def copy_to(folder: Path) -> Path:
    """What the kernels import, and a kernel that takes no time to compile."""
    (folder / "lstm_explain").mkdir(parents=True)
    (folder / "lstm_explain" / "__init__.py").touch()
    shutil.copytree(PACKAGE / "kernels", folder / "lstm_explain" / "kernels", ignore=lambda *_: ["__pycache__"])
    (folder / "lstm_explain" / "kernels" / "small.py").write_text(SMALL)
    shutil.copy(PACKAGE / "errors.py", folder / "lstm_explain")
    return folder


def test_another_clone_finds_the_compiled_kernels(clone: Path, tmp_path: Path) -> None:
    folder, hits = compiled_in(clone, tmp_path / "home")
    assert hits == 0
    assert folder.is_relative_to(tmp_path / "home" / ".cache" / "lstm-explain" / "kernels")
    assert compiled_in(copy_to(tmp_path / "another"), tmp_path / "home") == (folder, 1)


def test_numba_may_be_imported_before(clone: Path, tmp_path: Path) -> None:
    folder, _ = compiled_in(clone, tmp_path / "home", "import numba")
    assert folder.is_relative_to(tmp_path / "home")


def test_a_changed_file_is_compiled_again_with_the_files_that_import_it(clone: Path, tmp_path: Path) -> None:
    """Numba itself would look at the file of the function only."""
    folder, _ = compiled_in(clone, tmp_path / "home")
    with (clone / "lstm_explain" / "kernels" / "scalar_functions.py").open("a") as file:
        file.write("\n# changed\n")
    changed, hits = compiled_in(clone, tmp_path / "home")
    assert (changed != folder, hits) == (True, 0)


def test_a_file_that_does_not_import_the_changed_one_is_not(clone: Path, tmp_path: Path) -> None:
    folder, _ = compiled_in(clone, tmp_path / "home")
    with (clone / "lstm_explain" / "kernels" / "lstm.py").open("a") as file:
        file.write("\n# changed\n")
    assert compiled_in(clone, tmp_path / "home") == (folder, 1)


def test_a_chosen_folder_is_used(clone: Path, tmp_path: Path) -> None:
    folder, _ = compiled_in(clone, tmp_path / "home", NUMBA_CACHE_DIR=str(tmp_path / "chosen"))
    assert folder.is_relative_to(tmp_path / "chosen")
    assert compiled_in(clone, tmp_path / "home", XDG_CACHE_HOME=str(tmp_path / "xdg"))[0].is_relative_to(
        tmp_path / "xdg" / "lstm-explain"
    )


def test_other_users_can_read_a_chosen_folder(clone: Path, tmp_path: Path) -> None:
    """Root compiles the kernels of a container image, and another user runs it."""
    folder, _ = compiled_in(clone, tmp_path / "home", NUMBA_CACHE_DIR=str(tmp_path / "chosen"))
    plain = tmp_path / "plain"
    plain.mkdir()
    assert folder.stat().st_mode == plain.stat().st_mode


def test_a_folder_that_others_can_write_to_is_not_used(clone: Path, tmp_path: Path) -> None:
    """Whoever can write to it could have us execute their code."""
    base = tmp_path / "home" / ".cache" / "lstm-explain" / "kernels"
    base.mkdir(parents=True)
    base.chmod(0o777)
    folder, _ = compiled_in(clone, tmp_path / "home")
    assert folder.is_relative_to(clone)


def test_folders_of_old_versions_are_removed(clone: Path, tmp_path: Path) -> None:
    base = tmp_path / "home" / ".cache" / "lstm-explain" / "kernels"
    for name, age in (("lstm-0000000000000000", 61), ("lstm-1111111111111111", 59)):
        (base / name).mkdir(parents=True)
        os.utime(base / name, (then := (base / name).stat().st_mtime - age * 86400, then))
    compiled_in(clone, tmp_path / "home")
    assert [f.name for f in base.glob("lstm-*")] == ["lstm-1111111111111111"]
