"""The manifests as files, and as Kubernetes gets them from Kustomize where kubectl is at hand."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LABEL = {"app.kubernetes.io/name": "lstm-explain"}

Manifest = dict[str, Any]


def read(path: Path) -> Manifest:
    return yaml.safe_load(path.read_text())


def base() -> dict[str, Manifest]:
    """Every manifest of the base by kind."""
    names = read(DEPLOY / "kustomize/base/kustomization.yaml")["resources"]
    return {m["kind"]: m for m in (read(DEPLOY / "kustomize/base" / name) for name in names)}


def settings_of(kustomization: Path) -> dict[str, str]:
    """The environment variables of its ConfigMap."""
    literals = [line for g in read(kustomization)["configMapGenerator"] for line in g["literals"]]
    return dict(line.split("=", 1) for line in literals)


@cache
def built(name: str) -> tuple[Manifest, ...]:
    """What `kubectl kustomize` makes of it; skips where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: Kustomize was not run")
    command = ["kubectl", "kustomize", str(DEPLOY / "kustomize" / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))
