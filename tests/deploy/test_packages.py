# SPDX-License-Identifier: Apache-2.0
"""What would be published, in every language whose tools are installed: a dry run, and the metadata that registries
want.
"""

from __future__ import annotations

import email
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import lstm_explain

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client"
HOME = "github.com/lstm-explain/lstm-explain"
MOST_BYTES = 60 << 20  # PyPI takes 100 MB


def run(*command: str, folder: Path) -> str:
    tool = command[0]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, and the wheel that is built from it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT), folder=ROOT)
    return folder


def test_pypi_accepts_the_distributions(dist: Path) -> None:
    pytest.importorskip("twine")
    out = run(sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir()), folder=ROOT)
    assert out.count("PASSED") == 2


def test_the_source_distribution_is_small_and_complete(dist: Path) -> None:
    (archive,) = dist.glob("lstm_explain-*.tar.gz")
    with tarfile.open(archive) as files:
        names = {member.name.partition("/")[2] for member in files.getmembers()}
    assert {"LICENSE", "README.md", "Makefile", "proto/lstm_explain/v1/explanation.proto", "tests/conftest.py"} <= names
    unwanted = ("target/", "node_modules/", ".venv/", "/build/", "demo.html")
    assert not [name for name in names if any(part in name for part in unwanted)]
    assert archive.stat().st_size < MOST_BYTES


def test_the_wheel(dist: Path) -> None:
    (wheel,) = dist.glob("lstm_explain-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(archive.read(metadata))
    packages = {"lstm_explain", "lstm_explain_client", "lstm_explain_proto"}
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == packages
    assert {"lstm_explain/py.typed", "lstm_explain_client/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert said["Author"] == "the lstm-explain contributors"
    assert {url.partition(",")[0] for url in said.get_all("Project-URL", [])} >= {"Source", "Issues", "Changelog"}
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    assert said["Version"] == lstm_explain.__version__


def test_versions_agree() -> None:
    """One version in one place, pyproject.toml; `scripts/release.py` writes it to the clients."""
    own = lstm_explain.__version__
    assert json.loads((CLIENT / "typescript" / "package.json").read_text())["version"] == own
    assert re.search(rf'^version = "{re.escape(own)}"$', (CLIENT / "rust" / "Cargo.toml").read_text(), re.MULTILINE)
    assert f"<version>{own}</version>" in (CLIENT / "java" / "pom.xml").read_text().partition("<dependencies>")[0]


def test_npm(tmp_path: Path) -> None:
    """Without the build, which the conformance suite makes: `prepack` would run it."""
    out = run("npm", "pack", "--dry-run", "--json", "--ignore-scripts", folder=CLIENT / "typescript")
    (packed,) = json.loads(out[out.index("[") : out.rindex("]") + 1])
    files = {entry["path"] for entry in packed["files"]}
    assert {"package.json", "README.md"} <= files
    assert not [name for name in files if name.startswith(("dist/test", "dist/conformance", "src/", "node_modules"))]
    assert HOME in json.loads((CLIENT / "typescript" / "package.json").read_text())["repository"]["url"]


def test_cargo() -> None:
    """Packs and checks the metadata; building is left to the conformance suite."""
    out = run("cargo", "publish", "--dry-run", "--no-verify", "--allow-dirty", "--locked", folder=CLIENT / "rust")
    warnings = [line for line in out.splitlines() if line.startswith("warning") and "dry run" not in line]
    assert not warnings


def test_maven_central_has_what_it_wants() -> None:
    """tests/conformance/packed.py deploys to a folder, with sources and documentation."""
    pom = (CLIENT / "java" / "pom.xml").read_text()
    own = pom.partition("<dependencies>")[0]
    for element in ("groupId", "name", "description", "url", "licenses", "developers", "scm"):
        assert f"<{element}>" in own, element
    assert "<groupId>io.github.lstm-explain</groupId>" in own
    assert all(plugin in pom for plugin in ("maven-source-plugin", "maven-javadoc-plugin"))
    assert "<groupId>io.github.lstm-explain</groupId>" in (CLIENT / "java" / "README.md").read_text()


def test_the_go_module_can_be_fetched_by_its_path() -> None:
    assert run("go", "list", "-m", folder=CLIENT / "go").strip() == f"{HOME}/client/go"
    for path in (CLIENT / "go").rglob("*.go"):
        assert '"lstmexplain' not in path.read_text(), path
    run("go", "vet", "./...", folder=CLIENT / "go")
