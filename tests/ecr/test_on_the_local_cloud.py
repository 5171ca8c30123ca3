"""What is read from ECR and of who uses images, on the local cloud: its registry, and ECS, Lambda, EKS and Inspector beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest

from helpers.aws import Aws, connect
from helpers.ecr import preview_lifecycle, storage
from helpers.ecr.in_use import Use, find_uses, used_digests
from helpers.ecr.own_preview import OwnPreview, ask_ecr, differences
from helpers.ecr.stored import read
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import scenario

pytestmark = pytest.mark.timeout(180)
MIB = 2**20
REPOSITORY, REGION = "shop/web", "ap-northeast-1"
NOW = datetime.now(timezone.utc)
KEEP_TWO = (
    '{"rules":[{"rulePriority":1,"description":"the newest two","selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":2},"action":{"type":"expire"}}]}'
)


@dataclass
class Place:
    """A local cloud, a session on it, and the URI of its repository."""

    cloud: clouds.Cloud
    aws: Aws
    uri: str


def built(name: str, days: float, *tags: str, **more: Any) -> dict[str, Any]:
    return {"layers": [["base", 60 * MIB], [name, 5 * MIB]], "tags": list(tags), "pushed_at": (NOW - timedelta(days=days)).isoformat(), **more}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("cloud")
    environment = pytest.MonkeyPatch()
    try:
        cloud = clouds.up(directory)
        for name, value in {**cloud.environment(), "NO_PROXY": "127.0.0.1"}.items():
            environment.setenv(name, value)
        uri = scenario.Access(cloud.environment()).client("ecr").create_repository(repositoryName=REPOSITORY)["repository"]["repositoryUri"]
        images = [built(f"app-{number}", 9 - number, f"v{number}") for number in range(4)] + [built("arm", 8), built("intel", 8)]
        images.append({"children": [4, 5], "tags": ["multi"], "pushed_at": (NOW - timedelta(days=8)).isoformat()})
        cloud.registry(seed={REPOSITORY: images})
        yield Place(cloud, connect(region=REGION), uri)
    finally:
        environment.undo()
        clouds.down(directory)


def test_a_repository_is_read_with_its_layers_and_the_images_of_its_lists(place: Place) -> None:
    stored = read(place.aws.client("ecr"), REPOSITORY)
    by_tag = {tag: record for record in stored.images for tag in record["tags"]}
    children = by_tag["multi"]["references"]
    assert len(stored.images) == 7 and len(children) == 2
    assert all(len(stored.blobs[digest]) == 3 for digest in [*children, by_tag["v1"]["digest"]]), "two layers and a configuration"
    layers = (60 + 6 * 5) * MIB
    assert layers < stored.bytes_of() < layers + MIB
    assert stored.summed > 6 * 65 * MIB, "the shared base counts in each image"


def test_many_images_are_read_in_pages_and_batches(place: Place) -> None:
    place.aws.client("ecr").create_repository(repositoryName="many/images")
    place.cloud.registry(seed={"many/images": [built(f"many-{number}", number / 100, f"git-{number}") for number in range(1, 231)]})
    stored = read(place.aws.client("ecr"), "many/images")
    assert (len(stored.images), len(stored.blobs), stored.unread) == (230, 230, ())
    assert stored.freed({record["digest"] for record in stored.images}) == stored.bytes_of()


def test_who_uses_images_is_found_in_ecs_lambda_and_eks(place: Place) -> None:
    aws, uri = place.aws, place.uri
    ecs = aws.client("ecs")
    ecs.create_cluster(clusterName="shop")
    for tag in ("v0", "v1"):
        ecs.register_task_definition(family="web", containerDefinitions=[{"name": "app", "image": f"{uri}:{tag}", "memory": 64, "essential": True}])
    ecs.create_service(cluster="shop", serviceName="old", taskDefinition="web:1", desiredCount=0)
    role = aws.client("iam").create_role(RoleName="eks", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    aws.client("eks").create_cluster(name="pods", roleArn=role, resourcesVpcConfig={"subnetIds": ["subnet-1", "subnet-2"]})
    aws.client("lambda").create_function(FunctionName="pay", PackageType="Image", Role=role, Code={"ImageUri": f"{uri}:v2"})
    found = find_uses(aws, REPOSITORY)
    assert {Use(f"{uri}:v0", "ECS task definition web:1"), Use(f"{uri}:v1", "ECS task definition web:2")} <= set(found.found), "the newest and the one that a service deploys"
    assert any(use.by.startswith("Lambda function pay") for use in found.found)
    assert [note for note in found.unseen if "pods cannot be seen" in note]
    stored = read(aws.client("ecr"), REPOSITORY)
    by_digest = {record["digest"]: record["tags"] for record in stored.images}
    assert sorted(tag for digest in used_digests(found.found, stored.images, [uri]) for tag in by_digest[digest]) == ["v0", "v1", "v2"]


def test_a_service_that_refuses_is_named_and_the_others_are_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    def refuse(*_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not yours"}}, "ListFunctions")

    monkeypatch.setattr("helpers.ecr.in_use._lambda", refuse)
    found = find_uses(place.aws, REPOSITORY)
    assert "Lambda was not asked: ListFunctions was refused with AccessDeniedException: not yours" in found.unseen


def test_ecr_s_own_preview_is_awaited_and_agrees(place: Place) -> None:
    stored = read(place.aws.client("ecr"), REPOSITORY)
    ours = preview_lifecycle(KEEP_TWO, stored.images, datetime.now(timezone.utc))
    theirs = ask_ecr(place.aws, REPOSITORY, KEEP_TWO)
    again = ask_ecr(place.aws, REPOSITORY, KEEP_TWO)
    assert theirs == again and theirs.table().values.tolist() == [["COMPLETE", "expire by rule 1", "3"]]
    assert differences(ours, theirs, stored.images).empty


def test_a_difference_names_both_and_leaves_referrers_out() -> None:
    ours = pd.DataFrame({"digest": ["a", "b", "s"], "action": ["keep", "expire", "expire"], "reason": ["no rule matches it", "old", "follows"]})
    theirs = OwnPreview("COMPLETE", {"a": "expire", "b": "expire"}, {"a": 1, "b": 1})
    apart = differences(ours, theirs, [{"digest": "a"}, {"digest": "b"}, {"digest": "s", "subject": "b"}])
    assert apart.values.tolist() == [["a", "keep", "expire", "no rule matches it"]]


def test_a_registry_is_reported_from_the_account(place: Place) -> None:
    registry = storage.read_registry(place.aws, [REPOSITORY])
    assert registry.table().loc[REPOSITORY, "images"] == "7"
    assert registry.used[REPOSITORY]
    assert (registry.prices.standard, registry.prices.source.split(",")[0]) == (0.10, "Pricing API")
    assert storage.savings_table(registry.savings(KEEP_TWO)).loc["all", "images"] == "7"
