"""The Kubernetes files, by the published CRDs' rules, by Ray's own reader of them, and by rules of ours."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.infra.jobs.kuberay_schema import SCHEMAS

FOLDER = Path(__file__).resolve().parents[3] / "infra" / "kuberay"


def documents(name: str) -> list[dict[str, Any]]:
    # Through the text again: an anchor would make one object of several.
    return [yaml.safe_load(yaml.dump(each)) for each in yaml.safe_load_all((FOLDER / name).read_text())]


def of_kind(kind: str) -> dict[str, Any]:
    found = [d for name in ("raycluster.yaml", "rayjob.yaml") for d in documents(name) if d["kind"] == kind]
    (only,) = found
    return only


def cluster_spec(kind: str) -> dict[str, Any]:
    spec = of_kind(kind)["spec"]
    return spec if kind == "RayCluster" else spec["rayClusterSpec"]


def groups(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}


def containers(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, group in groups(spec).items():
        for container in group["template"]["spec"]["containers"]:
            yield name, container


def check(document: dict[str, Any]) -> None:
    """The schema, and the rules between fields that the operator and the API server hold."""
    jsonschema.Draft202012Validator(SCHEMAS[document["kind"]]).validate(document)
    spec = document["spec"]
    spec = spec.get("rayClusterSpec", spec)
    for group in spec.get("workerGroupSpecs", []):
        low, now, high = group["minReplicas"], group.get("replicas", 0), group["maxReplicas"]
        assert low <= now <= high, f"{group['groupName']}: {low} <= {now} <= {high}"
    for name, container in containers(spec):
        requests, limits = container["resources"].get("requests", {}), container["resources"].get("limits", {})
        assert requests.get("nvidia.com/gpu") == limits.get("nvidia.com/gpu"), f"{name}: GPUs cannot be overcommitted"


KINDS = pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])


@KINDS
def test_it_keeps_the_published_rules(kind: str) -> None:
    check(of_kind(kind))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("spec", "enableInTreeAutoscalling"), True, "enableInTreeAutoscalling"),
        (("spec", "workerGroupSpecs", 0, "maxReplica"), 3, "maxReplica"),
        (("spec", "workerGroupSpecs", 0, "maxReplicas"), "3", "is not of type 'integer'"),
        (("spec", "workerGroupSpecs", 0, "groupName"), "Decode_Nodes", "does not match"),
        (("spec", "workerGroupSpecs", 0, "replicas"), 17, "0 <= 17 <= 16"),
        (("spec", "autoscalerOptions", "version"), "v3", "is not one of"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "is not of type 'string'"),
        (("spec", "headGroupSpec", "template", "spec", "restartpolicy"), "Never", "restartpolicy"),
        (("spec", "headGroupSpec", "template", "spec", "containers", 0, "resources", "limits", "memory"), "16GB",
         "does not match"),
        (("apiVersion",), "ray.io/v1alpha1", "was expected"),
    ],
)  # fmt: skip
def test_mistakes_are_caught(path: tuple, value: Any, message: str) -> None:
    broken = of_kind("RayCluster")
    place: Any = broken
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises((jsonschema.ValidationError, AssertionError), match=re.escape(message)):
        check(broken)


def test_what_is_required_is_missed() -> None:
    broken = of_kind("RayCluster")
    del broken["spec"]["workerGroupSpecs"][1]["maxReplicas"]
    with pytest.raises(jsonschema.ValidationError, match="'maxReplicas' is a required property"):
        check(broken)


@KINDS
def test_rays_autoscaler_reads_the_groups(kind: str) -> None:
    """What Ray's own sidecar makes of the file: resources and labels of each kind of node."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    resource = {"metadata": {"name": "a", "namespace": "b"}, "spec": copy.deepcopy(cluster_spec(kind))}
    types = _derive_autoscaling_config_from_ray_cr(resource)["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert {k: types["train"]["resources"][k] for k in ("CPU", "GPU")} == {"CPU": 1, "GPU": 1}
    assert types["decode"]["resources"]["CPU"] == 15
    assert "GPU" not in types["decode"]["resources"]
    assert {name: node["labels"]["adaptfocus/role"] for name, node in types.items()} == {
        "headgroup": "head", "decode": "decode", "train": "train",
    }  # fmt: skip
    assert [types[name]["min_workers"] for name in ("decode", "train")] == [0, 0]


@KINDS
def test_versions_and_images_are_those_this_project_is_tested_with(kind: str) -> None:
    spec = cluster_spec(kind)
    assert spec["rayVersion"] == version("ray")
    assert (spec["enableInTreeAutoscaling"], spec["autoscalerOptions"]["version"]) == (True, "v2")
    form = rf"[\w.]+/adaptfocus:{re.escape(version('adaptfocus'))}-ray{re.escape(version('ray'))}-py311-(cpu|gpu)"
    variants = {}
    for name, container in containers(spec):
        match = re.fullmatch(form, container["image"])
        assert match, container["image"]
        variants[name] = match[1]
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (name == "train")
    assert variants == {"head": "cpu", "decode": "cpu", "train": "gpu"}
    base = (FOLDER / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{version('ray')}-py311-" in base
    assert "nightly" not in base + (FOLDER / "raycluster.yaml").read_text() + (FOLDER / "rayjob.yaml").read_text()


@KINDS
def test_a_drain_reaches_the_node_before_kubernetes_kills_it(kind: str) -> None:
    """Ray drains on SIGTERM, for as long as its variable says; the pod must live longer, and some seconds more."""
    for name in ("decode", "train"):
        pod = groups(cluster_spec(kind))[name]["template"]["spec"]
        (container,) = pod["containers"]
        variables = {v["name"]: v["value"] for v in container["env"]}
        drain = float(variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert 30 <= drain <= pod["terminationGracePeriodSeconds"] - 10
        assert pod["restartPolicy"] == "Never"
        assert not {"livenessProbe", "readinessProbe"} & container.keys(), "KubeRay puts in its own"


def test_ray_drains_on_sigterm_as_long_as_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the variable, from Ray itself: a misspelt one would do nothing."""
    import importlib

    from ray._private import ray_constants

    monkeypatch.setenv("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "77")
    try:
        assert importlib.reload(ray_constants).RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S == 77
    finally:
        monkeypatch.undo()
        importlib.reload(ray_constants)


@KINDS
def test_credentials_come_from_a_secret_or_a_role(kind: str) -> None:
    spec = cluster_spec(kind)
    for group in groups(spec).values():
        assert group["template"]["spec"]["serviceAccountName"] == "adaptfocus"
    for name, container in containers(spec):
        assert container["envFrom"] == [{"secretRef": {"name": "adaptfocus-store", "optional": True}}], name
        assert not [v["name"] for v in container.get("env", []) if v["name"].startswith("AWS_")], name
    file = {"RayCluster": "raycluster.yaml", "RayJob": "rayjob.yaml"}[kind]
    assert [d["metadata"]["name"] for d in documents(file) if d["kind"] == "ServiceAccount"] == ["adaptfocus"]


def test_the_job_runs_on_the_cluster_of_the_other_file() -> None:
    assert cluster_spec("RayJob") == cluster_spec("RayCluster")


def test_the_jobs_command_is_one_that_the_command_line_takes() -> None:
    from adaptfocus.infra.running.settings import settings_from

    spec = of_kind("RayJob")["spec"]
    program, command, recipe, *words = shlex.split(spec["entrypoint"])
    assert (program, command, words[-2:]) == ("adaptfocus", "train", ["--address", "auto"])
    config = settings_from(recipe, words[:-2], None)
    assert config.placement.decode_labels == groups(spec["rayClusterSpec"])["decode"]["labels"]
    assert config.placement.gpus_per_worker == 1
    assert spec["metadata"] == {"adaptfocus_run": config.url}
    assert spec["backoffLimit"] > 0, "a lost head is another cluster, and the run resumes"
