"""What a lifecycle policy does to the images of a repository, image by image, and why.

As AWS evaluates it (https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html): every rule looks at all images
whose storage class and tags it matches, ranked or aged as if no other rule existed. Then the first rule by priority that matches an
image decides about it; later rules count it, and may not touch it.

Images in a manifest list, and signatures and other referrers, are counted like all others (seen by users of signed images:
https://github.com/aws/containers-roadmap/issues/2613), but the first stay as long as their list does, and the others go with their
subject. Inferred, as no page of AWS says it: what only an archived list has is held no longer, what is exactly N days old stays, and
images that were pushed at the same moment rank by digest.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.ecr.lifecycle_policy import ANY, ARCHIVE, COUNT, EXPIRE, PULLED, PUSHED, SINCE, STANDARD, UNTAGGED, Policy, Rule, parse_policy

KEEP = "keep"
COLUMNS = ["digest", "action", "rule", "reason", "rank", "shielded_by"]
MICROSECONDS_A_DAY = 86_400 * 1_000_000
NEVER = np.iinfo(np.int64).max  # a time that lies in the future of every rule

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]


def preview_lifecycle(policy: str | Mapping[str, Any] | Policy, images: Iterable[Mapping[str, Any]], now: str | datetime) -> pd.DataFrame:
    """What `policy` does to `images` at the time `now`: a row an image, in their order.

    An image is a mapping with `digest`, `tags`, `pushedAt` and where they apply `lastRecordedPullTime`, `lastArchivedAt`,
    `lastActivatedAt`, `storageClass` (standard, archive, or activating while it is restored), `references` (the digests in a manifest
    list) and `subject` (the digest that a signature or another referrer belongs to). Times are ISO 8601 or datetimes, UTC where
    they do not say.

    Returns the columns `digest`; `action` (expire, transition, keep); `rule`, the priority of the rule that decides about the image,
    the first that matches it, or NA; `reason`; `rank`, its place from the newest, 1, among the images which that rule matches, or NA;
    `shielded_by`, the rule that keeps a later one from acting on it, or NA.

    Raises `InvalidPolicy`, and `ValueError` for an image without a digest or a readable time.
    """
    rules = parse_policy(policy).rules
    records = list(images)
    table = _Table(records, now)
    decides = np.full(len(records), -1, dtype=np.int64)
    rank = np.zeros(len(records), dtype=np.int64)
    acted, shielded = np.zeros((2, len(records)), dtype=bool)
    for place, rule in enumerate(rules):
        matched = table.matched(rule)
        ranks = table.ranks(matched, rule)
        chosen = matched & (ranks > rule.number if rule.count_type == COUNT else table.older(rule))
        shielded |= chosen & (decides >= 0) & ~acted
        first = matched & (decides < 0)
        decides[first], rank[first] = place, ranks[first]
        acted |= chosen & first
    held = table.held_by_lists(acted)
    acted[list(held)] = False
    followed = _follow(table, acted)
    return _frame(table, rules, decides, rank, acted, shielded, held, followed)


class _Table:
    """The images as columns: times in microseconds, tags sorted with the rows that carry them, storage classes."""

    def __init__(self, records: list[Mapping[str, Any]], now: str | datetime) -> None:
        self.records, self.now = records, _microseconds(now)
        self.digests = [_digest(record) for record in records]
        self.row_of = {digest: row for row, digest in enumerate(self.digests)}
        pushed, pulled, archived, activated = (_times(records, name) for name in ("pushedAt", "lastRecordedPullTime", "lastArchivedAt", "lastActivatedAt"))
        if any(time is None for time in pushed):
            raise ValueError(f"The image {self.digests[pushed.index(None)]} has no pushedAt.")
        # Restored from the archive: its age counts from then on, until it is pulled.
        age = [later if later is not None else first for first, later in zip(pushed, activated, strict=True)]
        used = [
            pull if pull is not None and (later is None or pull >= later) else start
            for pull, later, start in zip(pulled, activated, age, strict=True)
        ]  # fmt: skip
        self.unpulled = [time == start for time, start in zip(used, age, strict=True)]
        kept = [NEVER if time is None else time for time in archived]
        self.aged = {PUSHED: _column(age), PULLED: _column(used)}
        self.archived = _column(kept)
        classes = np.array([_storage_class(record) for record in records], dtype=object)
        self.of_class = {stored: classes == stored for stored in (STANDARD, ARCHIVE)}
        tags = [record.get("tags") or () for record in records]
        self.untagged = np.array([not mine for mine in tags], dtype=bool)
        pairs = sorted((tag, row) for row, mine in enumerate(tags) for tag in mine)
        self.tags = [tag for tag, _ in pairs]
        self.carriers = np.array([row for _, row in pairs], dtype=np.int64)
        by_digest = np.array(sorted(range(len(records)), key=self.digests.__getitem__), dtype=np.int64)
        self.orders = {stored: _newest_first(times, by_digest) for stored, times in ((STANDARD, self.aged[PUSHED]), (ARCHIVE, self.archived))}

    def matched(self, rule: Rule) -> Mask:
        """The images whose storage class and tags the rule selects: all the listed tags, each by any tag of the image."""
        chosen = self.of_class[rule.storage_class]
        if rule.tag_status == ANY:
            return chosen
        if rule.tag_status == UNTAGGED:
            return chosen & self.untagged
        for tag in rule.tags:
            chosen = chosen & self._tagged(tag + "*" if rule.prefixes else tag, literal=rule.prefixes)
        return chosen

    def _tagged(self, pattern: str, literal: bool) -> Mask:
        """The images with a tag that matches the pattern; in a prefix (`literal`) only the last `*` is a wildcard."""
        parts = [pattern[:-1], ""] if literal else pattern.split("*")
        start = bisect_left(self.tags, parts[0])
        end = bisect_left(self.tags, parts[0] + "\U0010ffff", lo=start) if parts[0] else len(self.tags)
        found = np.zeros(len(self.records), dtype=bool)
        if parts[1:] == [""]:
            found[self.carriers[start:end]] = True
            return found
        whole = re.compile(".*".join(map(re.escape, parts)), re.DOTALL).fullmatch
        longest = max(parts, key=len)
        likely = [place for place, tag in enumerate(self.tags[start:end], start) if longest in tag]  # a tenth of the expression's cost
        rows = [place for place in likely if whole(self.tags[place])]
        found[self.carriers[rows]] = True
        return found

    def ranks(self, matched: Mask, rule: Rule) -> Integers:
        """The place of each matched image from the newest, 1; 0 elsewhere."""
        order = self.orders[rule.storage_class]
        placed = np.zeros(len(matched), dtype=np.int64)
        chosen = order[matched[order]]
        placed[chosen] = np.arange(1, len(chosen) + 1)
        return placed

    def older(self, rule: Rule) -> Mask:
        """The images that are older than the rule's days, to the microsecond; AWS says older than, so those of that very age stay."""
        return self.since(rule) < self.now - rule.number * MICROSECONDS_A_DAY

    def since(self, rule: Rule) -> Integers:
        """The time that the rule counts from, microseconds since 1970."""
        return self.archived if rule.storage_class == ARCHIVE else self.aged[PULLED if rule.count_type == PULLED else PUSHED]

    def held_by_lists(self, acted: Mask) -> dict[int, str]:
        """The rows of images that are in a manifest list, with its digest: they stay until the list is deleted or archived."""
        held: dict[int, str] = {}
        for row, record in enumerate(self.records):
            if self.of_class[ARCHIVE][row]:
                continue
            for digest in record.get("references") or ():
                child = self.row_of.get(digest)
                if child is not None and acted[child]:
                    held.setdefault(child, self.digests[row])
        return held


def _follow(table: _Table, acted: Mask) -> dict[int, int]:
    """The rows of referrers whose subject is there, with the row that decides for them: AWS removes them within a day of their subject."""
    followed: dict[int, int] = {}
    for row, record in enumerate(table.records):
        subject, seen = _subject(record), {row}
        while (found := table.row_of.get(subject)) is not None and found not in seen:
            followed[row] = found
            seen.add(found)
            subject = _subject(table.records[found])
    return followed


def _frame(
    table: _Table, rules: Sequence[Rule], decides: Integers, rank: Integers, acted: Mask, shielded: Mask, held: dict[int, str], followed: dict[int, int]
) -> pd.DataFrame:
    """The answer as a DataFrame, with a sentence for each image."""
    actions, reasons = [], []
    ages = [(table.now - table.since(rule)) // MICROSECONDS_A_DAY for rule in rules]
    for row, place in enumerate(decides.tolist()):
        rule = rules[place] if place >= 0 else None
        action = rule.action if rule and acted[row] else KEEP
        if row in held:
            reason = f"rule {rule.priority if rule else 0} would {rule.action if rule else ''} it, but it stays until the manifest list {_short(held[row])} is gone"
        elif rule is None:
            reason = "no rule matches it" if table.of_class[STANDARD][row] or table.of_class[ARCHIVE][row] else "it is being restored from the archive"
        else:
            reason = _why(rule, rank[row], ages[place][row], action != KEEP, table.unpulled[row])
        actions.append(action)
        reasons.append(reason)
    nothing = decides < 0
    alone = nothing.copy()
    for row, subject in followed.items():
        actions[row], decides[row], nothing[row], alone[row] = actions[subject], decides[subject], nothing[subject], True
        verb = {KEEP: "stays with", EXPIRE: "goes within a day of"}.get(actions[row], "is archived within a day of")
        reasons[row] = f"it {verb} {_short(table.digests[subject])}, which it refers to"
    kept = np.array([action == KEEP for action in actions], dtype=bool)
    priorities = np.array([rule.priority for rule in rules])
    deciding = pd.arrays.IntegerArray(np.where(nothing, 0, priorities[decides]), nothing)
    shields = pd.arrays.IntegerArray(np.where(nothing, 0, priorities[decides]), alone | ~shielded | ~kept)
    columns = [table.digests, actions, deciding, reasons, pd.arrays.IntegerArray(rank, alone), shields]
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _why(rule: Rule, rank: int, age: int, acts: bool, unpulled: bool) -> str:
    """Why the rule acts on an image or not: its rank, or its age in whole days."""
    if rule.count_type == COUNT:
        return f"rule {rule.priority} keeps the newest {rule.number}, and this is number {rank}"
    since = "never pulled, and pushed or restored" if rule.count_type == PULLED and unpulled else SINCE[rule.count_type]
    past = "more than" if acts else "not more than"
    return f"rule {rule.priority}: {since} {age} days ago, {past} {rule.number}"


# -- columns ----------------------------------------------------------------------------------------------


def _digest(record: Mapping[str, Any]) -> str:
    digest = record.get("digest")
    if not isinstance(digest, str):
        raise ValueError(f"An image has no digest: {dict(record)}.")
    return digest


def _subject(record: Mapping[str, Any]) -> str | None:
    """The digest that a referrer belongs to, also under the name that DescribeImages gives it."""
    return record.get("subject") or record.get("subjectManifestDigest")


def _storage_class(record: Mapping[str, Any]) -> str:
    return str(record.get("storageClass") or STANDARD).lower()


def _times(records: list[Mapping[str, Any]], name: str) -> list[int | None]:
    return [_microseconds(value) if (value := record.get(name)) is not None else None for record in records]


def _microseconds(value: str | datetime) -> int:
    """A time as whole microseconds since 1970, so that comparisons are exact."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _column(values: list[int]) -> Integers:
    return np.array(values, dtype=np.int64)


def _newest_first(times: Integers, by_digest: Integers) -> Integers:
    """Rows from the newest to the oldest; those of one moment by digest, so that the answer does not hang on their order."""
    return by_digest[np.argsort(-times[by_digest], kind="stable")]


def _short(digest: str) -> str:
    return digest[:19]
