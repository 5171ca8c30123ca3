"""Lifecycle policies in the local cloud: its own reading of AWS's rules, previews, and expiry on demand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helpers.rehearsal.cloud import CloudFailed
from helpers.rehearsal.ecr import lifecycle

ROOT = Path(__file__).resolve().parents[3]
RECORDED = ROOT / "../shared/data/recorded/lifecycle.jsonl"


def cases(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def policy(*rules: dict[str, Any]) -> str:
    kind = {"type": "expire"}
    numbered = [{"rulePriority": number, "description": f"The rule of number {number}", "action": kind, "selection": one} for number, one in enumerate(rules, 1)]
    return json.dumps({"rules": numbered})


def age(days: int, status: str = "any", **more: Any) -> dict[str, Any]:
    return {"tagStatus": status, "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days, **more}


def count(most: int, status: str = "any", **more: Any) -> dict[str, Any]:
    return {"tagStatus": status, "countType": "imageCountMoreThan", "countNumber": most, **more}


def seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def candidates(case: dict[str, Any]) -> list[lifecycle.Candidate]:
    listed = {digest for image in case["images"] for digest in image.get("references", [])}
    return [
        lifecycle.Candidate(
            image["digest"],
            frozenset(image["tags"]),
            seconds(image["pushedAt"]) or 0.0,
            *(seconds(image.get(name)) for name in ("lastRecordedPullTime", "lastArchivedAt", "lastActivatedAt")),
            image.get("storageClass", "standard"),
            image["digest"] in listed,
        )
        for image in case["images"]
    ]


@pytest.mark.parametrize("case", cases(ROOT / "tests/ecr/data/lifecycle.jsonl"), ids=lambda case: case["id"])
def test_the_cloud_reads_a_policy_as_aws_does(case: dict[str, Any]) -> None:
    check(case)


@pytest.mark.skipif(not RECORDED.exists(), reason=f"{RECORDED.name} is not in ../shared/data/recorded beside the checkout")
@pytest.mark.parametrize("case", cases(RECORDED), ids=lambda case: case["id"])
def test_the_cloud_reads_a_recorded_policy_as_aws_did(case: dict[str, Any]) -> None:
    check(case)


def check(case: dict[str, Any]) -> None:
    text = case["policy"] if isinstance(case["policy"], str) else json.dumps(case["policy"])
    if "invalid" in case["expect"]:
        with pytest.raises(lifecycle.Unsound):
            lifecycle.rules_of(text)
        return
    done = lifecycle.evaluate(text, candidates(case), seconds(case["now"]) or 0.0)
    found = {kind: sorted(one.digest for one in done if one.kind == kind) for kind in ("expire", "transition")}
    if "expireCount" in case["expect"]:  # what was published of a preview that somebody saw
        assert len(found["expire"]) == case["expect"]["expireCount"]
        assert not set(found["expire"]) & set(case["expect"]["notExpired"])
        return
    assert found == {kind: sorted(case["expect"][kind]) for kind in found}


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (count(0), "countNumber is no integer from 1"),
        (count(1, "tagged"), "tagged needs either"),
        (count(1, "tagged", tagPatternList=["a*b*c*d*e*"]), "at most 4 wildcards"),
        ({**age(1), "countUnit": "weeks"}, "needs countUnit days"),
        ({**age(30), "countType": "sinceImagePulled"}, "for transition only"),
        (count(1, tagPrefix=["a"]), "tagPrefix is no property"),
    ],
)
def test_a_policy_with_a_fault_is_refused_with_its_name(registry: Any, rule: dict[str, Any], told: str) -> None:
    code, message, status = registry.refusal("put_lifecycle_policy", lifecyclePolicyText=policy(rule).ljust(120))
    assert (code, status) == ("InvalidParameterException", 400)
    assert message.startswith("Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle policy validation failure: ")
    assert told in message


def test_a_policy_is_kept_until_it_is_deleted(registry: Any) -> None:
    text, name = policy(age(30)), registry.repository
    assert registry.refusal("get_lifecycle_policy")[0] == "LifecyclePolicyNotFoundException"
    registry.ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=text)
    assert registry.ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"] == text
    assert registry.ecr.delete_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"] == text
    assert registry.refusal("start_lifecycle_policy_preview")[0] == "LifecyclePolicyNotFoundException"
    assert registry.refusal("get_lifecycle_policy_preview")[0] == "LifecyclePolicyPreviewNotFoundException"
    assert registry.refusal("put_lifecycle_policy", lifecyclePolicyText="{}" + " " * 40_000)[0] == "InvalidParameterException"


def seed(registry: Any, number: int, *, days: int = 1) -> None:
    """Put images into the repository, one a day or so, the oldest first; every third has no tag."""
    now = datetime.now(UTC)
    images = [
        {
            "layers": [["base", 30_000_000], [f"{registry.repository} {one}", 1_000_000 + one]],
            "tags": [f"git-{one}"] if one % 3 else [],
            "pushed_at": (now - timedelta(days=days * (number - one))).isoformat(),
        }
        for one in range(number)
    ]
    assert registry.cloud.registry(seed={registry.repository: images})["seeded"] == number


def test_seeded_images_have_their_dates_sizes_and_shared_layers_and_say_that_they_have_no_bytes(registry: Any) -> None:
    seed(registry, 3, days=40)
    told = registry.detail(imageTag="git-1")
    assert (datetime.now(UTC) - told["imagePushedAt"]).days == 80
    manifest = json.loads(registry.ask("GET", f"/v2/{registry.repository}/manifests/git-1").body)
    assert told["imageSizeInBytes"] == 31_000_001 + manifest["config"]["size"]
    assert registry.ask("GET", f"/v2/{registry.repository}/blobs/{manifest['config']['digest']}").status == 307
    answer = registry.ask("GET", f"/v2/{registry.repository}/blobs/{manifest['layers'][0]['digest']}")
    assert (answer.status, answer.message) == (404, "This layer was made up for the rehearsal: its size is known, it has no bytes.")


def test_the_push_of_an_image_that_is_there_can_be_moved_into_the_past(registry: Any) -> None:
    registry.push("v1")
    past = datetime(2026, 1, 2, tzinfo=UTC)
    registry.cloud.registry(seed={registry.repository: [{"image": "v1", "pushed_at": past.isoformat()}]})
    assert registry.detail(imageTag="v1")["imagePushedAt"] == past
    with pytest.raises(CloudFailed, match="There is no image 'v2'"):
        registry.cloud.registry(seed={registry.repository: [{"image": "v2", "pushed_at": past.isoformat()}]})


def test_a_preview_is_in_progress_then_complete_and_comes_in_pages(registry: Any, until: Any) -> None:
    seed(registry, 250)
    name = registry.repository
    assert registry.ecr.start_lifecycle_policy_preview(repositoryName=name, lifecyclePolicyText=policy(age(14, "untagged"), count(30)))["status"] == "IN_PROGRESS"
    until(lambda: registry.ecr.get_lifecycle_policy_preview(repositoryName=name)["status"] == "COMPLETE")
    pages = list(registry.ecr.get_paginator("get_lifecycle_policy_preview").paginate(repositoryName=name))
    results = [one for page in pages for one in page["previewResults"]]
    assert len(pages) > 1 and pages[0]["summary"] == {"expiringImageTotalCount": len(results)}
    assert all(one["action"] == {"type": "EXPIRE"} and one["storageClass"] == "STANDARD" for one in results)
    assert {one["appliedRulePriority"] for one in results if not one["imageTags"]} == {1}
    assert {one["appliedRulePriority"] for one in results if one["imageTags"]} == {2}
    shown = registry.ecr.get_lifecycle_policy_preview(repositoryName=name, filter={"tagStatus": "UNTAGGED"})["previewResults"]
    assert shown and not any(one["imageTags"] for one in shown)
    assert len(registry.ecr.list_images(repositoryName=name, maxResults=1000)["imageIds"]) == 250, "a preview deletes nothing"


def test_a_policy_expires_when_it_is_ordered_exactly_what_the_preview_showed(registry: Any, until: Any) -> None:
    seed(registry, 20)
    name, text = registry.repository, policy(count(5))
    registry.ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=text)
    registry.ecr.start_lifecycle_policy_preview(repositoryName=name)
    until(lambda: registry.ecr.get_lifecycle_policy_preview(repositoryName=name)["status"] == "COMPLETE")
    shown = {one["imageDigest"] for one in registry.ecr.get_lifecycle_policy_preview(repositoryName=name)["previewResults"]}
    actions = registry.cloud.registry(expire_images={"repository": name})["actions"]
    assert {one["digest"] for one in actions} == shown
    left = {one["imageDigest"] for one in registry.ecr.list_images(repositoryName=name)["imageIds"]}
    assert len(left) == 5 and not left & shown
    assert registry.ecr.get_lifecycle_policy(repositoryName=name)["lastEvaluatedAt"]
    later = (datetime.now(UTC) + timedelta(days=400)).isoformat()
    registry.ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=policy(age(30, "untagged")))
    registry.cloud.registry(expire_images={"repository": name, "now": later})
    assert all(one.get("imageTag") for one in registry.ecr.list_images(repositoryName=name)["imageIds"])


def test_a_transition_archives_and_keeps_the_image(registry: Any) -> None:
    seed(registry, 4, days=30)
    rule = {"rulePriority": 1, "description": "Archive what is old and was kept", "selection": age(45)}
    text = json.dumps({"rules": [{**rule, "action": {"type": "transition", "targetStorageClass": "archive"}}]})
    registry.ecr.put_lifecycle_policy(repositoryName=registry.repository, lifecyclePolicyText=text)
    done = registry.cloud.registry(expire_images={"repository": registry.repository})["actions"]
    assert [one["action"] for one in done] == ["transition"] * 3
    found = registry.ecr.describe_images(repositoryName=registry.repository, filter={"imageStatus": "ARCHIVED"})["imageDetails"]
    assert len(found) == 3 and all(one["lastArchivedAt"] for one in found)
