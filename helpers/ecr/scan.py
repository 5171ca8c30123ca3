"""Wait for the findings of a scan, basic or enhanced, and judge them by a threshold.

botocore's waiter `image_scan_complete` knows COMPLETE and FAILED only, so that it never ends for an enhanced scan (ACTIVE) or for
an image that cannot be scanned. https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning.html
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.aws import RunbookError, wait
from helpers.aws.errors import error_code
from helpers.ecr.content import short
from helpers.ecr.tables import table
from helpers.ecr.words import explain_ecr

if TYPE_CHECKING:
    import pandas as pd

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED")
OF_NO_RANK = {"UNTRIAGED": "UNDEFINED"}  # enhanced scans call it so
FOUND = ("COMPLETE", "ACTIVE")
NOT_SCANNED = ("FAILED", "UNSUPPORTED_IMAGE", "SCAN_ELIGIBILITY_EXPIRED", "FINDINGS_UNAVAILABLE", "LIMIT_EXCEEDED", "IMAGE_ARCHIVED")
ABSENT = "not begun"
BEGINS_S, MOST_S = 60.0, 900.0
WORST = 10


@dataclass(frozen=True)
class Finding:
    """A vulnerability: its name, severity, the package and its version, and the version that mends it, where known."""

    name: str
    severity: str
    package: str
    version: str
    mended_in: str = ""


@dataclass(frozen=True)
class Findings:
    """What a scan of one image found: how it ended, how many of each severity, and the worst; `why` says more where it found nothing out."""

    digest: str
    status: str
    counts: dict[str, int]
    worst: tuple[Finding, ...] = ()
    why: str = ""

    @property
    def is_known(self) -> bool:
        """True where there is a result."""
        return self.status in FOUND


def await_findings(client: Any, repository: str, digest: str, *, timeout: float = MOST_S, begins: float = BEGINS_S) -> Findings:
    """The findings of an image, waited for; at most `timeout` seconds, and `begins` seconds for the scan to begin.

    An image that cannot be scanned has a status that says so. Raises `RunbookError` where the scan does not begin or end in time.
    """
    started = time.monotonic()

    def state() -> str:
        found = _status(client, repository, digest)
        if found == ABSENT and time.monotonic() - started > begins:
            raise RunbookError(f"No scan of {short(digest)} began in {begins:.0f} s.", f"Look at the scan settings of {repository}, or start one: aws ecr start-image-scan.")
        return found

    status = wait(f"Scan of {short(digest)}", state, until=(*FOUND, *NOT_SCANNED), timeout=timeout)
    if status not in FOUND:
        return Findings(digest, status, {}, (), _described(client, repository, digest))
    return _read(client, repository, digest, status)


def judge(every: Sequence[Findings], threshold: str) -> str:
    """What the findings mean for a run, in a sentence. Raises `RunbookError` where one is as severe as `threshold` or more; `none` takes all."""
    found = {one: sum(each.counts.get(one, 0) for each in every) for one in SEVERITIES}
    told = ", ".join(f"{count} {name.lower()}" for name, count in found.items() if count) or "no vulnerability"
    unknown = [each for each in every if not each.is_known]
    if threshold != "none" and (at_or_above := sum(found[one] for one in SEVERITIES[: SEVERITIES.index(threshold) + 1])):
        worst = "; ".join(f"{one.name} in {one.package} {one.version}{f', mended in {one.mended_in}' if one.mended_in else ''}" for each in every for one in each.worst[:3])
        raise RunbookError(f"The scan found {told}: {at_or_above} at {threshold} or above, the threshold of this run. {worst}.", "Rebuild with mended packages and push under a new tag; `runbook rollback` takes this image back.")
    if unknown:
        return f"Not scanned: {unknown[0].status}{f', {unknown[0].why}' if unknown[0].why else ''}."
    return f"The scan found {told}; the threshold is {threshold}."


def findings_table(every: Sequence[Findings]) -> pd.DataFrame:
    """A row an image: digest, how its scan ended, and the number of findings of each severity."""
    rows = [(short(one.digest), one.status, *(one.counts.get(name, 0) for name in SEVERITIES)) for one in every]
    return table(rows, ["image", "scan", *(name.lower() for name in SEVERITIES)])


def _ask(client: Any, repository: str, digest: str, **more: Any) -> dict[str, Any] | None:
    try:
        return client.describe_image_scan_findings(repositoryName=repository, imageId={"imageDigest": digest}, **more)
    except Exception as error:
        if error_code(error) == "ScanNotFoundException":
            return None
        raise explain_ecr(error) from error


def _status(client: Any, repository: str, digest: str) -> str:
    told = _ask(client, repository, digest, maxResults=1)
    return ABSENT if told is None else str(told.get("imageScanStatus", {}).get("status", ABSENT))


def _described(client: Any, repository: str, digest: str) -> str:
    told = _ask(client, repository, digest, maxResults=1) or {}
    return str(told.get("imageScanStatus", {}).get("description", ""))


def _read(client: Any, repository: str, digest: str, status: str) -> Findings:
    """The counts of all findings, and the worst of the first pages of them."""
    told = _ask(client, repository, digest, maxResults=1000) or {}
    found = told.get("imageScanFindings", {})
    counts: dict[str, int] = {}
    for name, count in found.get("findingSeverityCounts", {}).items():
        severity = OF_NO_RANK.get(name, name)
        counts[severity] = counts.get(severity, 0) + count
    every = [*map(_basic, found.get("findings", [])), *map(_enhanced, found.get("enhancedFindings", []))]
    return Findings(digest, status, counts, tuple(sorted(every, key=lambda one: (SEVERITIES.index(one.severity), one.name))[:WORST]))


def _severity(name: str) -> str:
    name = OF_NO_RANK.get(name, name)
    return name if name in SEVERITIES else SEVERITIES[-1]


def _basic(one: dict[str, Any]) -> Finding:
    told = {each["key"]: each.get("value", "") for each in one.get("attributes", [])}
    return Finding(one.get("name", ""), _severity(one.get("severity", "")), told.get("package_name", ""), told.get("package_version", ""), told.get("fixed_in_versions", ""))


def _enhanced(one: dict[str, Any]) -> Finding:
    details = one.get("packageVulnerabilityDetails", {})
    package = (details.get("vulnerablePackages") or [{}])[0]
    return Finding(details.get("vulnerabilityId") or one.get("title", ""), _severity(one.get("severity", "")), package.get("name", ""), package.get("version", ""), package.get("fixedInVersion", ""))
