# SPDX-License-Identifier: Apache-2.0
"""The container image: what it is made of is fixed by hashes, and may be passed on."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.manifests import DEPLOY, ROOT

ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)", re.MULTILINE)
EXTRAS = ("server", "otel", "web", "provenance")
# Parts of the names of licences that allow us to pass a package on unchanged.
FREE = ("apache", "mit", "bsd", "isc", "mpl-2.0", "mozilla public license 2.0", "psf", "python software", "unlicense")


def locked() -> dict[str, set[str]]:
    """The versions in the lock by name: NumPy has one for each of two ranges of Python."""
    found: dict[str, set[str]] = {}
    for name, version in ENTRY.findall((DEPLOY / "image/requirements.txt").read_text()):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    return [found for line in lines if (found := Requirement(line)).name != "lstm-explain"]


def test_the_lock_has_every_dependency_in_its_range() -> None:
    versions = locked()
    for requirement in requirements():
        own = versions.get(canonicalize_name(requirement.name), set())
        assert own, f"{requirement.name} is missing: run make lock"
        assert all(version in requirement.specifier for version in own), requirement


@pytest.mark.parametrize("name", ["requirements.txt", "tools.txt"])
def test_every_entry_has_hashes(name: str) -> None:
    text = (DEPLOY / "image" / name).read_text()
    entries = re.findall(r"^[A-Za-z0-9._-]+==.*(?:\n    .*)*", text, re.MULTILINE)
    assert len(entries) > 20
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]


def test_the_image_installs_only_what_is_locked() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install (.*?)(?:&&|\n)", text)
    assert len(installs) == 3
    assert all("--require-hashes" in one or "--no-deps wheels/" in one for one in installs)
    assert "--no-build-isolation" in text
    assert re.search(r"^ARG BASE_IMAGE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)


def test_the_image_says_what_it_is() -> None:
    labels = set(re.findall(r"org\.opencontainers\.image\.([a-z.]+)=", (ROOT / "Dockerfile").read_text()))
    assert labels >= {"title", "description", "licenses", "source", "documentation", "version", "revision", "base.name"}


@pytest.mark.parametrize("name", sorted(locked()))
def test_licences_allow_passing_the_package_on(name: str) -> None:
    try:
        about = metadata(name)
    except PackageNotFoundError:
        pytest.skip("of another platform or version of Python")
    classifiers = [line for line in about.get_all("Classifier", []) if line.startswith("License")]
    said = " ".join([about.get("License-Expression") or "", (about.get("License") or "")[:200], *classifiers]).lower()
    files = about.get_all("License-File", [])
    assert said.strip() or files, f"{name} states no licence"
    assert not said.strip() or any(word in said for word in FREE), f"{name}: {said}"
