"""The lifecycle runbook as its users run it: planned, applied, killed and resumed, rolled back, and what it refuses."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from helpers.aws import RunbookError
from helpers.ecr import InvalidPolicy, parse_policy, preview_lifecycle
from helpers.ecr.lifecycle_change import same
from helpers.ecr.lifecycle_permissions import POLICY
from helpers.ecr.stored import read
from tests.ecr_lifecycle.conftest import DAYS, NEWEST_TEN, OLD_COMMIT, OLD_RELEASE

pytestmark = pytest.mark.timeout(240)
WRITES = ["StartLifecyclePolicyPreview", "PutLifecyclePolicy"]


def permitted() -> set[str]:
    return {action for one in POLICY["Statement"] for action in one["Action"]}


def text(run: Any) -> str:
    return "\n".join(card.html for card in run.cards)


def test_apply_previews_compares_and_puts_the_proposal_and_ecr_then_deletes_what_was_shown(house: Any) -> None:
    done = house.apply("a")
    metrics = house.result("a")["metrics"]
    assert (done.status, metrics["images"], metrics["in_use"], metrics["shields"]) == ("done", DAYS + 4, 1, 1)
    assert "agrees about every image" in text(done)
    before = house.tags()
    tomorrow = (datetime.now(timezone.utc) + timedelta(minutes=1)).isoformat()
    assert house.cloud.registry(expire_images={"repository": house.repository, "now": tomorrow})
    assert len(before - house.tags()) == metrics["expire"] - 1, "one of them had no tag"
    assert {OLD_COMMIT, OLD_RELEASE, "multi", f"git-{DAYS - 1:03}"} <= house.tags()


def test_plan_lists_what_apply_then_sends_and_sends_nothing(house: Any) -> None:
    assert house.run(mode="plan", run_id="p").status == "planned"
    planned = house.result("p")
    assert [call["operation"] for call in planned["plan"]] == WRITES and not any(call["sent"] for call in planned["plan"])
    assert house.policy() == ""
    plan_file = str(house.runs / "p" / "plan.json")
    house.apply("p", plan_file=plan_file)
    sent = [call["operation"] for call in house.result("p")["calls"] if call["write"] and call["sent"]]
    assert sent == WRITES
    assert same(house.policy(), planned["plan"][-1]["parameters"]["lifecyclePolicyText"])


def test_the_policy_holds_every_call(house: Any) -> None:
    house.apply("q")
    house.rollback("q")
    made = {f"{call['service']}:{call['operation']}" for call in house.result("q")["calls"]}
    assert {"ecr:PutLifecyclePolicy", "ecs:DescribeTaskDefinition", "lambda:ListFunctions", "eks:ListClusters", "inspector2:ListCoverage"} <= made
    assert made - permitted() == set()


def test_without_the_approval_no_policy_is_put(house: Any) -> None:
    with pytest.raises(RunbookError, match="Gate 'put' is not approved"):
        house.run(mode="apply", run_id="g")
    assert house.policy() == ""


def test_roll_back_deletes_the_policy_where_there_was_none(house: Any) -> None:
    house.apply("r")
    assert house.policy()
    assert house.rollback("r").status == "rolled back"
    assert house.policy() == ""


def test_roll_back_puts_the_old_policy_back(house: Any) -> None:
    house.client("ecr").put_lifecycle_policy(repositoryName=house.repository, lifecyclePolicyText=NEWEST_TEN)
    house.apply("b")
    assert not same(house.policy(), NEWEST_TEN)
    house.rollback("b")
    assert same(house.policy(), NEWEST_TEN)


def test_roll_back_leaves_a_policy_that_somebody_else_put_since(house: Any) -> None:
    house.apply("e")
    other = NEWEST_TEN.replace("10}", "11}")
    house.client("ecr").put_lifecycle_policy(repositoryName=house.repository, lifecyclePolicyText=other)
    house.rollback("e")
    assert same(house.policy(), other)


def test_a_policy_that_changed_while_it_was_looked_at_is_left_alone(house: Any) -> None:
    house.run(until="run.gate", mode="apply", run_id="c", approve="put")
    house.client("ecr").put_lifecycle_policy(repositoryName=house.repository, lifecyclePolicyText=NEWEST_TEN)
    with pytest.raises(RunbookError, match=r"changed since it was looked at: it was left alone.*Start a new run"):
        house.apply("c")
    assert same(house.policy(), NEWEST_TEN)


def test_stopped_before_the_gate_and_resumed_it_asks_ecr_for_no_second_preview(house: Any) -> None:
    house.run(until="run.gate", mode="apply", run_id="m")
    assert house.apply("m").status == "done"
    assert [call["operation"] for call in house.result("m")["calls"] if call["write"]] == WRITES


def test_killed_in_the_step_and_resumed_it_puts_the_policy_once(house: Any) -> None:
    house.killed_in("k", "4 Put the policy")
    assert house.apply("k").status == "done"
    puts = [call for call in house.result("k")["calls"] if call["operation"] == "PutLifecyclePolicy" and call["status"] == 200]
    assert len(puts) <= 1  # none where ECR had the policy, and the kernel was killed before it was told so
    assert len(parse_policy(house.policy()).rules) == 5
    house.rollback("k")
    assert house.policy() == ""


def test_images_in_use_are_shielded_and_said_to_be(house: Any) -> None:
    house.uses(OLD_RELEASE, "worker")
    done = house.apply("s", policy=NEWEST_TEN)
    rules = parse_policy(house.policy()).rules
    assert {rule.tags for rule in rules[:-1]} == {(OLD_RELEASE,), (OLD_COMMIT,)} and rules[-1].tags == ()
    assert "ECS task definition worker" in text(done)
    stored = read(house.client("ecr"), house.repository)
    kept = preview_lifecycle(house.policy(), stored.images, datetime.now(timezone.utc)).set_index("digest").action
    running = [record["digest"] for record in stored.images if {OLD_COMMIT, OLD_RELEASE} & set(record["tags"])]
    assert [kept[digest] for digest in running] == ["keep", "keep"]


def test_shields_can_be_left_out_and_then_what_goes_is_named(house: Any) -> None:
    house.uses(OLD_RELEASE, "worker")
    done = house.apply("u", policy=NEWEST_TEN, keep_in_use=False)
    assert [rule.tags for rule in parse_policy(house.policy()).rules] == [()]
    assert OLD_COMMIT in text(done) and "cannot pull it" in text(done) and "2 of the images that go are in use" in text(done)


def test_an_image_in_use_that_no_tag_can_shield_ends_the_run(house: Any) -> None:
    stored = read(house.client("ecr"), house.repository)
    children = {digest for record in stored.images for digest in record.get("references", ())}
    bare = next(record["digest"] for record in stored.images if not record["tags"] and record["digest"] not in children)
    container = {"name": "app", "image": f"{house.uri}@{bare}", "memory": 128, "essential": True}
    house.client("ecs").register_task_definition(family=f"bare-{house.repository.replace('/', '-')}", containerDefinitions=[container])
    with pytest.raises(RunbookError, match=rf"no tag can shield {bare}.*Tag what is untagged"):
        house.apply("t")
    assert house.policy() == ""


def test_every_fault_of_a_policy_ends_the_run_before_anything(house: Any) -> None:
    wrong = json.dumps({"rules": [{"rulePriority": 0, "selection": {"tagStatus": "tagged", "countType": "sinceImagePushed", "countNumber": 0}, "action": {"type": "expire"}}]})
    with pytest.raises(InvalidPolicy) as refused:
        house.apply("w", policy=wrong)
    assert len(refused.value.faults) == 4
    assert house.result("w")["status"] == "failed"


@pytest.mark.parametrize(("repository", "told"), [("shop/wep-1", "Did you mean 'shop/web-"), ("nothing/alike", "describe-repositories")])
def test_a_repository_that_does_not_exist_is_told_with_the_nearest(house: Any, repository: str, told: str) -> None:
    with pytest.raises(RunbookError, match=told):
        house.apply("n", repository=repository)


def test_a_second_run_finds_the_policy_there_and_puts_nothing(house: Any) -> None:
    house.apply("one")
    house.apply("two")
    assert [call["operation"] for call in house.result("two")["calls"] if call["write"]] == WRITES[:1]
    house.rollback("two")
    assert house.policy(), "what the first run put stays"


def test_where_pods_run_what_was_pulled_lately_is_shielded_or_at_least_named(house: Any) -> None:
    eks = house.client("eks")
    if not eks.list_clusters()["clusters"]:
        role = house.client("iam").create_role(RoleName="eks", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        eks.create_cluster(name="pods", roleArn=role, resourcesVpcConfig={"subnetIds": ["subnet-1", "subnet-2"]})
    now = datetime.now(timezone.utc)
    old = {"pushed_at": (now - timedelta(days=70)).isoformat(), "pulled_at": (now - timedelta(days=2)).isoformat()}
    house.cloud.registry(seed={house.repository: [{"layers": [["pod", 1]], "tags": ["pod-7"], **old}, {"layers": [["bare", 1]], **old}]})
    try:
        done = house.apply("pods", policy=NEWEST_TEN)
    finally:
        eks.delete_cluster(name="pods")
    assert {("pod-7",), (OLD_COMMIT,)} <= {rule.tags for rule in parse_policy(house.policy()).rules}
    assert "its pods cannot be seen" in text(done) and "which was pulled lately, by whom is not known" in text(done)


def test_a_denied_action_ends_in_one_sentence_and_the_run_goes_on_once_it_is_allowed(house: Any) -> None:
    house.cloud.registry(deny=["ecr:PutLifecyclePolicy"])
    try:
        with pytest.raises(RunbookError, match=r"PutLifecyclePolicy was refused with AccessDenied.*`runbook show` prints the policy"):
            house.apply("d")
    finally:
        house.cloud.registry(deny=[])
    assert house.policy() == ""
    assert house.apply("d").status == "done"
    assert house.policy()


def test_archived_images_are_counted_and_their_layers_said_to_be_unread(house: Any) -> None:
    ecr = house.client("ecr")
    ecr.update_image_storage_class(repositoryName=house.repository, imageId={"imageTag": "git-001"}, targetStorageClass="ARCHIVE")
    stored = read(ecr, house.repository)
    archived = [record for record in stored.images if record["storageClass"] == "archive"]
    assert len(stored.images) == DAYS + 4 and [record["tags"] for record in archived] == [["git-001"]]
    assert stored.unread == (archived[0]["digest"],)
    done = house.run(mode="plan", run_id="z", policy=NEWEST_TEN)
    assert "the manifests of 1 images cannot be read, as in the archive" in text(done)
