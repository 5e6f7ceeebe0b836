# SPDX-License-Identifier: Apache-2.0
"""The Helm chart: the same deployment as the Kustomize base, with settings that the server accepts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import lstm_explain
from lstm_explain.serving.settings import ENV_PREFIX, Settings
from tests.deploy.manifests import CHART, VALUES, Manifest, base, built, charted, helm

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def by_kind(values: dict[str, Any]) -> dict[str, Manifest]:
    return {m["kind"]: m for m in charted(values) if not m["metadata"]["name"].endswith("-dashboard")}


def pod(manifests: dict[str, Manifest]) -> Manifest:
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("values", VALUES)
def test_the_settings_are_valid_together(values: str, tmp_path: Path) -> None:
    given = by_kind(VALUES[values])["ConfigMap"]["data"]
    own = {n.removeprefix(ENV_PREFIX).lower(): v for n, v in given.items() if n.startswith(ENV_PREFIX)}
    assert set(own) <= set(Settings.model_fields)
    file = tmp_path / "file"
    file.touch()
    mounted = {name: str(file) if re.match(r"/(tls|tokens|signers|receipts)", v) else v for name, v in own.items()}
    Settings(**{**mounted, "models": str(tmp_path)})  # type: ignore[arg-type]


def test_every_mounted_file_has_its_volume() -> None:
    made = by_kind(VALUES["everything"])
    mounts = {m["name"]: m["mountPath"] for m in pod(made)["containers"][0]["volumeMounts"]}
    assert set(mounts) == {"tmp", "models", "operations", "tls", "tokens", "signers", "receipts"}
    assert set(mounts) == {volume["name"] for volume in pod(made)["volumes"]}
    for name in ("TLS_CERT", "TOKENS", "MODEL_SIGNERS", "RECEIPT_KEY", "MODELS"):
        assert any(made["ConfigMap"]["data"][ENV_PREFIX + name].startswith(path) for path in mounts.values())


def test_the_defaults_are_those_of_the_kustomize_base() -> None:
    chart, kustomize = by_kind({}), base()
    ours, theirs = pod(chart)["containers"][0], pod(kustomize)["containers"][0]
    for key in ("args", "ports", "resources", "securityContext", "volumeMounts", "readinessProbe", "livenessProbe"):
        assert ours[key] == theirs[key], key
    for key in ("terminationGracePeriodSeconds", "securityContext", "volumes", "enableServiceLinks"):
        assert pod(chart)[key] == pod(kustomize)[key], key
    for kind, key in (("HorizontalPodAutoscaler", "behavior"), ("HorizontalPodAutoscaler", "metrics")):
        assert chart[kind]["spec"][key] == kustomize[kind]["spec"][key]
    assert chart["NetworkPolicy"]["spec"]["ingress"] == kustomize["NetworkPolicy"]["spec"]["ingress"]
    assert chart["ConfigMap"]["data"] == next(m for m in built("base") if m["kind"] == "ConfigMap")["data"]


def test_selectors_find_the_pods_of_their_release_only() -> None:
    made = by_kind(VALUES["everything"])
    labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        made["Deployment"]["spec"]["selector"]["matchLabels"],
        made["Service"]["spec"]["selector"],
        made["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        made["PodMonitor"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/instance"] == "demo"


def test_tls_changes_probes_and_the_protocol_of_the_service() -> None:
    plain, secured = by_kind({}), by_kind({"tls": {"secretName": "tls"}})
    assert plain["Service"]["spec"]["ports"][0]["appProtocol"] == "kubernetes.io/h2c"
    assert secured["Service"]["spec"]["ports"][0]["appProtocol"] == "grpc"
    assert "LSTM_EXPLAIN_INSECURE_LISTEN" not in secured["ConfigMap"]["data"]
    for probe in PROBES:
        assert "--ca" in pod(secured)["containers"][0][probe]["exec"]["command"]
        assert "exec" not in pod(plain)["containers"][0][probe]


def test_traces_have_a_way_out() -> None:
    made = by_kind({"traces": {"enabled": True}})
    assert made["ConfigMap"]["data"]["LSTM_EXPLAIN_TRACES"] == "true"
    assert made["NetworkPolicy"]["spec"]["egress"][0]["ports"][0]["port"] == 4317
    assert by_kind({})["NetworkPolicy"]["spec"]["egress"] == []


def test_a_pod_has_time_for_the_grace_period_that_is_set() -> None:
    assert pod(by_kind({"settings": {"grace_period": 60}}))["terminationGracePeriodSeconds"] > 65


def test_large_numbers_are_written_out() -> None:
    data = by_kind(VALUES["everything"])["ConfigMap"]["data"]
    assert data["LSTM_EXPLAIN_MAX_MESSAGE_BYTES"] == "67108864"
    assert (data["LSTM_EXPLAIN_POLL_SECONDS"], data["LSTM_EXPLAIN_SPARE"]) == ("0.5", "false")


def test_a_change_of_the_settings_makes_new_pods() -> None:
    def checksum(values: dict[str, Any]) -> str:
        return by_kind(values)["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]

    assert checksum({}) != checksum({"settings": {"max_batch": 8}})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"tls": {"secret": "x"}}, "'secret' not allowed"),
        ({"replicas": "two"}, "want integer"),
        ({"provenance": {"modelSignatures": "maybe"}}, "modelSignatures"),
        ({"provenance": {"modelSignatures": "require"}}, "signersSecretName"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"colour": "red"}, "'colour' not allowed"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], problem: str) -> None:
    done = helm("template", "demo", "--kube-version", "1.30", values=values)
    assert done.returncode != 0
    assert problem in done.stderr


def test_the_linter_accepts_the_chart() -> None:
    done = helm("lint", "--strict", "--kube-version", "1.30", values=VALUES["everything"])
    assert done.returncode == 0, done.stdout


def test_the_chart_has_the_version_of_the_project_and_documents_every_value() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (lstm_explain.__version__,) * 2
    page = (CHART / "README.md").read_text()
    for name in yaml.safe_load((CHART / "values.yaml").read_text()):
        assert f"`{name}`" in page, name
