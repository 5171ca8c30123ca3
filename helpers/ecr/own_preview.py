"""ECR's own preview of a policy, and where it differs from ours.

StartLifecyclePolicyPreview changes no image, but it replaces the repository's last preview, so it counts as a write.
https://docs.aws.amazon.com/AmazonECR/latest/userguide/lpp_creation.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.aws import Aws, effect, planning, wait
from helpers.aws.errors import is_not_found
from helpers.ecr.lifecycle import KEEP

PAGE = 100  # the most that GetLifecyclePolicyPreview gives at once
RUNNING, COMPLETE = "IN_PROGRESS", "COMPLETE"
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class OwnPreview:
    """What ECR says that a policy does: the action (expire, transition) and the rule of each image that it acts on, by digest."""

    status: str
    actions: dict[str, str]
    rules: dict[str, int]

    def table(self) -> pd.DataFrame:
        """How many images ECR would act on, by action and rule."""
        if self.status != COMPLETE:
            return pd.DataFrame([(self.status, "", "")], columns=["status", "action", "images"])
        counted = pd.Series([(action, self.rules[digest]) for digest, action in self.actions.items()], dtype=object).value_counts()
        rows = [(COMPLETE, f"{action} by rule {rule}", f"{count:,}") for (action, rule), count in counted.items()]
        return pd.DataFrame(rows or [(COMPLETE, "nothing", "0")], columns=["status", "action", "images"])


@effect()
def ask_ecr(aws: Aws, repository: str, text: str) -> OwnPreview:
    """Let ECR preview the policy; one that somebody else started is awaited first. A plan only lists the start."""
    client = aws.client("ecr")

    def status() -> str:
        try:
            return str(client.get_lifecycle_policy_preview(repositoryName=repository, maxResults=1)["status"])
        except Exception as error:
            if is_not_found(error):
                return COMPLETE
            raise

    ended = (COMPLETE, "EXPIRED", "FAILED")
    if not planning():
        wait(f"an earlier preview of {repository}", status, until=ended, timeout=TIMEOUT_S)
    client.start_lifecycle_policy_preview(repositoryName=repository, lifecyclePolicyText=text)
    if planning():
        return OwnPreview("planned", {}, {})
    wait(f"the preview of {repository}", status, until=(COMPLETE,), fail=ended[1:], timeout=TIMEOUT_S)
    pages = client.get_paginator("get_lifecycle_policy_preview").paginate(repositoryName=repository, PaginationConfig={"PageSize": PAGE})
    results = [one for page in pages for one in page["previewResults"]]
    return OwnPreview(
        COMPLETE, {one["imageDigest"]: one["action"]["type"].lower() for one in results}, {one["imageDigest"]: one["appliedRulePriority"] for one in results}
    )


def differences(ours: pd.DataFrame, theirs: OwnPreview, images: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A row an image about which the two previews differ: digest, both actions, and our reason.

    Signatures and other referrers whose subject is there are left out: ECR removes them after their subject, not by a rule.
    """
    known = set(ours.digest)
    followers = {record["digest"] for record in images if record.get("subject") in known}
    told = ours.digest.map(theirs.actions).fillna(KEEP)
    apart = ours.assign(ecr=told)[(told != ours.action) & ~ours.digest.isin(followers)]
    return apart.rename(columns={"action": "ours"})[["digest", "ours", "ecr", "reason"]].reset_index(drop=True)
