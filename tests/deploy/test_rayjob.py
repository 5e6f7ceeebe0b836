# SPDX-License-Identifier: Apache-2.0
"""The RayJob matches the command that it runs. test_schemas.py checks its pods against Kubernetes' schemas."""

from __future__ import annotations

import re
import shlex

from tests.deploy.manifests import DEPLOY, read

JOB = read(DEPLOY / "ray/rayjob.yaml")["spec"]


def test_the_entrypoint_is_a_valid_command() -> None:
    from typer.main import get_command

    from lstm_explain.cli import app

    program, name, *words = shlex.split(JOB["entrypoint"])
    assert program == "lstm-explain"
    command = get_command(app).get_command(None, name)  # type: ignore[attr-defined]
    context = command.make_context(name, words)
    assert context.params["address"] == "auto"


def test_image_and_job_agree_on_rays_version() -> None:
    (version,) = re.findall(r"^FROM rayproject/ray:([\d.]+)-", (DEPLOY / "ray/Dockerfile").read_text(), re.M)
    assert JOB["rayClusterSpec"]["rayVersion"] == version


def test_ray_runs_as_many_shards_as_there_are_cores_and_none_on_the_head() -> None:
    cluster = JOB["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"]["cpu"] == group["rayStartParams"]["num-cpus"]


def test_every_node_sees_the_volume_that_the_command_names() -> None:
    cluster = JOB["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (mount,) = pod["containers"][0]["volumeMounts"]
        assert mount["name"] in {volume["name"] for volume in pod["volumes"]}
        assert len(re.findall(rf"{mount['mountPath']}/", JOB["entrypoint"])) == 3
