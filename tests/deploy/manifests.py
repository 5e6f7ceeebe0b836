# SPDX-License-Identifier: Apache-2.0
"""Reads the manifests from their files, and as Kustomize builds them if kubectl is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LABEL = {"app.kubernetes.io/name": "lstm-explain"}

CHART = DEPLOY / "helm" / "lstm-explain"
OPERATOR = "monitoring.coreos.com/v1"  # the objects of the Prometheus Operator, which are no part of Kubernetes

SERVING = ("base", "operations", "tls", "tokens", "traces")  # those with a server
OVERLAYS = (*SERVING, "monitoring")
KUBERNETES = ("1.30", "1.34")
# Values of the chart: its defaults, and everything at once.
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "image": {"digest": f"sha256:{'0' * 64}"},
        "settings": {"max_targets": 64, "poll-seconds": 0.5, "spare": False, "max_message_bytes": 67108864},
        "env": [{"name": "TZ", "value": "UTC"}],
        "models": {"existingClaim": "models"},
        "operations": {"existingClaim": "operations"},
        "tls": {"secretName": "tls"},
        "tokens": {"secretName": "tokens"},
        "provenance": {
            "modelSignatures": "require",
            "signersSecretName": "signers",
            "receiptKeySecretName": "receipts",
        },
        "traces": {"enabled": True},
        "autoscaling": {"enabled": False},
        **{name: {"enabled": True} for name in ("podMonitor", "prometheusRule", "dashboard")},
        "podLabels": {"team": "a"},
        "podAnnotations": {"note": "b"},
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    },
}

Manifest = dict[str, Any]


def read(path: Path) -> Manifest:
    return yaml.safe_load(path.read_text())


def base() -> dict[str, Manifest]:
    """Every manifest of the base, by kind."""
    names = read(DEPLOY / "kustomize/base/kustomization.yaml")["resources"]
    return {m["kind"]: m for m in (read(DEPLOY / "kustomize/base" / name) for name in names)}


def settings_of(kustomization: Path) -> dict[str, str]:
    """The environment variables of its ConfigMap."""
    literals = [line for g in read(kustomization)["configMapGenerator"] for line in g["literals"]]
    return dict(line.split("=", 1) for line in literals)


def tool(name: str) -> str:
    """A tool of this environment, of the one of `make deploy-check`, or of the machine; skips the test if there is
    none.
    """
    folders = (Path(sys.executable).parent, ROOT / ".venv-deploy" / "bin")
    found = next((str(f / name) for f in folders if (f / name).exists()), None) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@cache
def built(name: str) -> tuple[Manifest, ...]:
    """What `kubectl kustomize` builds; skips the test if there is no kubectl."""
    command = [tool("kubectl"), "kustomize", str(DEPLOY / "kustomize" / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def helm(*arguments: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Runs a command of Helm over the chart; skips the test if there is no helm."""
    command = [tool("helm"), *arguments, str(CHART), "--values", "-"]
    return subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, timeout=120)


def charted(values: dict[str, Any], version: str = KUBERNETES[0]) -> list[Manifest]:
    """What the chart makes of the values."""
    done = helm("template", "demo", "--kube-version", version, values=values)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def misfits(value: Any, kind: str, kinds: tuple[ModuleType, ...], where: str = "") -> Iterator[str]:
    """The parts of a value that do not match a type of an OpenAPI client, whose modules have a class per message."""
    if inner := re.fullmatch(r"[Ll]ist\[(.*)\]|[Dd]ict[(\[]str, (.*)[)\]]", kind):
        expected, parts = (list, enumerate) if inner[1] else (dict, dict.items)
        if not isinstance(value, expected):
            yield f"{where}: {value!r} is no {kind}"
            return
        for key, part in parts(value):
            yield from misfits(part, inner[1] or inner[2], kinds, f"{where}.{key}")
        return
    message = next((found for module in kinds if (found := getattr(module, kind, None))), None)
    if message is None:
        plain = {"str": str, "int": int, "bool": bool, "float": (int, float)}.get(kind, object)
        if not isinstance(value, plain) or (kind == "int" and isinstance(value, bool)):
            yield f"{where}: {value!r} is no {kind}"
        return
    types = {wire: message.openapi_types[name] for name, wire in message.attribute_map.items()}
    for key, part in value.items():
        if key not in types:
            yield f"{where}: {kind} has no {key}"
        else:
            yield from misfits(part, types[key], kinds, f"{where}.{key}")
