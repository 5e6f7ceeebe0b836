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

OVERLAYS = ("base", "tls")

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
    """A tool of the extra `deploy` or of the machine; skips the test if there is neither."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
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
