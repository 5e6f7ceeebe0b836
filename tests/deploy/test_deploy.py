# SPDX-License-Identifier: Apache-2.0
"""Manifests, compose file and alerts match the server that they run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from lstm_explain.memory_budget import BEYOND_ESTIMATE, MIN_REQUEST, bytes_when_idle, memory_budget
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.observability.process_metrics import ProcessMetrics
from lstm_explain.serving.security import token_file
from lstm_explain.serving.settings import ENV_PREFIX, Settings
from tests.deploy.manifests import DEPLOY, LABEL, ROOT, SERVING, base, built, read, settings_of


def server_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("overlay", SERVING)
def test_config_map_settings_are_valid_together(overlay: str, tmp_path: Path) -> None:
    given = settings_of(DEPLOY / "kustomize/base/kustomization.yaml")
    if overlay != "base":
        given |= settings_of(DEPLOY / "kustomize" / overlay / "kustomization.yaml")
    own = {name: value for name, value in given.items() if not name.startswith("OTEL_")}
    values = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in own.items()}
    assert set(values) <= set(Settings.model_fields)
    pem = tmp_path / "some.pem"
    pem.touch()
    values = {name: str(pem) if value.startswith(("/tls/", "/tokens/")) else value for name, value in values.items()}
    Settings(**{**values, "models": str(tmp_path)})  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["compose", "kserve", "Dockerfile"])
def test_flags_of_the_manifests_exist(where: str) -> None:
    text = {
        "compose": lambda: " ".join(read(ROOT / "compose.yaml")["services"]["server"]["command"]),
        "kserve": lambda: " ".join(read(DEPLOY / "kserve/servingruntime.yaml")["spec"]["containers"][0]["args"]),
        "Dockerfile": lambda: (ROOT / "Dockerfile").read_text().splitlines()[-1],
    }[where]()
    flags = {flag.replace("-", "_") for flag in re.findall(r"--([a-z-]+)", text)}
    assert flags
    assert flags <= set(Settings.model_fields)


def test_the_example_of_tokens_is_a_file_that_the_server_reads() -> None:
    secret = read(DEPLOY / "kustomize/tokens/secret.yaml")
    entries = token_file.parse(secret["stringData"]["tokens.yaml"])
    assert [entry.caller.name for entry in entries] == ["the dashboard", "the pipeline"]
    assert entries[0].caller.quota.requests == 600
    mounted = read(DEPLOY / "kustomize/tokens/deployment.yaml")["spec"]["template"]["spec"]
    assert mounted["volumes"][0]["secret"]["secretName"] == secret["metadata"]["name"]


def test_the_image_names_settings_that_exist() -> None:
    named = {name.lower() for name in re.findall(r"LSTM_EXPLAIN_([A-Z_]+)=", (ROOT / "Dockerfile").read_text())}
    assert named - {"kernel_cpus"} <= set(Settings.model_fields)


def test_every_selector_matches_the_pods() -> None:
    manifests = base()
    pod = manifests["Deployment"]["spec"]["template"]
    assert pod["metadata"]["labels"] == LABEL
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == LABEL
    assert manifests["Service"]["spec"]["selector"] == LABEL
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == LABEL
    assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == LABEL
    assert pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == LABEL
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", manifests["Deployment"]["metadata"]["name"])


def test_kustomize_leaves_the_selectors_alone() -> None:
    policy = next(m for m in built("base") if m["kind"] == "NetworkPolicy")
    assert policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == {"lstm-explain.dev/client": "true"}


def test_ports_and_probes_agree() -> None:
    server = server_of(base()["Deployment"])
    ports = {p["name"]: p["containerPort"] for p in server["ports"]}
    given = settings_of(DEPLOY / "kustomize/base/kustomization.yaml")
    assert given["LSTM_EXPLAIN_LISTEN"].endswith(f":{ports['grpc']}")
    assert given["LSTM_EXPLAIN_METRICS_LISTEN"].endswith(f":{ports['metrics']}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["grpc"]["port"] == ports["grpc"]
    for policy in base()["NetworkPolicy"]["spec"]["ingress"]:
        assert all(p["port"] in ports for p in policy["ports"])


def test_pods_have_time_to_drain() -> None:
    given = settings_of(DEPLOY / "kustomize/base/kustomization.yaml")
    needed = float(given["LSTM_EXPLAIN_DRAIN_DELAY"]) + float(given["LSTM_EXPLAIN_GRACE_PERIOD"])
    assert base()["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > needed


@pytest.mark.parametrize("overlay", SERVING)
def test_probes_use_tls_if_the_server_does(overlay: str) -> None:
    server = server_of(next(m for m in built(overlay) if m["kind"] == "Deployment"))
    kinds = {
        next(k for k in server[p] if k in ("grpc", "exec")) for p in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert kinds == {"exec" if overlay == "tls" else "grpc"}


def test_containers_have_few_privileges() -> None:
    runtime = read(DEPLOY / "kserve/servingruntime.yaml")["spec"]["containers"][0]
    for container in (server_of(base()["Deployment"]), runtime):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert [m["mountPath"] for m in container["volumeMounts"]] == ["/tmp"]
        assert container["resources"]["limits"]["memory"]
    compose = read(ROOT / "compose.yaml")["services"]["server"]
    assert compose["read_only"] is True
    assert compose["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in compose["ports"])


def test_default_memory_limits_fit_the_container() -> None:
    """Idle processes, and as many requests as may run, each half as large again as its estimate."""
    kserve = read(DEPLOY / "kserve/servingruntime.yaml")["spec"]["containers"][0]
    compose = read(ROOT / "compose.yaml")["services"]["server"]
    given = settings_of(DEPLOY / "kustomize/base/kustomization.yaml")
    parallel = next(int(flag.partition("=")[2]) for flag in kserve["args"] if flag.startswith("--parallel="))
    for limit, slots, settings in (
        (server_of(base()["Deployment"])["resources"]["limits"]["memory"], int(given[f"{ENV_PREFIX}PARALLEL"]), given),
        (kserve["resources"]["limits"]["memory"], parallel, dict.fromkeys(kserve["args"])),
        (compose["mem_limit"], None, compose["environment"]),
    ):
        named = " ".join(settings).lower().replace("-", "_")
        assert "request_bytes" not in named, "a limit of the file's own: hold it against the container's memory here"
        number, unit = re.fullmatch(r"(\d+)([a-zA-Z]+)", limit).groups()
        memory = int(number) << {"g": 30, "gi": 30, "m": 20, "mi": 20}[unit.lower()]
        share = memory_budget(1, slots, 64, memory)
        assert bytes_when_idle(1) + share.parallel * BEYOND_ESTIMATE * share.request <= memory
        assert share.request > 2 * MIN_REQUEST or slots is None


def test_traces_are_let_out_to_where_they_are_sent() -> None:
    manifests = {m["kind"]: m for m in built("traces")}
    endpoint = manifests["ConfigMap"]["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    host, port = endpoint.removeprefix("http://").split(":")
    collector, dns = manifests["NetworkPolicy"]["spec"]["egress"]
    namespace = collector["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert host.split(".")[1] == namespace
    assert [p["port"] for p in collector["ports"]] == [int(port)]
    assert {p["port"] for p in dns["ports"]} == {53}
    assert not next(m for m in built("base") if m["kind"] == "NetworkPolicy")["spec"]["egress"]


def test_the_runtime_drains_within_the_time_of_a_pod() -> None:
    """KServe has no field for it, so Kubernetes' 30 seconds apply."""
    server = read(DEPLOY / "kserve/servingruntime.yaml")["spec"]["containers"][0]
    flags = dict(arg.removeprefix("--").split("=") for arg in server["args"] if "=" in arg)
    assert float(flags["drain-delay"]) + float(flags["grace-period"]) < 30
    assert server["livenessProbe"]["grpc"]["service"] == "live"
    assert {server[probe]["grpc"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {9000}


def known_metrics() -> set[str]:
    """The names under which Prometheus stores the metrics of a server."""
    registry = CollectorRegistry()
    Metrics(registry)
    registry.register(ProcessMetrics(list))
    families = {f.name: f for f in registry.collect()}
    return {name + ending for name, f in families.items() for ending in _endings(f.type)}


def test_alerts_use_existing_metrics_and_have_a_runbook_entry() -> None:
    known = known_metrics()
    runbook = (ROOT / "docs/operations.md").read_text()
    for rule in (r for g in read(DEPLOY / "prometheus/alerts.yaml")["groups"] for r in g["rules"]):
        for name in re.findall(r"lstm_explain_\w+", rule["expr"]):
            assert name in known, f"{rule['alert']}: {name}"
        page, heading = rule["annotations"]["runbook"].split("#")
        assert page == "docs/operations.md"
        assert heading == rule["alert"].lower()
        assert f"### {rule['alert']}\n" in runbook


def _endings(kind: str) -> tuple[str, ...]:
    return {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))


def test_all_yaml_files_parse() -> None:
    found = [path for path in DEPLOY.rglob("*.y*ml") if path.parent.name != "templates"]  # of Helm, which are no YAML
    for path in (*found, ROOT / "compose.yaml"):
        assert list(yaml.safe_load_all(path.read_text())), path
