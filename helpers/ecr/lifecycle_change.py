"""The steps of runbooks/ecr_lifecycle.ipynb: look, preview, let ECR preview too, put the policy; roll back puts the old one back."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pandas as pd
from botocore.exceptions import ClientError

from helpers.aws import Aws, Check, RunbookError, effect, planning
from helpers.aws.errors import is_not_found
from helpers.ecr import shield as shields
from helpers.ecr.in_use import PULLED_ON, RECENT_DAYS, UNSEEN, Uses, find_uses, pulled_lately, used_digests, uses_table
from helpers.ecr.lifecycle import KEEP
from helpers.ecr.lifecycle_policy import InvalidPolicy, Policy, parse_policy
from helpers.ecr.own_preview import COMPLETE, OwnPreview, ask_ecr, differences
from helpers.ecr.prices import prices
from helpers.ecr.saving import Saving, saving, settled
from helpers.ecr.stored import Stored, current_policy, read

__all__ = ["Change", "Job", "Preview", "Survey", "ask_ecr", "compared", "from_parameters", "measured", "preview", "put", "survey"]


@dataclass(frozen=True)
class Job:
    """What a run is asked for: the repository, the policy as JSON text (empty: the proposal), whether images in use are shielded."""

    repository: str
    policy: str
    keep_in_use: bool
    show: int


@dataclass(frozen=True)
class Survey:
    """What was found: the policy there is and the one to put, both as text (empty: none), who uses which image, since when, the checks."""

    repository: str
    uri: str
    at: float
    current: str
    text: str
    shielded: tuple[str, ...]
    used: dict[str, list[str]]
    checks: tuple[Check, ...]

    @property
    def now(self) -> datetime:
        """The time for which everything is previewed."""
        return datetime.fromtimestamp(self.at, timezone.utc)

    @property
    def policy(self) -> Policy:
        """The policy that is to be put."""
        return parse_policy(self.text)

    def table(self) -> pd.DataFrame:
        """The rules of the policy to put, the first to apply first; those that only shield images in use say so."""
        return self.policy.table()

    def current_table(self) -> pd.DataFrame:
        """The rules of the policy that the repository has now."""
        if not self.current:
            return pd.DataFrame([("none", "the repository has no lifecycle policy: nothing is ever deleted")], columns=["rule", "what it does"])
        try:
            return parse_policy(self.current).table()
        except InvalidPolicy as error:
            return pd.DataFrame([("unreadable", str(error))], columns=["rule", "what it does"])


@dataclass(frozen=True)
class Preview:
    """A preview with what it is about; `show` rows are shown."""

    stored: Stored
    frame: pd.DataFrame
    gone: set[str]
    saving: Saving
    used: dict[str, list[str]]
    policy: Policy
    show: int

    @property
    def acted(self) -> pd.DataFrame:
        """The images that the policy acts on, those in use first, then the oldest first."""
        acted = self._told[self._told.action != KEEP]
        return acted.sort_values(["in use", "pushed"], ascending=[False, True], kind="stable")

    @property
    def _told(self) -> pd.DataFrame:
        """The preview with what a reader knows an image by."""
        records = {record["digest"]: record for record in self.stored.images}
        mine = [records[digest] for digest in self.frame.digest]
        return self.frame.assign(**{
            "image": [", ".join(record["tags"]) or f"untagged {record['digest'][:19]}" for record in mine],
            "pushed": [f"{record['pushedAt']:%Y-%m-%d}" for record in mine],
            "in use": ["yes" if record["digest"] in self.used else "" for record in mine],
        })  # fmt: skip

    def in_short(self) -> pd.DataFrame:
        """What the policy does, what that saves, and whether it touches what is in use, in sentences."""
        threatened = [digest for digest in self.frame.digest[self.frame.action != KEEP] if digest in self.used]
        named = "none of the images that go is known to be in use"
        if threatened:
            named = f"{len(threatened)} of the images that go are in use: what starts again cannot pull them"
        rows = [("what goes", self.saving.finding), ("in use", named)]
        if len(self.acted) > self.show:
            rows.append(("shown below", f"{self.show} of {len(self.acted):,}, those in use first, then the oldest"))
        return pd.DataFrame(rows, columns=["about", "finding"])

    @property
    def question(self) -> str:
        """What is approved at the gate."""
        archived = f" {self.saving.moved:,} go to the archive, for 90 days at least." if self.saving.moved else ""
        gone = f"{self.saving.expired:,} of {self.saving.images:,} images of {self.stored.repository} are deleted within a day, and do not come back."
        return gone + archived

    def table(self) -> pd.DataFrame:
        """What goes and why: a row an image, at most `show`."""
        columns = ["action", "image", "pushed", "in use", "rule", "reason"]
        if not len(self.acted):
            return pd.DataFrame([("keep", "every image", "", "", "", "no rule acts on one")], columns=columns)
        return self.acted[columns].head(self.show)

    def stays(self) -> pd.DataFrame:
        """What each rule does to the images of which it decides, and how many it shields from later ones."""
        rows = []
        for rule in self.policy.rules:
            mine = self.frame[self.frame.rule == rule.priority]
            acted = int((mine.action != KEEP).sum())
            rows.append((rule.priority, rule.selects, rule.does, len(mine), acted, len(mine) - acted, int(mine.shielded_by.notna().sum())))
        unmatched = int(self.frame.rule.isna().sum())
        rows.append(("none", "images that no rule matches", "they stay", unmatched, 0, unmatched, 0))
        return pd.DataFrame(rows, columns=["rule", "which images", "what it does", "decides about", "go", "stay", "of them shielded from a later rule"])

    def in_use(self) -> pd.DataFrame:
        """The images in use, by whom, and what becomes of them."""
        action = dict(zip(self.frame.digest, self.frame.action, strict=True))
        return uses_table(self.used, self.stored.images, action.__getitem__)


@dataclass(frozen=True)
class Change:
    """What was put, over what; `did` says what happened."""

    did: str
    before: str
    after: str

    def table(self) -> pd.DataFrame:
        """The policy before and after, by their rules."""
        return pd.DataFrame([(self.did, _rules(self.before), _rules(self.after))], columns=["what was done", "rules before", "rules now"])


def from_parameters(parameters: dict[str, Any]) -> Job:
    """The job that the notebook's parameters ask for."""
    return Job(**{name: parameters[name] for name in Job.__dataclass_fields__})


def survey(aws: Aws, job: Job) -> Survey:
    """Look at everything that the policy touches. Raises `RunbookError` where there is no such repository, `InvalidPolicy` for a faulty policy."""
    ecr = aws.client("ecr")
    asked = parse_policy(job.policy or shields.proposal())
    repository = _repository(ecr, job.repository)
    now = datetime.now(timezone.utc)
    stored, current, uses = read(ecr, job.repository), current_policy(ecr, job.repository), find_uses(aws, job.repository)
    used = _used(uses, stored, [repository["repositoryUri"], job.repository], now)
    shielded = shields.shield(asked, stored.images, used, now) if job.keep_in_use else shields.Shielded(asked, (), _open(asked, stored, used, now))
    checks = (
        Check("who is calling", "pass", aws.caller),
        Check("the repository", "pass", f"{repository['repositoryUri']}: {len(stored.images):,} images, {stored.bytes_of() / 2**30:,.2f} GiB of unique layers"),
        Check("the policy", "pass", f"{len(asked.rules)} rules, no fault" + ("" if job.policy else "; it is the proposal, as none was given")),
        _change_check(current, shielded.policy), *_use_checks(job, shielded, used, stored), *_unseen_checks(uses, stored),
    )  # fmt: skip
    return Survey(job.repository, repository["repositoryUri"], now.timestamp(), current, shielded.policy.text, shielded.tags, used, checks)


def preview(aws: Aws, job: Job, found: Survey) -> Preview:
    """What the policy does to each image, at the time of the survey, and what it saves."""
    stored = read(aws.client("ecr"), found.repository)
    frame, gone = settled(found.policy, stored.images, found.now)
    return Preview(stored, frame, gone, saving(stored, frame, gone, prices(aws)), found.used, found.policy, job.show)


def compared(ours: Preview, theirs: OwnPreview) -> pd.DataFrame:
    """Whether ECR's own preview agrees, in a sentence. Raises `RunbookError` where ECR would act on an image that ours keeps."""

    def told(sentence: str) -> pd.DataFrame:
        return pd.DataFrame([(f"{len(ours.frame):,}", sentence)], columns=["images", "compared"])

    if theirs.status != COMPLETE:
        return told("a plan does not ask ECR for its own preview; an apply does")
    apart = differences(ours.frame, theirs, ours.stored.images)
    if apart.empty:
        return told(f"ECR's own preview agrees about every image: it acts on {len(theirs.actions):,}")
    named = "; ".join(f"{row.digest[:19]}: {row.ours} here, {row.ecr} by ECR ({row.reason})" for row in apart.head(5).itertuples())
    if (apart.ecr != KEEP).any():
        raise RunbookError(
            f"ECR's own preview differs about {len(apart)} images: {named}. Nothing was changed.",
            "Look whether images were pushed or tagged meanwhile: start again with a new run, which reads them anew.",
        )
    return told(f"ECR's own preview acts on {len(apart)} images less than this one: {named}")


def undo_put(aws: Aws, job: Job, found: Survey) -> Change:
    """Put the old policy back, or delete ours where there was none; a policy that somebody else put meanwhile stays."""
    ecr = aws.client("ecr")
    now = current_policy(ecr, found.repository)
    if same(now, found.current):
        return Change("nothing: the old policy is there", now, now)
    if not same(now, found.text):
        return Change("left alone: somebody changed the policy since", now, now)
    if found.current:
        ecr.put_lifecycle_policy(repositoryName=found.repository, lifecyclePolicyText=found.current)
        return Change("the old policy is back", now, found.current)
    ecr.delete_lifecycle_policy(repositoryName=found.repository)
    return Change("the policy is deleted, there was none before", now, "")


@effect(undo=undo_put)
def put(aws: Aws, job: Job, found: Survey) -> Change:
    """Put the policy and read it back. Raises `RunbookError` where somebody else changed it since the survey."""
    ecr = aws.client("ecr")
    now = current_policy(ecr, found.repository)
    if same(now, found.text):
        return Change("nothing: the policy is there already", found.current, now)
    if not same(now, found.current):
        what = f"The policy of {found.repository} changed since it was looked at: it was left alone."
        raise RunbookError(what, "Start a new run, which previews what is there now.")
    ecr.put_lifecycle_policy(repositoryName=found.repository, lifecyclePolicyText=found.text)
    if planning():
        return Change("planned", found.current, found.text)
    after = current_policy(ecr, found.repository)
    if not same(after, found.text):
        raise RunbookError(f"ECR has another policy of {found.repository} than was put.", "Look at it with `aws ecr get-lifecycle-policy`.")
    return Change("put, and read back equal", found.current, after)


def measured(previewed: Preview, found: Survey) -> dict[str, Any]:
    """The run's figures: images, what goes, bytes freed, money a month, images in use and shields."""
    kept = previewed.saving
    return {
        "images": kept.images,
        "expire": kept.expired,
        "expire_later": kept.later,
        "transition": kept.moved,
        "freed_bytes": kept.bytes_freed,
        f"saved_a_month_{kept.currency.lower()}": round(kept.monthly, 4),
        "in_use": len(found.used),
        "shields": len(found.shielded),
    }


def same(one: str, other: str) -> bool:
    """True where two policy texts say the same; ECR may put their rules into another order."""
    if not one or not other:
        return one == other
    try:
        return parse_policy(one).rules == parse_policy(other).rules
    except InvalidPolicy:
        return one == other


# -- looking ----------------------------------------------------------------------------------------------


def _repository(ecr: Any, name: str) -> dict[str, Any]:
    """The repository of that name; where there is none, the error names the nearest, if the caller may list them."""
    try:
        return dict(ecr.describe_repositories(repositoryNames=[name])["repositories"][0])
    except Exception as error:
        if not is_not_found(error):
            raise
        missing = error
    try:
        every = [one["repositoryName"] for page in ecr.get_paginator("describe_repositories").paginate() for one in page["repositories"]]
    except ClientError:  # whoever may only see one repository gets no hint
        every = []
    near = difflib.get_close_matches(name, every, 1)
    remedy = f"Did you mean {near[0]!r}?" if near else "`aws ecr describe-repositories` lists them."
    raise RunbookError(f"There is no repository {name!r} in {ecr.meta.region_name}.", remedy) from missing


def _used(uses: Uses, stored: Stored, names: list[str], now: datetime) -> dict[str, list[str]]:
    """Who uses which image; where EKS runs, whatever was pulled lately counts, as pods are not seen."""
    used = used_digests(uses.found, stored.images, names)
    if any(note.endswith(UNSEEN) for note in uses.unseen):
        for digest, who in pulled_lately(stored.images, now).items():
            used.setdefault(digest, who)
    return used


def _open(policy: Policy, stored: Stored, used: dict[str, list[str]], now: datetime) -> tuple[str, ...]:
    """The images in use that the policy acts on."""
    frame = settled(policy, stored.images, now)[0]
    return tuple(digest for digest in frame.digest[frame.action != KEEP] if digest in used)


def _change_check(current: str, policy: Policy) -> Check:
    name = "the policy there is"
    if not current:
        return Check(name, "pass", "none: nothing is ever deleted")
    if same(current, policy.text):
        return Check(name, "pass", "the same already")
    return Check(name, "pass", f"{_rules(current)}, replaced as a whole; roll back puts it back")


def _use_checks(job: Job, shielded: shields.Shielded, used: dict[str, list[str]], stored: Stored) -> list[Check]:
    """Whether the policy spares what is in use."""
    name = "images in use stay"
    told = [f"{len(used):,} images are in use"] + ([f"shielded by {', '.join(shielded.tags)}"] if shielded.tags else [])
    if not shielded.open:
        return [Check(name, "pass", ", ".join(told))]
    if not job.keep_in_use:
        shown = _named(shielded.open, stored)
        return [Check(name, "warn", f"keep_in_use=False: {shown} will go, and a task or function that starts again cannot pull it", "Set keep_in_use=True.")]
    remedy = f"Tag what is untagged, and run again: aws ecr put-image --repository-name {job.repository} --image-tag in-use-… --image-manifest …"
    perhaps = [digest for digest in shielded.open if all(who.startswith(PULLED_ON) for who in used[digest])]
    surely = [digest for digest in shielded.open if digest not in perhaps]
    checks = [Check(name, "fail", f"no tag can shield {_named(surely, stored)}.", remedy)] if surely else []
    if perhaps:
        checks.append(Check(name, "warn", f"no tag can shield {_named(perhaps, stored)}, which was pulled lately, by whom is not known", remedy))
    return checks


def _named(digests: Sequence[str], stored: Stored) -> str:
    """The first five images by their tags, or by digest where they have none."""
    names = {record["digest"]: ", ".join(record["tags"]) or record["digest"] for record in stored.images}
    more = f" and {len(digests) - 5} more" if len(digests) > 5 else ""
    return ", ".join(names[digest] for digest in digests[:5]) + more


def _unseen_checks(uses: Uses, stored: Stored) -> list[Check]:
    """What could not be seen, and images whose layers could not be read."""
    recent = f"Images pulled in the last {RECENT_DAYS} days count as in use; keep others by a rule for their tags."
    checks = [Check("who uses images", "warn", note, recent if note.endswith(UNSEEN) else "") for note in uses.unseen]
    if stored.unread:
        checks.append(Check("layers", "warn", f"the manifests of {len(stored.unread):,} images cannot be read, as in the archive: their layers count as not shared"))
    return checks


def _rules(text: str) -> str:
    if not text:
        return "none"
    try:
        count = len(parse_policy(text).rules)
    except InvalidPolicy:
        return "unreadable"
    return f"{count} rule{'s' * (count > 1)}"
