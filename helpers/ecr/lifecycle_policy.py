"""An ECR lifecycle policy: parsed, checked against everything that AWS documents, explained rule by rule, and written back.

Rules: https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html and
https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.aws.errors import RunbookError

TAGGED, UNTAGGED, ANY = "tagged", "untagged", "any"
STANDARD, ARCHIVE = "standard", "archive"
COUNT, PUSHED, PULLED, TRANSITIONED = "imageCountMoreThan", "sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned"
EXPIRE, TRANSITION = "expire", "transition"
DAYS = "days"
LISTS = ("tagPatternList", "tagPrefixList")
MOST_IMAGES = 100_000  # of a repository: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
MOST_RULES, MOST_CHARACTERS, MOST_WILDCARDS = 50, 30_720, 4
ARCHIVE_DAYS = 90  # the shortest stay in the archive: https://docs.aws.amazon.com/AmazonECR/latest/userguide/archive-image.html
SINCE = {PUSHED: "pushed", PULLED: "last pulled", TRANSITIONED: "archived"}


class InvalidPolicy(RunbookError):
    """A policy that ECR would refuse; `faults` holds one sentence for each fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(
            f"The lifecycle policy has {len(self.faults)} fault{'s' * (len(self.faults) > 1)}: " + " ".join(self.faults),
            "Mend them: https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html",
        )


@dataclass(frozen=True)
class Rule:
    """One rule. `tags` are patterns (or prefixes, where `prefixes`), all of which must match; `number` is images or days."""

    priority: int
    tag_status: str
    tags: tuple[str, ...]
    prefixes: bool
    storage_class: str
    count_type: str
    number: int
    action: str
    description: str = ""

    @property
    def selects(self) -> str:
        """Which images the rule looks at, in words."""
        which = {ANY: "all images", UNTAGGED: "untagged images"}.get(self.tag_status, "")
        words = [f"starting with {one}" if self.prefixes else one for one in self.tags]
        which = which or "images with a tag " + " and a tag ".join(words)
        return which + " in the archive" * (self.storage_class == ARCHIVE)

    @property
    def does(self) -> str:
        """What the rule does with them, in words."""
        verb = "expires" if self.action == EXPIRE else "archives"
        if self.count_type == COUNT and self.number >= MOST_IMAGES:
            return "keeps them from the later rules, and never acts"
        if self.count_type == COUNT and self.tags and not self.prefixes and "*" not in "".join(self.tags):
            return "keeps it from the later rules, and never acts: a tag is on one image only"
        if self.count_type == COUNT:
            return f"{verb} all but the newest {self.number:,}"
        return f"{verb} what was {SINCE[self.count_type]} more than {self.number:,} day{'s' * (self.number > 1)} ago"


@dataclass(frozen=True)
class Policy:
    """A policy without faults: its rules, the first to apply first, and the object that it was parsed from."""

    rules: tuple[Rule, ...]
    document: dict[str, Any]

    @property
    def text(self) -> str:
        """The policy as PutLifecyclePolicy takes it, compact JSON."""
        return text_of(self.document)

    def table(self) -> pd.DataFrame:
        """A row a rule in the order in which they apply: priority, which images, what it does, description."""
        rows = [(rule.priority, rule.selects, rule.does, rule.description) for rule in self.rules]
        return pd.DataFrame(rows, columns=["rule", "which images", "what it does", "description"])


def text_of(document: Mapping[str, Any]) -> str:
    """A policy's object as compact JSON."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def parse_policy(policy: str | Mapping[str, Any] | Policy) -> Policy:
    """The policy of JSON text or of an object. Raises `InvalidPolicy` that lists every fault.

    AWS checks the text against a schema that takes no null and no key that it does not know, so neither does this.
    """
    if isinstance(policy, Policy):
        return policy
    faults: list[str] = []
    document = _document(policy, faults)
    rules = document.get("rules") if isinstance(document, Mapping) else None
    if not faults:
        faults += _shape_faults(document)
    if isinstance(rules, list):
        parsed = [rule for place, one in enumerate(rules) if (rule := _rule(place, one, faults))]
        faults += _faults_together(rules, parsed)
    if faults:
        raise InvalidPolicy(faults)
    assert isinstance(document, Mapping)
    return Policy(tuple(sorted(parsed, key=lambda rule: rule.priority)), dict(document))


def _document(policy: str | Mapping[str, Any], faults: list[str]) -> Any:
    """The object that was given, or that JSON text stands for; what is wrong with the text is a fault."""
    if not isinstance(policy, str):
        return policy

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        faults.extend(f"The key {name!r} stands twice in one object." for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        return dict(pairs)

    try:
        return json.loads(policy, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        faults.append(f"It is no JSON: {error.msg} in line {error.lineno}, column {error.colno}.")
    except RecursionError:
        faults.append("It is nested too deeply.")
    except ValueError:
        faults.append("It has a number with more digits than can be read.")
    return None


def _shape_faults(document: Any) -> Iterator[str]:
    """Faults of the policy as a whole."""
    if not isinstance(document, Mapping):
        yield f"It is {_kind(document)} where an object with `rules` is wanted."
        return
    yield from _unknown("The policy", document, ("rules",))
    rules = document.get("rules")
    if not isinstance(rules, list) or not rules:
        yield "`rules` must be a list with at least one rule."
        return
    if len(rules) > MOST_RULES:
        yield f"It has {len(rules)} rules, and {MOST_RULES} is the most."
    try:
        characters = len(text_of(document))
    except (TypeError, ValueError, RecursionError):
        yield "It holds something that JSON has no word for."
        return
    if characters > MOST_CHARACTERS:
        yield f"It has {characters:,} characters, and {MOST_CHARACTERS:,} is the most."


# -- one rule ---------------------------------------------------------------------------------------------


def _rule(place: int, one: Any, faults: list[str]) -> Rule | None:
    """The rule in that place, or None where it has faults, which are added to the list."""
    if not isinstance(one, Mapping):
        faults.append(f"Rule number {place + 1} in the list is {_kind(one)} where an object is wanted.")
        return None
    name = f"Rule {one['rulePriority']}" if _is_integer(one.get("rulePriority")) else f"Rule number {place + 1} in the list"
    mine = [f"{name}: {fault}" for fault in _rule_faults(one)]
    if mine:
        faults += mine
        return None
    selection, action = one["selection"], one["action"]
    prefixes = "tagPrefixList" in selection
    tags = tuple(selection.get("tagPrefixList" if prefixes else "tagPatternList", ()))
    return Rule(
        one["rulePriority"], selection["tagStatus"], tags, prefixes, selection.get("storageClass", STANDARD), selection["countType"],
        selection["countNumber"], action["type"], one.get("description", ""),
    )  # fmt: skip


def _rule_faults(one: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown("the rule", one, ("rulePriority", "description", "selection", "action"))
    if not _is_integer(one.get("rulePriority")) or one["rulePriority"] < 1:
        yield f"`rulePriority` must be a whole number from 1, not {_shown(one, 'rulePriority')}."
    if not isinstance(one.get("description", ""), str):
        yield f"`description` must be text, not {_shown(one, 'description')}; leave it out where there is none."
    selection, action = one.get("selection"), one.get("action")
    if not isinstance(selection, Mapping):
        yield f"`selection` must be an object, not {_shown(one, 'selection')}."
    else:
        yield from _tag_faults(selection)
        yield from _count_faults(selection)
    if not isinstance(action, Mapping):
        yield f"`action` must be an object, not {_shown(one, 'action')}."
    else:
        yield from _action_faults(action)
    if isinstance(selection, Mapping) and isinstance(action, Mapping):
        yield from _pair_faults(selection.get("countType"), action.get("type"))


def _tag_faults(selection: Mapping[str, Any]) -> Iterator[str]:
    """Faults of the tag status and its lists."""
    yield from _unknown("`selection`", selection, ("tagStatus", *LISTS, "storageClass", "countType", "countUnit", "countNumber"))
    status, given = selection.get("tagStatus"), [name for name in LISTS if name in selection]
    if status not in (TAGGED, UNTAGGED, ANY):
        yield f"`tagStatus` must be tagged, untagged or any, not {_shown(selection, 'tagStatus')}."
    elif status == TAGGED and not given:
        yield "tagStatus tagged needs tagPatternList or tagPrefixList."
    elif status != TAGGED and given:
        yield f"{' and '.join(given)} may only stand with tagStatus tagged, not {status}."
    if len(given) == 2:
        yield "either list, not both: give tagPatternList or tagPrefixList."
    for name in given:
        yield from _list_faults(name, selection[name])


def _list_faults(name: str, items: Any) -> Iterator[str]:
    if not isinstance(items, list) or not items or not all(isinstance(item, str) and item for item in items):
        yield f"`{name}` must be a list of tags with at least one, not {json.dumps(items, default=str)}."
        return
    if len(set(items)) < len(items):
        yield f"`{name}` names a tag twice."
    if name == "tagPatternList":
        for item in items:
            if item.count("*") > MOST_WILDCARDS:
                yield f"at most four wildcards per string, but the pattern {item} has {item.count('*')}."


def _count_faults(selection: Mapping[str, Any]) -> Iterator[str]:
    """Faults of the count and of the storage class, which go together."""
    kind, number, stored = selection.get("countType"), selection.get("countNumber"), selection.get("storageClass", STANDARD)
    if kind not in (COUNT, *SINCE):
        yield f"`countType` must be {COUNT}, {PUSHED}, {PULLED} or {TRANSITIONED}, not {_shown(selection, 'countType')}."
    elif kind in SINCE and selection.get("countUnit") != DAYS:
        yield f"countUnit required: {kind} needs days, not {_shown(selection, 'countUnit')}."
    elif kind == COUNT and "countUnit" in selection:
        yield f"{COUNT} takes no countUnit: ECR refuses it."
    if not _is_integer(number) or number < 1:
        yield f"countNumber {_shown(selection, 'countNumber')} is not accepted: it must be a whole number from 1."
    elif kind == TRANSITIONED and number < ARCHIVE_DAYS:
        yield f"images stay in the archive for at least {ARCHIVE_DAYS} days, so countNumber cannot be {number} with {TRANSITIONED}."
    if stored not in (STANDARD, ARCHIVE):
        yield f"`storageClass` must be standard or archive, not {_shown(selection, 'storageClass')}."
    elif kind == TRANSITIONED and stored != ARCHIVE:
        yield f"{TRANSITIONED} needs storageClass archive."
    elif kind in (COUNT, PUSHED, PULLED) and stored != STANDARD:
        yield f"{kind} selects images of storageClass standard only; those in the archive are selected with {TRANSITIONED}."


def _action_faults(action: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown("`action`", action, ("type", "targetStorageClass"))
    kind = action.get("type")
    if kind not in (EXPIRE, TRANSITION):
        yield f"the action's `type` must be expire or transition, not {_shown(action, 'type')}."
    elif kind == TRANSITION and action.get("targetStorageClass") != ARCHIVE:
        yield f"transition needs targetStorageClass archive, not {_shown(action, 'targetStorageClass')}."
    elif kind == EXPIRE and "targetStorageClass" in action:
        yield "expire takes no targetStorageClass: ECR refuses it."


def _pair_faults(kind: Any, action: Any) -> Iterator[str]:
    """Counts that go with one action only."""
    if kind == PULLED and action == EXPIRE:
        yield f"{PULLED} only with transition: to expire what nobody pulls, archive it first, and expire it with {TRANSITIONED}."
    if kind == TRANSITIONED and action == TRANSITION:
        yield f"{TRANSITIONED} selects what is in the archive already: its action can only be expire."


# -- rules together ---------------------------------------------------------------------------------------


def _faults_together(rules: list[Any], parsed: list[Rule]) -> Iterator[str]:
    """Faults between rules: priorities of all, and what AWS allows once for each storage class, of those without other faults."""
    priorities = Counter(one["rulePriority"] for one in rules if isinstance(one, Mapping) and _is_integer(one.get("rulePriority")))
    for priority, times in sorted(priorities.items()):
        if times > 1:
            yield f"rulePriority must be unique, but {times} rules have {priority}."
    for stored in (STANDARD, ARCHIVE):
        mine = [rule for rule in parsed if rule.storage_class == stored]
        yield from _once(mine, UNTAGGED, stored)
        yield from _once(mine, ANY, stored)
        yield from _any_last(mine, stored)
        yield from _tags_once(mine, stored)


def _once(mine: list[Rule], status: str, stored: str) -> Iterator[str]:
    found = sorted(rule.priority for rule in mine if rule.tag_status == status)
    if len(found) > 1:
        yield f"Only one {status} rule per storage class, but rules {_listed(found)} select {status} images of class {stored}."


def _any_last(mine: list[Rule], stored: str) -> Iterator[str]:
    last = max((rule.priority for rule in mine), default=0)
    early = sorted(rule.priority for rule in mine if rule.tag_status == ANY and rule.priority < last)
    if early:
        yield f"A rule with tagStatus any must have the highest rulePriority of its storage class, but rule {_listed(early)} comes before rule {last} ({stored})."


def _tags_once(mine: list[Rule], stored: str) -> Iterator[str]:
    """AWS: the rules of a storage class must have unique sets of prefixes."""
    sets: dict[tuple[bool, frozenset[str]], list[int]] = {}
    for rule in mine:
        if rule.tags:
            sets.setdefault((rule.prefixes, frozenset(rule.tags)), []).append(rule.priority)
    for (_, tags), priorities in sets.items():
        if len(priorities) > 1:
            yield f"Rules {_listed(sorted(priorities))} of class {stored} select the same tags, {', '.join(sorted(tags))}: each set may stand once."


# -- words ------------------------------------------------------------------------------------------------


def _unknown(where: str, found: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[str]:
    for name in found:
        if name not in known:
            yield f"{where} has a key that ECR does not know: {name!r}."


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(where: Mapping[str, Any], name: str) -> str:
    return json.dumps(where[name], default=str) if name in where else "left out"


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true or false"}.get(type(value), "a number")


def _listed(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers))
