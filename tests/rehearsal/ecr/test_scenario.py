"""What a rehearsal on ECR begins with: a place to push to, a neighbour with the same base, and months of images, some in use."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import rehearse, scenario
from helpers.rehearsal.ecr.scenario import NEIGHBOUR, PUSHED_TO, USED


@pytest.fixture(scope="module")
def made(cloud: clouds.Cloud) -> Any:
    return scenario.SCENARIOS["ecr_push"](cloud, fresh=True, **scenario.options_of({"repository": "other"}, "ecr_push"))


@pytest.fixture
def ecr(cloud: clouds.Cloud, made: Any) -> Iterator[Any]:
    yield scenario.Access(cloud.environment()).client("ecr")


def details(ecr: Any, name: str) -> list[dict[str, Any]]:
    pages = ecr.get_paginator("describe_images").paginate(repositoryName=name, PaginationConfig={"PageSize": 1000})
    return [one for page in pages for one in page["imageDetails"]]


def manifest(ecr: Any, name: str, digest: str) -> dict[str, Any]:
    return dict(json.loads(ecr.batch_get_image(repositoryName=name, imageIds=[{"imageDigest": digest}])["images"][0]["imageManifest"]))


def test_the_repository_to_push_to_is_empty_and_a_neighbour_has_the_sample_s_base_layer(ecr: Any, made: Any) -> None:
    assert details(ecr, PUSHED_TO) == []
    assert ecr.get_account_setting(name="BLOB_MOUNTING")["value"] == "ENABLED"
    index = json.loads((made.samples / "image" / "index.json").read_text())
    name = index["manifests"][0]["digest"].removeprefix("sha256:")
    base = json.loads((made.samples / "image" / "blobs" / "sha256" / name).read_text())["layers"][0]["digest"]
    layer = ecr.batch_check_layer_availability(repositoryName=NEIGHBOUR, layerDigests=[base])["layers"][0]
    assert layer["layerAvailability"] == "AVAILABLE"
    assert (made.samples / "chart" / "Chart.yaml").exists()


def test_the_history_has_months_of_images_that_share_layers_with_and_without_tags(ecr: Any) -> None:
    found = details(ecr, USED)
    ages = [(datetime.now(UTC) - one["imagePushedAt"]).days for one in found]
    untagged = [one for one in found if not one.get("imageTags")]
    assert 200 <= len(found) <= 300 and max(ages) > 180 and min(ages) < 3
    assert 30 < len(untagged) < 100
    assert any(one.get("lastRecordedPullTime") for one in found) and not all(one.get("lastRecordedPullTime") for one in found)
    images = [manifest(ecr, USED, one["imageDigest"]) for one in found if "index" not in one["imageManifestMediaType"]][:60]
    sizes = {layer["digest"]: layer["size"] for image in images for layer in image["layers"]}
    assert sum(sizes.values()) < sum(layer["size"] for image in images for layer in image["layers"]) / 2
    indexes = [one for one in found if "index" in one["imageManifestMediaType"]]
    assert indexes and all(any(tag.startswith("release-") for tag in one["imageTags"]) for one in indexes)
    deadline = time.monotonic() + 30
    while any(one.get("imageScanStatus", {}).get("status") == "IN_PROGRESS" for one in found) and time.monotonic() < deadline:
        time.sleep(0.1)
        found = details(ecr, USED)
    severities = {name for one in found for name in one.get("imageScanFindingsSummary", {}).get("findingSeverityCounts", {})}
    assert {"CRITICAL", "HIGH"} <= severities


def test_images_in_use_are_there_by_tag_and_by_digest(ecr: Any, made: Any) -> None:
    address = ecr.describe_repositories(repositoryNames=[USED])["repositories"][0]["repositoryUri"]
    found = details(ecr, USED)
    tags, digests = {tag for one in found for tag in one.get("imageTags", [])}, {one["imageDigest"] for one in found}
    by_tag = [one for one in made.in_use.values() if "@" not in one]
    assert [one.removeprefix(f"{address}:") in tags for one in by_tag] == [True, True]
    assert [one.partition("@")[2] in digests for one in made.in_use.values() if "@" in one] == [True]


def test_another_run_finds_what_an_earlier_one_left(cloud: clouds.Cloud, ecr: Any, made: Any) -> None:
    again = scenario.SCENARIOS["ecr_lifecycle"](cloud, fresh=True)
    assert again == made
    assert json.loads(ecr.get_lifecycle_policy(repositoryName="shop/worker")["lifecyclePolicyText"])["rules"]


def test_a_run_is_told_where_the_samples_are(cloud: clouds.Cloud, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearse, "SHARED", cloud.directory)
    variables = rehearse.prepare("ecr_storage", {}, tmp_path / "run")
    assert Path(variables["RUNBOOK_SAMPLES"]) == made.samples
