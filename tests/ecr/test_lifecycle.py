"""Previews against the shared cases, against a plain reading of AWS's rules, and what must hold for every policy."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.ecr import InvalidPolicy, preview_lifecycle
from helpers.rehearsal.ecr.lifecycle import Candidate, evaluate

MADE = Path(__file__).parent / "data" / "lifecycle.jsonl"
RECORDED = Path(__file__).resolve().parents[2] / "../shared/data/recorded/lifecycle.jsonl"
NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def cases(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def check(case: dict[str, Any]) -> None:
    expect = case["expect"]
    if "invalid" in expect:
        with pytest.raises(InvalidPolicy) as refused:
            preview_lifecycle(case["policy"], case["images"], case["now"])
        assert refused.value.faults
        return
    found = preview_lifecycle(json.dumps(case["policy"]), case["images"], case["now"])
    expired = set(found.digest[found.action == "expire"])
    if "expireCount" in expect:
        assert len(expired) == expect["expireCount"]
        assert not expired & set(expect["notExpired"])
        return
    assert (expired, set(found.digest[found.action == "transition"])) == (set(expect["expire"]), set(expect["transition"]))


@pytest.mark.parametrize("case", cases(MADE), ids=lambda case: case["id"])
def test_a_shared_case_is_previewed_as_decided(case):
    check(case)


@pytest.mark.skipif(not RECORDED.exists(), reason=f"{RECORDED.name} is not in ../shared/data/recorded beside the checkout")
@pytest.mark.parametrize("case", cases(RECORDED), ids=lambda case: case["id"])
def test_an_example_of_aws_or_an_observed_preview_is_previewed_alike(case):
    check(case)


# -- what no shared case shows ------------------------------------------------------------------------------


def rule(priority: int, status: str = "any", *tags: str, number: int = 1, kind: str = "imageCountMoreThan", act: str = "expire", prefix: bool = False) -> dict[str, Any]:
    selection: dict[str, Any] = {"tagStatus": status, "countType": kind, "countNumber": number}
    if tags:
        selection["tagPrefixList" if prefix else "tagPatternList"] = list(tags)
    if kind != "imageCountMoreThan":
        selection["countUnit"] = "days"
    if kind == "sinceImageTransitioned":
        selection["storageClass"] = "archive"
    action = {"type": act} if act == "expire" else {"type": act, "targetStorageClass": "archive"}
    return {"rulePriority": priority, "selection": selection, "action": action}


def image(name: str, days: float, *tags: str, **more: Any) -> dict[str, Any]:
    return {"digest": f"sha256:{name}", "tags": list(tags), "pushedAt": NOW - timedelta(days=days), **more}


def actions(rules: list[dict[str, Any]], *images: dict[str, Any]) -> dict[str, str]:
    found = preview_lifecycle({"rules": rules}, images, NOW)
    return dict(zip((digest.removeprefix("sha256:") for digest in found.digest), found.action, strict=True))


def test_an_image_of_exactly_the_days_stays_and_one_a_microsecond_older_goes():
    old = [rule(1, kind="sinceImagePushed", number=30)]
    assert actions(old, image("a", 30), image("b", 30 + 1e-6 / 86_400)) == {"a": "keep", "b": "expire"}


def test_a_restored_image_that_nobody_pulled_since_counts_from_its_restoration():
    unused = [rule(1, kind="sinceImagePulled", number=30, act="transition")]
    before, after = NOW - timedelta(days=90), NOW - timedelta(days=5)
    restored = image("a", 200, lastRecordedPullTime=before, lastActivatedAt=after)
    again = image("b", 200, lastRecordedPullTime=before, lastActivatedAt=before - timedelta(days=30))
    never = image("c", 200, lastActivatedAt=after)
    assert actions(unused, restored, again, never) == {"a": "keep", "b": "transition", "c": "keep"}


def test_a_restored_image_is_ranked_by_its_restoration():
    assert actions([rule(1)], image("a", 200, lastActivatedAt=NOW), image("b", 1)) == {"a": "keep", "b": "expire"}


def test_children_stay_while_their_list_is_there_and_go_once_it_is_archived():
    old = [rule(1, kind="sinceImagePushed", number=30)]
    child = image("child", 60)
    assert actions(old, child, image("list", 60, references=["sha256:child"])) == {"child": "keep", "list": "expire"}
    gone = image("list", 60, references=["sha256:child"], storageClass="archive", lastArchivedAt=NOW)
    assert actions(old, child, gone) == {"child": "expire", "list": "keep"}


def test_the_reason_names_the_list_that_holds_a_child():
    found = preview_lifecycle({"rules": [rule(1, kind="sinceImagePushed")]}, [image("child", 9), image("list", 0, references=["sha256:child"])], NOW)
    assert "until the manifest list sha256:list is gone" in found.reason[0]


def test_a_signature_follows_its_subject_whatever_rule_matches_it():
    rules = [rule(1, "untagged", kind="sinceImagePushed"), rule(2, number=1)]
    signature = {"subject": "sha256:v1"}
    assert actions(rules, image("v1", 9, "v1"), image("sig", 9, **signature), image("v2", 0, "v2")) == {"v1": "expire", "sig": "expire", "v2": "keep"}
    assert actions(rules, image("v1", 0, "v1"), image("sig", 9, **signature)) == {"v1": "keep", "sig": "keep"}
    assert actions(rules[:1], image("sig", 9, **signature)) == {"sig": "expire"}, "its subject is gone"


def test_an_image_that_is_being_restored_is_left_alone():
    assert actions([rule(1, kind="sinceImagePushed")], image("a", 99, storageClass="activating")) == {"a": "keep"}


def test_a_wildcard_is_only_a_star_and_case_counts():
    old = [rule(1, "tagged", "v?.*", kind="sinceImagePushed")]
    assert actions(old, image("a", 9, "v1.0"), image("b", 9, "v?.0"), image("c", 9, "V?.0")) == {"a": "keep", "b": "expire", "c": "keep"}
    star = [rule(1, "tagged", "a*", kind="sinceImagePushed", prefix=True)]
    assert actions(star, image("a", 9, "abc"), image("b", 9, "a*c")) == {"a": "keep", "b": "expire"}, "a prefix has no wildcards"


def test_each_listed_tag_may_be_matched_by_a_tag_of_its_own():
    both = [rule(1, "tagged", "git-*", "*prod", kind="sinceImagePushed")]
    assert actions(both, image("a", 9, "git-1", "eu-prod"), image("b", 9, "git-prod"), image("c", 9, "git-2")) == {"a": "expire", "b": "expire", "c": "keep"}


def test_the_rule_that_shields_is_named_with_the_rank():
    rules = [rule(1, "tagged", "release-*", number=9999), rule(2, kind="sinceImagePushed", number=30)]
    found = preview_lifecycle({"rules": rules}, [image("a", 60, "release-1"), image("b", 9, "ci")], NOW)
    assert found.shielded_by.tolist()[0] == 1 and found.shielded_by.isna().tolist() == [False, True]
    assert found["rank"].tolist() == [1, 1] and found.rule.tolist() == [1, 2]


def test_an_image_that_no_rule_matches_says_so():
    found = preview_lifecycle({"rules": [rule(1, "untagged")]}, [image("a", 60, "x")], NOW)
    assert (found.action[0], found.reason[0], found.rule.isna()[0]) == ("keep", "no rule matches it", True)


def test_no_images_are_an_empty_table():
    found = preview_lifecycle({"rules": [rule(1)]}, [], NOW)
    assert (list(found.columns), len(found)) == (["digest", "action", "rule", "reason", "rank", "shielded_by"], 0)


@pytest.mark.parametrize("wrong", [{"digest": "sha256:a"}, {"pushedAt": NOW}, {"digest": "sha256:a", "pushedAt": "yesterday"}])
def test_an_image_without_a_digest_or_a_time_is_refused(wrong):
    with pytest.raises(ValueError, match=r"no digest|no pushedAt|yesterday"):
        preview_lifecycle({"rules": [rule(1)]}, [wrong], NOW)


# -- for every policy ---------------------------------------------------------------------------------------

TAGS = ["v1", "v2", "v2-rc", "prod", "eu-prod", "git-1", "git-2"]
PATTERNS = ["v*", "*prod*", "git-*", "v2", "*-*", "*", "*1", "v*c"]


@st.composite
def repositories(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rules that AWS would take, and images of which some are archived, restored, pulled, in lists, or refer to others."""
    lists = draw(st.lists(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2, unique=True), max_size=4, unique_by=lambda tags: frozenset(tags)))
    numbers = draw(st.permutations(range(1, 12)))
    rules = [rule(numbers.pop(), "tagged", *tags, **draw(_counts)) for tags in lists]
    if draw(st.booleans()):
        rules.append(rule(numbers.pop(), "untagged", **draw(_counts)))
    if draw(st.booleans()) or not rules:
        rules.append(rule(20, **draw(_counts)))
    if draw(st.booleans()):
        rules.append(rule(numbers.pop(), kind="sinceImageTransitioned", number=90))
    images = []
    for name in range(draw(st.integers(0, 12))):
        one = image(f"{name:02}", draw(_days), *draw(st.lists(st.sampled_from(TAGS), max_size=3, unique=True)))
        for key in draw(st.lists(st.sampled_from(["lastRecordedPullTime", "lastActivatedAt"]), unique=True)):
            one[key] = NOW - timedelta(days=draw(_days))
        if draw(st.integers(0, 4)) == 0:
            one |= {"storageClass": "archive", "lastArchivedAt": NOW - timedelta(days=draw(st.integers(60, 120)))}
        if images and draw(st.integers(0, 3)) == 0:
            one["references"] = [draw(st.sampled_from(images))["digest"]]
        images.append(one)
    return draw(st.permutations(rules)), images


_days = st.integers(0, 40).map(lambda quarter: quarter / 4)
_counts = st.one_of(
    st.fixed_dictionaries({"number": st.integers(1, 4), "act": st.sampled_from(["expire", "transition"])}),
    st.fixed_dictionaries({"kind": st.just("sinceImagePushed"), "number": st.integers(1, 9), "act": st.sampled_from(["expire", "transition"])}),
    st.fixed_dictionaries({"kind": st.just("sinceImagePulled"), "number": st.integers(1, 9), "act": st.just("transition")}),
)


def plainly(rules: list[dict[str, Any]], images: list[dict[str, Any]]) -> dict[str, str]:
    """What becomes of each image by a plain reading of the user guide, one image and one rule at a time."""
    becomes = {one["digest"]: "keep" for one in images}
    seen: set[str] = set()
    for one in sorted(rules, key=lambda rule: rule["rulePriority"]):
        select = one["selection"]
        stored = select.get("storageClass", "standard")
        mine = [each for each in images if each.get("storageClass", "standard") == stored and tags_match(select, each["tags"])]
        mine.sort(key=lambda each: each["digest"])
        mine.sort(key=lambda each: age_from(select, each) if select["countType"] != "sinceImagePulled" else since_push(each), reverse=True)
        for place, each in enumerate(mine):
            too_old = NOW - age_from(select, each) > timedelta(days=select["countNumber"])
            if each["digest"] not in seen and (place >= select["countNumber"] if select["countType"] == "imageCountMoreThan" else too_old):
                becomes[each["digest"]] = one["action"]["type"]
        seen |= {each["digest"] for each in mine}
    for one in images:
        if one.get("storageClass", "standard") == "standard":
            becomes |= {digest: "keep" for digest in one.get("references", ())}
    return becomes


def tags_match(select: dict[str, Any], tags: list[str]) -> bool:
    if select["tagStatus"] == "untagged":
        return not tags
    return all(any(re.fullmatch(pattern.replace("*", ".*"), tag) for tag in tags) for pattern in select.get("tagPatternList", ()))


def since_push(one: dict[str, Any]) -> datetime:
    return one.get("lastActivatedAt", one["pushedAt"])


def age_from(select: dict[str, Any], one: dict[str, Any]) -> datetime:
    if select["countType"] == "sinceImageTransitioned":
        return one["lastArchivedAt"]
    pulled, restored = one.get("lastRecordedPullTime"), one.get("lastActivatedAt")
    if select["countType"] == "sinceImagePulled" and pulled and (not restored or pulled >= restored):
        return pulled
    return since_push(one)


@settings(max_examples=100, deadline=None)
@given(repositories())
def test_a_preview_is_what_a_plain_reading_of_the_rules_gives(repository):
    rules, images = repository
    found = preview_lifecycle({"rules": rules}, images, NOW)
    assert dict(zip(found.digest, found.action, strict=True)) == plainly(rules, images)
    assert found.digest.tolist() == [one["digest"] for one in images]


@settings(max_examples=60, deadline=None)
@given(repositories())
def test_the_local_cloud_s_own_evaluator_agrees_though_it_shares_no_code(repository):
    rules, images = repository
    held = {digest for one in images if "storageClass" not in one for digest in one.get("references", ())}
    seen = [
        Candidate(
            one["digest"], frozenset(one["tags"]), one["pushedAt"].timestamp(),
            *(one[name].timestamp() if name in one else None for name in ("lastRecordedPullTime", "lastArchivedAt", "lastActivatedAt")),
            one.get("storageClass", "standard"), one["digest"] in held,
        )
        for one in images
    ]  # fmt: skip
    theirs = {action.digest: (action.kind, action.priority) for action in evaluate(json.dumps({"rules": rules}), seen, NOW.timestamp())}
    found = preview_lifecycle({"rules": rules}, images, NOW)
    acted = found[found.action != "keep"]
    assert dict(zip(acted.digest, zip(acted.action, acted.rule, strict=True), strict=True)) == theirs


@settings(max_examples=30, deadline=None)
@given(repositories(), st.randoms(use_true_random=False))
def test_the_order_of_images_and_rules_changes_nothing(repository, chance):
    rules, images = repository
    first = preview_lifecycle({"rules": rules}, images, NOW).set_index("digest")
    chance.shuffle(rules)
    shuffled = chance.sample(images, len(images))
    again = preview_lifecycle({"rules": rules}, shuffled, NOW).set_index("digest").loc[first.index]
    assert again.drop(columns="reason").equals(first.drop(columns="reason"))


@settings(max_examples=30, deadline=None)
@given(repositories())
def test_a_rule_that_comes_first_and_keeps_all_it_matches_shields_them(repository):
    rules, images = repository
    pattern = {"rulePriority": 1, "selection": {**rule(1, "tagged", "v1*")["selection"], "countNumber": 99_999}, "action": {"type": "expire"}}
    later = [{**one, "rulePriority": one["rulePriority"] + 1} for one in rules]
    found = preview_lifecycle({"rules": [pattern, *later]}, images, NOW).set_index("digest").action
    standard = [one for one in images if one.get("storageClass") is None and any(tag.startswith("v1") for tag in one["tags"])]
    assert all(found[one["digest"]] == "keep" for one in standard)


@settings(max_examples=30, deadline=None)
@given(repositories(), st.integers(1, 30))
def test_by_age_alone_an_image_that_goes_today_goes_on_any_later_day(repository, days):
    rules = [one for one in repository[0] if one["selection"]["countType"] != "imageCountMoreThan"]
    if not rules:
        return
    today, later = (preview_lifecycle({"rules": rules}, repository[1], when).action for when in (NOW, NOW + timedelta(days=days)))
    assert (later[today != "keep"] == today[today != "keep"]).all()


def test_the_reason_tells_what_was_never_pulled_from_what_was_pulled_long_ago():
    unused = {"rules": [rule(1, kind="sinceImagePulled", number=30, act="transition")]}
    images = [image("a", 60, lastRecordedPullTime=NOW - timedelta(days=40)), image("b", 60), image("c", 20)]
    assert preview_lifecycle(unused, images, NOW).reason.tolist() == [
        "rule 1: last pulled 40 days ago, more than 30",
        "rule 1: never pulled, and pushed or restored 60 days ago, more than 30",
        "rule 1: never pulled, and pushed or restored 20 days ago, not more than 30",
    ]
