"""What a lifecycle policy does to the images of a repository: the cloud's own reading of the rules.

It shares nothing with the package that runbooks preview policies with, so that each checks the other.
Source: https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html and its pages on properties and examples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DAY_S = 86_400.0
MOST_RULES, MOST_WILDCARDS = 50, 4
AGES = ("sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned")
# Before that an archived image costs as if it were there. Source: the page on properties, sinceImageTransitioned.
LEAST_ARCHIVED_DAYS = 90
TAG_STATUSES, STORAGE_CLASSES = ("tagged", "untagged", "any"), ("standard", "archive")
KEYS = {"tagStatus", "tagPatternList", "tagPrefixList", "storageClass", "countType", "countUnit", "countNumber"}


class Unsound(ValueError):
    """A policy that ECR does not take; the message names every fault."""


@dataclass(frozen=True)
class Candidate:
    """An image as a rule sees it; times in seconds since 1970, `listed`: by a manifest list."""

    digest: str
    tags: frozenset[str]
    pushed_at: float
    pulled_at: float | None = None
    archived_at: float | None = None
    activated_at: float | None = None
    storage: str = "standard"
    listed: bool = False

    def since(self, kind: str) -> float:
        """Return when the age of a kind begins: a restored image is as young as its restoration, one never pulled as old as its push."""
        pushed = self.activated_at or self.pushed_at
        if kind == "sinceImagePulled":
            return max(self.pulled_at, self.activated_at or 0.0) if self.pulled_at else pushed
        return (self.archived_at or pushed) if kind == "sinceImageTransitioned" else pushed


@dataclass(frozen=True)
class Action:
    """What happens to an image: "expire" or "transition", by which rule."""

    digest: str
    kind: str
    priority: int


def evaluate(text: str, images: Sequence[Candidate], now: float) -> list[Action]:
    """Return what a policy does now, rule by rule. Raises `Unsound`.

    The first rule whose tags match an image is the only one that may act on it, whether it does or not; each rule counts
    all that it matches. What a manifest list has is counted and stays.
    """
    done, claimed = [], set()
    for rule in rules_of(text):
        chosen = rule["selection"]
        matched = [image for image in images if image.storage == chosen.get("storageClass", "standard") and _matches(chosen, image.tags)]
        matched.sort(key=lambda image: (-image.since("sinceImagePushed"), image.digest))
        if chosen["countType"] == "imageCountMoreThan":
            over = {image.digest for image in matched[chosen["countNumber"] :]}
        else:
            limit = now - chosen["countNumber"] * DAY_S
            over = {image.digest for image in matched if image.since(chosen["countType"]) < limit}
        for image in matched:
            if image.digest in over and image.digest not in claimed and not image.listed:
                done.append(Action(image.digest, rule["action"]["type"], rule["rulePriority"]))
        claimed |= {image.digest for image in matched}
    return done


def _matches(chosen: Mapping[str, Any], tags: frozenset[str]) -> bool:
    if chosen["tagStatus"] == "any":
        return True
    if chosen["tagStatus"] == "untagged":
        return not tags
    patterns = [_expression(one) for one in chosen.get("tagPatternList", [])]
    patterns += [re.compile(re.escape(one) + ".*") for one in chosen.get("tagPrefixList", [])]
    return all(any(pattern.fullmatch(tag) for tag in tags) for pattern in patterns)


def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))))


def rules_of(text: str) -> list[dict[str, Any]]:
    """Return the rules of a policy by their priority. Raises `Unsound` with all that is wrong."""
    try:
        rules = json.loads(text)["rules"]
    except (ValueError, KeyError, TypeError) as error:
        raise Unsound("the policy is no JSON object with rules") from error
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise Unsound("rules is no list of objects")
    faults = [] if 1 <= len(rules) <= MOST_RULES else [f"a policy has 1 to {MOST_RULES} rules"]
    for rule in rules:
        faults += [f"rule {rule.get('rulePriority')}: {fault}" for fault in _faults_of(rule)]
    if not faults:
        faults = _faults_together(rules)
    if faults:
        raise Unsound("; ".join(faults))
    return sorted(rules, key=lambda rule: rule["rulePriority"])


def _faults_of(rule: dict[str, Any]) -> list[str]:
    """Return what is wrong with a rule by itself."""
    priority, chosen, action = rule.get("rulePriority"), rule.get("selection"), rule.get("action")
    if not _positive(priority):
        return ["rulePriority is no integer from 1"]
    if not isinstance(chosen, dict) or not isinstance(action, dict):
        return ["selection and action are required"]
    return [*_faults_of_tags(chosen), *_faults_of_count(chosen, action), *_faults_of_action(chosen, action)]


def _faults_of_tags(chosen: dict[str, Any]) -> list[str]:
    faults = [f"{name} is no property of a selection" for name in sorted(set(chosen) - KEYS)]
    lists = [name for name in ("tagPatternList", "tagPrefixList") if chosen.get(name)]
    if chosen.get("tagStatus") not in TAG_STATUSES:
        faults.append(f"tagStatus is one of {', '.join(TAG_STATUSES)}")
    elif chosen["tagStatus"] == "tagged" and len(lists) != 1:
        faults.append("tagged needs either tagPatternList or tagPrefixList")
    elif chosen["tagStatus"] != "tagged" and lists:
        faults.append(f"{chosen['tagStatus']} goes without {lists[0]}")
    if any(not isinstance(one, str) or not one for name in lists for one in chosen[name]):
        faults.append("a tag is a string of at least one character")
    elif any(one.count("*") > MOST_WILDCARDS for one in chosen.get("tagPatternList") or []):
        faults.append(f"a pattern has at most {MOST_WILDCARDS} wildcards")
    if chosen.get("storageClass", "standard") not in STORAGE_CLASSES:
        faults.append(f"storageClass is one of {', '.join(STORAGE_CLASSES)}")
    return faults


def _faults_of_count(chosen: dict[str, Any], action: dict[str, Any]) -> list[str]:
    kind, faults = chosen.get("countType"), []
    if not _positive(chosen.get("countNumber")):
        faults.append("countNumber is no integer from 1")
    if kind in AGES and chosen.get("countUnit") != "days":
        faults.append(f"{kind} needs countUnit days")
    if kind == "imageCountMoreThan" and "countUnit" in chosen:
        faults.append("imageCountMoreThan goes without countUnit")
    if kind not in ("imageCountMoreThan", *AGES):
        faults.append("countType is none that there is")
    archived = chosen.get("storageClass") == "archive"
    if kind == "sinceImagePulled" and action.get("type") != "transition":
        faults.append("sinceImagePulled is for transition only")
    if kind == "sinceImageTransitioned" and not (archived and action.get("type") == "expire"):
        faults.append("sinceImageTransitioned is for expiring what is archived")
    elif kind == "sinceImageTransitioned" and _positive(chosen.get("countNumber")) and chosen["countNumber"] < LEAST_ARCHIVED_DAYS:
        faults.append(f"sinceImageTransitioned is at least {LEAST_ARCHIVED_DAYS} days")
    return faults


def _faults_of_action(chosen: dict[str, Any], action: dict[str, Any]) -> list[str]:
    if action.get("type") == "expire":
        return ["expire goes without targetStorageClass"] if "targetStorageClass" in action else []
    if action.get("type") != "transition":
        return ["action is expire or transition"]
    faults = [] if action.get("targetStorageClass") == "archive" else ["transition needs targetStorageClass archive"]
    return [*faults, "what is archived is not archived again"] if chosen.get("storageClass") == "archive" else faults


def _faults_together(rules: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with rules beside each other: priorities, and how often any and untagged may be."""
    priorities = [rule["rulePriority"] for rule in rules]
    faults = ["a rulePriority is there twice"] if len(set(priorities)) < len(priorities) else []
    for storage in STORAGE_CLASSES:
        own = [rule for rule in rules if rule["selection"].get("storageClass", "standard") == storage]
        last = max((rule["rulePriority"] for rule in own), default=0)
        every = [rule["rulePriority"] for rule in own if rule["selection"]["tagStatus"] == "any"]
        if len(every) > 1:
            faults.append(f"there is more than one rule for any tag status ({storage})")
        elif every and every[0] != last:
            faults.append("the rule for any tag status must have the highest rulePriority")
        if sum(rule["selection"]["tagStatus"] == "untagged" for rule in own) > 1:
            faults.append(f"there is more than one rule for untagged images ({storage})")
    return faults


def _positive(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1
