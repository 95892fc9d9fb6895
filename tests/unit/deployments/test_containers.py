"""Dockerfile, compose.yaml and Kubernetes' files, as far as they can be checked without a daemon or a cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.templating import apply_values

from foreshard.settings import Settings

DEPLOYMENTS = Path(__file__).resolve().parents[3] / "deployments"
KUBERNETES = DEPLOYMENTS / "kubernetes"
PROFILES = {
    "serve": {"control", "prefect-server", "serve", "prometheus", "grafana"},
    "pool": {"control", "prefect-server", "deploy", "worker", "docs", "metrics", "prometheus", "grafana"},
}


def run(tool: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A tool of the extra `test`."""
    beside = Path(sys.executable).parent
    program = shutil.which(tool, path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip(f"{tool} is not installed")
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}
    return subprocess.run(
        [program, *arguments], cwd=DEPLOYMENTS, env=env, capture_output=True, text=True, check=False
    )


def test_the_dockerfile_is_without_a_complaint_of_hadolint() -> None:
    said = run("hadolint", "Dockerfile")
    assert (said.returncode, said.stdout) == (0, "")


def test_the_dockerfile_does_what_the_image_promises() -> None:
    lines = (DEPLOYMENTS / "Dockerfile").read_text(encoding="utf-8")
    assert "--constraint constraints.txt" in lines
    assert "libgomp1" in lines
    assert re.search(r"^USER 10001$", lines, re.MULTILINE)
    assert "HEALTHCHECK" in lines
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", lines, re.MULTILINE):
        for name in copied.split():
            assert (DEPLOYMENTS.parent / name).exists(), name


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_takes_the_file(profile: str) -> None:
    said = run(
        "docker-compose", "--file", "compose.yaml", "config", "--format", "json",
        PREFECT_AUTH_STRING="a:b", COMPOSE_PROFILES=profile,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    composed = json.loads(said.stdout)
    assert composed["services"].keys() == PROFILES[profile]
    for name, service in composed["services"].items():
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1", f"{name} is published to others"


def test_compose_refuses_to_start_without_credentials() -> None:
    said = run("docker-compose", "--file", "compose.yaml", "config", COMPOSE_PROFILES="serve")
    assert said.returncode != 0
    assert "PREFECT_AUTH_STRING" in said.stderr


def composed() -> dict[str, Any]:
    """The file as it stands."""
    document: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text(encoding="utf-8"))
    return document


def test_no_password_stands_in_compose_and_each_service_is_watched() -> None:
    document = composed()
    text = (DEPLOYMENTS / "compose.yaml").read_text(encoding="utf-8")
    assert not re.search(r"PASSWORD: ", text)
    assert not re.search(r"://\w+:[^@/]+@", text)
    assert all(secret["file"].startswith("./secrets/") for secret in document["secrets"].values())
    watched = {name for name, service in document["services"].items() if "healthcheck" in service}
    assert watched | {"serve"} == document["services"].keys(), "serve has the image's own"


def _sections(names: list[str]) -> None:
    for name in names:
        section = name.removeprefix("FORESHARD_").split("__")[0]
        if name.startswith("FORESHARD_") and name != "FORESHARD_CONFIG":
            assert section.lower() in Settings.model_fields, name


def test_variables_of_both_are_settings() -> None:
    _sections(list(composed()["x-environment"]))
    for document in yaml.safe_load_all((KUBERNETES / "settings.yaml").read_text(encoding="utf-8")):
        _sections([name for name in document["data"] if name.isupper()])


def test_what_is_mounted_is_there() -> None:
    made_by_people = {"./secrets", "./foreshard.toml"}
    for name, service in composed()["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./") and source not in made_by_people:
                assert (DEPLOYMENTS / source).exists(), f"{name}: {source}"


def job() -> dict[str, Any]:
    """The job of a flow run, as the worker fills the template in."""
    template = json.loads((KUBERNETES / "base-job-template.json").read_text(encoding="utf-8"))
    properties = template["variables"]["properties"]
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == properties.keys(), "a variable that nothing uses, or one that is not declared"
    values = {name: one["default"] for name, one in properties.items() if "default" in one} | {
        "name": "migrate",
        "command": ["prefect", "flow-run", "execute"],
        "env": [{"name": "PREFECT_API_URL", "value": "http://prefect-server:4200/api"}],
        "labels": {"prefect.io/flow-run-name": "migrate"},
        "annotations": {},
    }
    manifest: dict[str, Any] = apply_values(template["job_configuration"]["job_manifest"], values)
    return manifest


def test_kubernetes_takes_the_manifests(tmp_path: Path) -> None:
    rendered = tmp_path / "job.yaml"
    manifest = job()
    manifest["metadata"]["name"] = "migrate-1"  # which Kubernetes makes of generateName
    rendered.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    for file in (rendered, KUBERNETES / "volumes.yaml", KUBERNETES / "settings.yaml"):
        said = run("kubernetes-validate", "--strict", str(file))
        assert said.returncode == 0, said.stdout + said.stderr


def test_jobs_and_values_name_the_same_things() -> None:
    pod = job()["spec"]["template"]["spec"]
    claims = {
        document["metadata"]["name"]
        for document in yaml.safe_load_all((KUBERNETES / "volumes.yaml").read_text(encoding="utf-8"))
    }
    server, worker = (
        yaml.safe_load((KUBERNETES / f"prefect-{one}-values.yaml").read_text(encoding="utf-8"))
        for one in ("server", "worker")
    )
    wanted = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in (*pod["volumes"], *server["server"]["extraVolumes"])
        if "persistentVolumeClaim" in volume
    }
    assert wanted == claims
    image = server["global"]["prefect"]["image"]
    assert pod["containers"][0]["image"] == f"{image['repository']}:{image['prefectTag']}"
    assert worker["worker"]["config"]["workPool"] == "foreshard"
    assert server["server"]["basicAuth"]["existingSecret"] == worker["worker"]["basicAuth"]["existingSecret"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
