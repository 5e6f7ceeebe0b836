# SPDX-License-Identifier: Apache-2.0
"""What a project needs besides code: workflows, releases, licences, and a test run that says what it left out."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lstm_explain
from scripts import release, spdx
from tests.skipped import table

ROOT = Path(__file__).parents[2]
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.7"


def test_workflows_are_sound() -> None:
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    files = sorted(map(str, (ROOT / ".github" / "workflows").glob("*.yml")))
    command = ["go", "run", ACTIONLINT, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_the_one_script_on_three_kinds_of_machine() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    checks = workflow["jobs"]["checks"]
    assert set(checks["strategy"]["matrix"]["os"]) == {"ubuntu-24.04", "ubuntu-24.04-arm", "macos-15"}
    assert checks["steps"][-1] == {"run": "bash .ci/run"}


def test_the_version_is_the_same_everywhere() -> None:
    assert set(release.versions(ROOT).values()) == {lstm_explain.__version__}


def test_a_release_changes_every_place(tmp_path: Path) -> None:
    for name in (*release.PLACES, "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    release.write(tmp_path, "7.8.9", dt.date(2030, 1, 2))
    assert set(release.versions(tmp_path).values()) == {"7.8.9"}
    log = (tmp_path / "CHANGELOG.md").read_text()
    assert log.index("## [Unreleased]") < log.index("## [7.8.9] - 2030-01-02") < log.index("### Added")
    changed = {n: (tmp_path / n).read_text().count("7.8.9") for n in release.PLACES}
    assert all(changed.values())
    for name in release.PLACES:  # nothing else changed, such as the version of a dependency
        before, after = (root / name for root in (ROOT, tmp_path))
        assert after.read_text().replace("7.8.9", lstm_explain.__version__) == before.read_text()


@pytest.mark.parametrize(
    ("text", "comment", "expected"),
    [
        ("x = 1\n", "#", f"# {spdx.LINE}\nx = 1\n"),
        ("#!/bin/sh\ntrue\n", "#", f"#!/bin/sh\n# {spdx.LINE}\ntrue\n"),
        ("package x\n", "//", f"// {spdx.LINE}\n\npackage x\n"),
    ],
)
def test_the_licence_is_written_below_the_interpreter(text: str, comment: str, expected: str) -> None:
    assert spdx.with_line(text, comment) == expected


def test_every_source_file_states_its_licence() -> None:
    assert not spdx.missing(ROOT)


def test_the_citation_is_complete() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(cited)
    assert "the papers" in cited["message"]


def test_the_table_of_what_was_skipped() -> None:
    shown = table(
        [
            "Skipped: cpp: no cmake on this machine",
            "Skipped: cpp: no cmake on this machine",
            "Skipped: the page is tested in Chromium, which is not here (Debian: chromium and chromium-driver)",
            "Skipped: ONNX Runtime has no kernel",
        ]
    )
    assert shown == [
        "skipped                tests  to run them",
        "the C++ client             2  sudo scripts/ci_packages.sh",
        "the page in a browser      1  sudo scripts/ci_packages.sh",
    ]
    assert table(["Skipped: ONNX Runtime has no kernel"]) == []


def test_a_run_ends_with_the_table(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_terminal_summary\n")
    (tmp_path / "test_one.py").write_text("import pytest\n\ndef test_one():\n    pytest.skip('rust: no cargo here')\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "the Rust client      1  install Rust (https://rustup.rs)" in done.stdout
