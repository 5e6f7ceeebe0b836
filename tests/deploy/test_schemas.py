# SPDX-License-Identifier: Apache-2.0
"""Dockerfile, compose file, manifests and alerts are valid according to published schemas and linters.

Imports nothing of the project, so that the environment of `make deploy-check` does not need it.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    OPERATOR,
    OVERLAYS,
    ROOT,
    VALUES,
    Manifest,
    built,
    charted,
    misfits,
    read,
    tool,
)

EXTRA = "make deploy-check has what it takes"


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_are_valid_kubernetes(overlay: str, version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason=EXTRA)
    for manifest in built(overlay):
        if manifest["apiVersion"] != OPERATOR:
            schemas.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VALUES)
def test_what_the_chart_makes_is_valid_kubernetes(values: str, version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason=EXTRA)
    for manifest in charted(VALUES[values], version):
        if manifest["apiVersion"] != OPERATOR:
            schemas.validate(manifest, version, strict=True)


def operators_opinion(*manifests: Manifest) -> str:
    """What the Prometheus Operator's own types say against the objects; empty if they are valid."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    done = subprocess.run(
        ["go", "run", "."],
        cwd=Path(__file__).parent / "operator",
        input="".join(json.dumps(one) + "\n" for one in manifests),
        capture_output=True,
        text=True,
        timeout=600,
    )
    return "" if done.returncode == 0 else done.stderr


def test_the_prometheus_operator_knows_every_field() -> None:
    made = [m for m in (*built("monitoring"), *charted(VALUES["everything"])) if m["apiVersion"] == OPERATOR]
    assert sorted(m["kind"] for m in made) == ["PodMonitor", "PodMonitor", "PrometheusRule", "PrometheusRule"]
    assert operators_opinion(*made) == ""
    monitor = next(m for m in made if m["kind"] == "PodMonitor")
    wrong = {**monitor, "spec": {**monitor["spec"], "colour": "red"}}
    assert 'unknown field "colour"' in operators_opinion(wrong)


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_runtimes_containers_are_valid_kubernetes(version: str) -> None:
    """The spec of a ServingRuntime is that of a pod with a few additional keys."""
    schemas = pytest.importorskip("kubernetes_validate", reason=EXTRA)
    runtime = read(DEPLOY / "kserve/servingruntime.yaml")
    pod = {key: runtime["spec"][key] for key in ("containers", "volumes")}
    schemas.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_ray_jobs_pods_are_valid_kubernetes(version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason=EXTRA)
    cluster = read(DEPLOY / "ray/rayjob.yaml")["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
        schemas.validate(pod, version, strict=True)


def test_the_runtime_is_valid_kserve() -> None:
    kserve = pytest.importorskip("kserve", reason=EXTRA)
    kinds = (kserve, importlib.import_module("kubernetes.client"))
    runtime = read(DEPLOY / "kserve/servingruntime.yaml")
    assert list(misfits(runtime, "V1alpha1ServingRuntime", kinds)) == []
    runtime["spec"] |= {"multiModel": "no", "colour": "red"}
    runtime["spec"]["containers"][0]["ports"][0]["containerPort"] = "9000"
    assert len(list(misfits(runtime, "V1alpha1ServingRuntime", kinds))) == 3


def test_the_compose_file_is_valid() -> None:
    spec = pytest.importorskip("compose_spec", reason=EXTRA)
    text = (ROOT / "compose.yaml").read_text()
    spec.PyCompose.from_yaml(text).validate()
    with pytest.raises(ValueError, match="mem_limit"):
        spec.PyCompose.from_yaml(text.replace("mem_limit: 2g", "mem_limit: much"))


def test_prometheus_accepts_the_alerts() -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "config", "prometheus.yml"],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_hadolint_accepts_the_dockerfile() -> None:
    done = subprocess.run([tool("hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
