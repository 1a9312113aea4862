"""The cluster launcher's file, by Ray's own rules and by ours: pinned images, nothing nightly, no key in it."""

from __future__ import annotations

import copy
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


def validated(cluster: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    prepared = validated(cluster)
    assert set(prepared["available_node_types"]) == {"head", "decode", "train"}
    assert prepared["head_node_type"] == "head"


def test_ray_would_have_refused_a_misspelt_node_type(cluster: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="head_node_type"):
        validated({**cluster, "head_node_type": "haed"})
    broken = copy.deepcopy(cluster)
    broken["available_node_types"]["train"]["max_wrokers"] = 3
    with pytest.raises(Exception, match="max_wrokers"):
        validated(broken)


def test_every_image_is_the_ray_this_project_is_tested_with(cluster: dict[str, Any]) -> None:
    """The AWS defaults install a nightly wheel: a cluster that started yesterday may not start today."""
    text = (ROOT / "ray_cluster.yaml").read_text()
    images = re.findall(r"image: (\S+)", text)
    assert len(images) == 2
    for image in images:
        assert re.fullmatch(rf"rayproject/ray:{re.escape(version('ray'))}-py311-(cpu|gpu)", image)
    prepared = validated(cluster)
    commands = [c for key, value in prepared.items() if key.endswith("_commands") for c in value]
    assert commands
    assert not [c for c in commands if "nightly" in c or ".whl" in c]


def test_the_gpu_nodes_alone_get_the_gpu_image(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert types["train"]["docker"]["worker_image"].endswith("-gpu")
    assert "docker" not in types["decode"]
    assert cluster["docker"]["image"].endswith("-cpu")


def test_workers_fit_under_the_clusters_own_limit(cluster: dict[str, Any]) -> None:
    workers = sum(node["max_workers"] for name, node in cluster["available_node_types"].items() if name != "head")
    assert cluster["max_workers"] == workers


def test_it_holds_no_credentials() -> None:
    text = (ROOT / "ray_cluster.yaml").read_text()
    assert not re.search(r"AKIA|aws_secret|ssh_private_key|password", text, re.IGNORECASE)
