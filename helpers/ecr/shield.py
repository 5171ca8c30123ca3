"""A policy that leaves images in use alone: rules put before the others that match their tags and never act.

An image that matches the tags of a rule cannot be expired by a later one
(https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html), and one tag is on one image only, so a rule that
keeps the newest image with that very tag keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helpers.ecr.lifecycle import KEEP, preview_lifecycle
from helpers.ecr.lifecycle_policy import COUNT, EXPIRE, MOST_IMAGES, MOST_RULES, STANDARD, TAGGED, UNTAGGED, Policy, parse_policy

MOST_EXACT = 10  # rules for single tags; with more, one for each family of tags
DESCRIPTION = "In use: never expired"


@dataclass(frozen=True)
class Shielded:
    """A policy with its shields; `tags` are what they match, `open` the digests of images in use that no tag can shield."""

    policy: Policy
    tags: tuple[str, ...]
    open: tuple[str, ...]


def proposal() -> dict[str, Any]:
    """A policy to begin with: untagged images go after 14 days, and of those tagged for a git commit 50 stay.

    Versions (1.4.0, v1.4.0) and releases (release-1.4) stay though they are tagged for a commit too; what no rule matches stays anyway.
    """
    untagged = {"tagStatus": UNTAGGED, "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14}
    commits = {"tagStatus": TAGGED, "tagPatternList": ["git-*"], "countType": COUNT, "countNumber": 50}
    selections = {
        10: ("Versions stay", _all("*.*.*")),
        11: ("Releases stay", _all("release-*")),
        20: ("Untagged for 14 days", untagged),
        30: ("The newest 50 commits", commits),
    }
    return {
        "rules": [
            {"rulePriority": priority, "description": why, "selection": selection, "action": {"type": EXPIRE}}
            for priority, (why, selection) in selections.items()
        ]
    }


def shield(policy: str | Mapping[str, Any] | Policy, images: Sequence[Mapping[str, Any]], used: Iterable[str], now: str | datetime) -> Shielded:
    """The policy with rules before its own for the images `used` that it would act on; with none where it acts on none of them.

    Up to ten images get a rule for a tag of theirs; more get one for each family (`release-*`). The other rules keep their order.
    """
    parsed = parse_policy(policy)
    wanted = set(used)
    threatened = _threatened(parsed, images, wanted, now)
    taken = {frozenset(rule.tags) for rule in parsed.rules if rule.storage_class == STANDARD and not rule.prefixes}
    tags = [_best_tag(record["tags"]) for record in threatened if record["tags"]]
    room = MOST_RULES - len(parsed.rules)
    patterns = tags if len(tags) <= min(MOST_EXACT, room) else [family(tag) for tag in tags]
    patterns = [one for one in dict.fromkeys(patterns) if frozenset([one]) not in taken][:room]
    if not patterns:
        return Shielded(parsed, (), tuple(record["digest"] for record in threatened))
    shielded = parse_policy({"rules": [*(_shield(place + 1, one) for place, one in enumerate(patterns)), *_after(parsed, len(patterns))]})
    left = _threatened(shielded, images, wanted, now)
    return Shielded(shielded, tuple(patterns), tuple(record["digest"] for record in left))


def family(tag: str) -> str:
    """The pattern of a tag's family: what comes before its first digit, or its last `-`, `.` or `_`, and a star."""
    head = re.match(r"\D*[-._]|\D+(?=\d)", tag) or re.match(r".*[-._]", tag)
    return (head.group() if head else tag) + "*"


def _threatened(policy: Policy, images: Sequence[Mapping[str, Any]], used: set[str], now: str | datetime) -> list[Mapping[str, Any]]:
    """The images in use that the policy acts on."""
    found = preview_lifecycle(policy, images, now)
    acted = set(found.digest[found.action != KEEP]) & used
    return [record for record in images if record["digest"] in acted]


def _best_tag(tags: Sequence[str]) -> str:
    """The tag to shield an image by: one that does not move to the next image, where there is one."""
    return max(tags, key=lambda tag: (any(letter.isdigit() for letter in tag), tag))


def _all(pattern: str) -> dict[str, Any]:
    """A selection that keeps every image with such a tag."""
    return {"tagStatus": TAGGED, "tagPatternList": [pattern], "countType": COUNT, "countNumber": MOST_IMAGES}


def _shield(priority: int, pattern: str) -> dict[str, Any]:
    selection = _all(pattern) if "*" in pattern else {**_all(pattern), "countNumber": 1}
    return {"rulePriority": priority, "description": DESCRIPTION, "selection": selection, "action": {"type": EXPIRE}}


def _after(policy: Policy, count: int) -> list[dict[str, Any]]:
    """The policy's rules with priorities above `count`: moved together, where the first is not above it already."""
    rules = sorted(policy.document["rules"], key=lambda rule: rule["rulePriority"])
    move = max(0, count + 1 - rules[0]["rulePriority"])
    return [{**rule, "rulePriority": rule["rulePriority"] + move} for rule in rules]
