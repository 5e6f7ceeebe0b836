"""Dockerfile, compose file, manifests and alerts are valid according to published schemas and linters.

Imports nothing of the project, so that the environment of `make deploy-check` does not need it.
"""

from __future__ import annotations

import importlib
import subprocess

import pytest

from tests.deploy.manifests import DEPLOY, OVERLAYS, ROOT, built, misfits, read, tool

KUBERNETES = ("1.30", "1.34")
EXTRA = "make deploy-check has what it takes"


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_are_valid_kubernetes(overlay: str, version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason=EXTRA)
    for manifest in built(overlay):
        schemas.validate(manifest, version, strict=True)


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
