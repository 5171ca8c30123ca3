"""Images in use are shielded by rules for their tags, and what no tag can shield is named."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from helpers.ecr import parse_policy, preview_lifecycle
from helpers.ecr.in_use import Use, pulled_lately, used_digests, uses_table
from helpers.ecr.shield import family, proposal, shield

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop/web"


def rule(priority: int, *tags: str, number: int = 1, **more: Any) -> dict[str, Any]:
    selection = {"tagStatus": "tagged" if tags else "any", "countType": "imageCountMoreThan", "countNumber": number, **({"tagPatternList": list(tags)} if tags else {})}
    return {"rulePriority": priority, "selection": {**selection, **more}, "action": {"type": "expire"}}


def image(name: str, days: float, *tags: str, **more: Any) -> dict[str, Any]:
    return {"digest": f"sha256:{name}", "tags": list(tags), "pushedAt": NOW - timedelta(days=days), **more}


def kept(policy: Any, images: list[dict[str, Any]]) -> set[str]:
    found = preview_lifecycle(policy, images, NOW)
    return set(found.digest[found.action == "keep"])


BUILDS = [image(f"{place:02}", place, f"git-{place:02}", *([f"release-1.{20 - place}"] if place % 5 == 0 else [])) for place in range(1, 20)]


def test_only_images_that_would_go_are_shielded_by_the_tag_that_does_not_move():
    moving = [image("old", 60, "live", "git-0a"), image("new", 1, "git-0b")]
    found = shield({"rules": [rule(1)]}, moving, ["sha256:old", "sha256:new"], NOW)
    assert (found.tags, found.open) == (("git-0a",), ())
    assert kept(found.policy, moving) == {"sha256:old", "sha256:new"}


def test_a_policy_that_touches_nothing_in_use_stays_as_it_is():
    asked = parse_policy({"rules": [rule(1)]})
    found = shield(asked, BUILDS, ["sha256:01"], NOW)
    assert (found.policy, found.tags, found.open) == (asked, (), ())


def test_the_other_rules_move_behind_the_shields_in_their_order():
    found = shield({"rules": [rule(90), rule(1, "git-*", number=3)]}, BUILDS, ["sha256:09", "sha256:07"], NOW)
    assert [one.priority for one in found.policy.rules] == [1, 2, 3, 92]
    assert [one.tags for one in found.policy.rules][-2:] == [("git-*",), ()]


def test_many_images_in_use_are_shielded_by_the_families_of_their_tags():
    found = shield({"rules": [rule(1)]}, BUILDS, [f"sha256:{place:02}" for place in range(2, 20)], NOW)
    assert found.open == ()
    assert all(tag.endswith("*") for tag in found.tags) and len(found.tags) <= 2


def test_no_more_than_fifty_rules_are_made():
    crowded = [*(rule(place, f"x{place}-*") for place in range(1, 49)), rule(99)]
    found = shield({"rules": crowded}, [image(tag, 9, tag) for tag in ("a1", "b1", "c1")], [f"sha256:{tag}" for tag in ("a1", "b1", "c1")], NOW)
    assert len(found.policy.rules) == 50 and len(found.open) == 1


def test_an_image_without_a_tag_cannot_be_shielded_and_is_named():
    found = shield({"rules": [rule(1)]}, [image("a", 9), image("b", 1)], ["sha256:a"], NOW)
    assert (found.tags, found.open) == ((), ("sha256:a",))


@pytest.mark.parametrize(("tag", "pattern"), [("release-1.4", "release-*"), ("v1.2.3", "v*"), ("git-0a1b", "git-*"), ("eu-prod", "eu-*"), ("latest", "latest*"), ("1.2.3", "1.2.*")])
def test_a_tag_belongs_to_a_family(tag, pattern):
    assert family(tag) == pattern


def test_the_proposal_keeps_versions_and_the_newest_commits():
    images = [image(f"{place:03}", place, f"git-{place:03}", *(["v1.2.3"] if place == 80 else [])) for place in range(100)] + [image("u", 15), image("w", 13), image("x", 400, "latest")]
    assert kept(proposal(), images) == {*(f"sha256:{place:03}" for place in [*range(50), 80]), "sha256:w", "sha256:x"}


def test_references_are_read_by_tag_by_digest_and_without_either():
    images = [image("a", 1, "latest"), image("b", 2, "v1"), image("c", 3)]
    uses = [Use(URI, "one"), Use(f"{URI}:v1", "two"), Use(f"{URI}:v1", "three"), Use(f"{URI}@sha256:c", "four"), Use(f"{URI}-admin:v1", "other"), Use("nginx:v1", "other"), Use(f"{URI}:gone", "other")]
    assert used_digests(uses, images, [URI, "shop/web"]) == {"sha256:a": ["one"], "sha256:b": ["two", "three"], "sha256:c": ["four"]}
    assert used_digests([Use("127.0.0.1:5000/shop/web:v1", "two")], images, ["127.0.0.1:5000/shop/web"]) == {"sha256:b": ["two"]}, "a port is no tag"


def test_a_manifest_list_is_in_use_where_an_image_in_it_runs():
    images = [image("list", 1, "v1", references=["sha256:child"]), image("child", 1)]
    used = used_digests([Use(f"{URI}@sha256:child", "a task")], images, [URI])
    assert used == {"sha256:child": ["a task"], "sha256:list": ["a task, an image of this list"]}


def test_an_image_that_was_pulled_lately_may_be_in_use():
    images = [image("a", 60, lastRecordedPullTime=NOW - timedelta(days=13)), image("b", 60, lastRecordedPullTime=NOW - timedelta(days=15)), image("c", 60)]
    assert pulled_lately(images, NOW) == {"sha256:a": ["pulled on 2026-05-19"]}


def test_the_table_of_images_in_use_shows_first_what_would_go():
    images = [image("a", 1, "v2"), image("b", 9, "v1")]
    shown = uses_table({"sha256:a": ["a task"], "sha256:b": ["a function", "a task"]}, images, {"sha256:a": "keep", "sha256:b": "expire"}.__getitem__)
    assert shown.values.tolist() == [["expire", "v1", "a function; a task"], ["keep", "v2", "a task"]]
