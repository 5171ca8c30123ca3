"""Seed a local cloud with what the runbooks on ECR are rehearsed on: where to push to, whom to share layers with, and months of images.

foo-repository is empty and has the settings that a console gives; shop/base holds an image on the same base layer as the sample
image. shop/web, shop/worker and tools/builder have a history, and an ECS service, an older task definition and a Lambda function
use some of it. The layers of the history are known by size and digest only; all else has its bytes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.rehearsal.ecr import history, sample_image
from helpers.rehearsal.ecr.manifests import OCI_MANIFEST, digest_of
from helpers.rehearsal.ecr.sample_chart import sample_chart

if TYPE_CHECKING:
    from helpers.rehearsal.cloud import Cloud
    from helpers.rehearsal.scenario import Access

PUSHED_TO, NEIGHBOUR, USED = "foo-repository", "shop/base", "shop/web"
PART = 10 * 1024 * 1024
# A policy as many have it: by a tag that nobody uses any more, and nothing that keeps what runs.
POLICY = {
    "rules": [
        {
            "rulePriority": 10,
            "description": "Untagged images for two weeks",
            "selection": {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14},
            "action": {"type": "expire"},
        },
        {
            "rulePriority": 90,
            "description": "The newest 500",
            "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 500},
            "action": {"type": "expire"},
        },
    ]
}


@dataclass(frozen=True)
class ContainerImages:
    """What a cloud holds: the folder of the samples (an OCI layout `image`, a Helm chart `chart`), and images in use by name."""

    samples: Path
    in_use: dict[str, str]
    notes: tuple[str, ...] = ()


def ensure(cloud: Cloud, *, fresh: bool = False) -> ContainerImages:
    """Make the samples, repositories, images and what uses them, where they are not there.

    `fresh` changes nothing: a push or a policy of an earlier run stays, as it would on AWS.
    """
    from helpers.rehearsal.cloud import SAMPLES
    from helpers.rehearsal.scenario import Access, ScenarioFailed

    access, samples = Access(cloud.environment()), cloud.directory / SAMPLES
    samples.mkdir(exist_ok=True)
    try:
        layout = sample_image.sample_image(samples)
    except LookupError as error:
        raise ScenarioFailed(str(error)) from error
    sample_chart(samples)
    ecr = access.client("ecr")
    there = [one["repositoryName"] for one in ecr.describe_repositories()["repositories"]]
    if USED not in there:
        for name in {PUSHED_TO, NEIGHBOUR, *history.KINDS} - set(there):
            ecr.create_repository(repositoryName=name)
        # On AWS too a registry shares layers only once this is chosen.
        ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
        _push_neighbour(ecr, layout)
        now = datetime.now(UTC)
        cloud.registry(seed={name: history.images(name, now) for name in history.KINDS})
        ecr.put_lifecycle_policy(repositoryName="shop/worker", lifecyclePolicyText=json.dumps(POLICY))
        _use(access)
    return ContainerImages(samples, _in_use(access), _notes())


def _push_neighbour(ecr: Any, layout: Path) -> None:
    """Push an image that has the sample's base layer, by the API alone."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]))
    config = json.loads(_blob(layout, manifest["config"]["digest"]))
    base, text = manifest["layers"][0], json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": config["rootfs"]["diff_ids"][:1]}})
    described = {**manifest["config"], "digest": _upload(ecr, text.encode()), "size": len(text)}
    _upload(ecr, _blob(layout, base["digest"]))
    told = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": [base]}
    ecr.put_image(repositoryName=NEIGHBOUR, imageManifest=json.dumps(told), imageTag=sample_image.TAG)


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def _upload(ecr: Any, content: bytes) -> str:
    """Put a layer into the neighbour's repository; returns its digest."""
    identity = ecr.initiate_layer_upload(repositoryName=NEIGHBOUR)["uploadId"]
    where = {"repositoryName": NEIGHBOUR, "uploadId": identity}
    for first in range(0, len(content), PART):
        part = content[first : first + PART]
        ecr.upload_layer_part(**where, partFirstByte=first, partLastByte=first + len(part) - 1, layerPartBlob=part)
    ecr.complete_layer_upload(**where, layerDigests=[digest_of(content)])
    return digest_of(content)


def _use(access: Access) -> None:
    """Let an ECS service run a release, an older revision of its task name a commit, and a Lambda function have an old digest."""
    ecr, ecs = access.client("ecr"), access.client("ecs")
    images = sorted(_tagged(ecr), key=lambda one: one["imagePushedAt"])
    commits = [one for one in images if len(one["imageTags"]) == 1 and one["imageTags"][0].startswith("git-")]
    releases = [one for one in images if any(tag.startswith("release-") for tag in one["imageTags"])]
    address = ecr.describe_repositories(repositoryNames=[USED])["repositories"][0]["repositoryUri"]
    release = next(tag for tag in releases[-3]["imageTags"] if tag.startswith("release-"))
    ecs.create_cluster(clusterName="shop")
    for family, reference in (("web", f"{address}:{release}"), ("web-nightly", f"{address}:{commits[len(commits) // 3]['imageTags'][0]}")):
        ecs.register_task_definition(family=family, containerDefinitions=[{"name": "web", "image": reference, "memory": 256, "essential": True}])
    ecs.create_service(cluster="shop", serviceName="web", taskDefinition="web", desiredCount=2)
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    role = access.client("iam").create_role(RoleName="shop-report", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    code = {"ImageUri": f"{address}@{commits[len(commits) // 8]['imageDigest']}"}
    access.client("lambda").create_function(FunctionName="shop-report", Role=role, PackageType="Image", Code=code)


def _tagged(ecr: Any) -> list[dict[str, Any]]:
    pages = ecr.get_paginator("describe_images").paginate(repositoryName=USED, filter={"tagStatus": "TAGGED"}, PaginationConfig={"PageSize": 1000})
    return [one for page in pages for one in page["imageDetails"]]


def _in_use(access: Access) -> dict[str, str]:
    """Return the references that are in use, by who uses them."""
    ecs, found = access.client("ecs"), {}
    for family in ("web", "web-nightly"):
        task = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
        found[f"ECS task definition {family}"] = task["containerDefinitions"][0]["image"]
    found["Lambda function shop-report"] = access.client("lambda").get_function(FunctionName="shop-report")["Code"]["ImageUri"]
    return found


def _notes() -> tuple[str, ...]:
    return () if sys.platform == "linux" else ("This machine is no Linux: the sample image holds its own server without a loader, and runs nowhere.",)
