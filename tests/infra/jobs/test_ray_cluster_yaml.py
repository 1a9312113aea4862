"""The cluster launcher's file, by Ray's own rules and by ours: pinned images, nothing nightly, no key in it."""

from __future__ import annotations

import copy
import re
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


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
    kinds = [prepared, *prepared["available_node_types"].values()]
    commands = [c for kind in kinds for key, value in kind.items() if key.endswith("_commands") for c in value]
    assert len(commands) >= 7
    assert not [c for c in commands if "nightly" in c or ".whl" in c]


def test_only_the_gpu_nodes_get_the_gpu_image(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert types["train"]["docker"]["worker_image"].endswith("-gpu")
    assert "docker" not in types["decode"]
    assert cluster["docker"]["image"].endswith("-cpu")


def test_workers_fit_under_the_clusters_own_limit(cluster: dict[str, Any]) -> None:
    workers = sum(node["max_workers"] for name, node in cluster["available_node_types"].items() if name != "head")
    assert cluster["max_workers"] == workers


def test_the_head_drives_and_nothing_else(cluster: dict[str, Any]) -> None:
    assert cluster["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_both_kinds_of_workers_begin_at_zero_and_decoders_are_spot(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert [types[name]["min_workers"] for name in ("decode", "train")] == [0, 0]
    market = {name: node["node_config"].get("InstanceMarketOptions") for name, node in types.items()}
    assert market == {"head": None, "decode": {"MarketType": "spot"}, "train": None}


def test_labels_say_which_nodes_decode(cluster: dict[str, Any]) -> None:
    """The launcher hands a node's labels to `ray start` through a variable; what a run asks for must match them."""
    from adaptfocus.infra.running.settings import settings_from

    words = ["name=a", "runs=/r", "index=/i", "placement.decode_labels={adaptfocus/role: decode}"]
    wanted = settings_from("small", words, None).placement.decode_labels.items()
    labels = {name: node["labels"] for name, node in cluster["available_node_types"].items()}
    assert [name for name in labels if wanted <= labels[name].items()] == ["decode"]
    assert "labels" in validated(cluster)["available_node_types"]["decode"]


def test_a_gpu_node_has_no_cpu_to_spare(cluster: dict[str, Any]) -> None:
    """The launcher's autoscaler knows no labels: it would count a free CPU there as room for decoding, and wait."""
    train = cluster["available_node_types"]["train"]["resources"]
    assert train["GPU"] > 0
    assert train["CPU"] == train["GPU"], "a rank takes one of each"


def test_the_launchers_autoscaler_sees_it_so(cluster: dict[str, Any]) -> None:
    """Ray's own arithmetic: with the train nodes full, decoding asks for decode nodes; with CPUs to spare, for none."""
    full = launched(cluster, {"CPU": 0.0, "GPU": 0.0})
    assert full == {"decode": 1}
    assert launched(cluster, {"CPU": 8.0, "GPU": 0.0}) == {}, "why it offers one CPU"


def launched(cluster: dict[str, Any], free_on_train: dict[str, float]) -> dict[str, int]:
    """Nodes that the autoscaler would start for three decoding tasks if a train node has these resources free."""
    from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
    from ray.autoscaler._private.resource_demand_scheduler import (
        _default_utilization_scorer,
        get_bin_pack_residual,
        get_nodes_for,
    )

    types = copy.deepcopy(cluster["available_node_types"])
    types["decode"]["resources"] = {"CPU": 32}  # on AWS, Ray fills in what the instance type has
    tasks = [{"CPU": 2 / 3}] * 3
    unmet, _ = get_bin_pack_residual([dict(free_on_train)], tasks)
    scorer = partial(_default_utilization_scorer, node_availability_summary=NodeAvailabilitySummary({}))
    needed, _ = get_nodes_for(types, {}, "head", 24, unmet, utilization_scorer=scorer)
    return dict(needed)


def test_every_kind_of_node_installs_the_project_with_its_extras(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    for commands in (cluster["head_setup_commands"], *(types[n]["worker_setup_commands"] for n in ("decode", "train"))):
        assert "/home/ray/adaptfocus[ray,s3]" in commands[-1]
    assert cluster["file_mounts"] == {"/home/ray/adaptfocus": "."}


def test_it_holds_no_credentials() -> None:
    text = (ROOT / "ray_cluster.yaml").read_text()
    assert not re.search(r"AKIA|aws_secret|ssh_private_key|password", text, re.IGNORECASE)
