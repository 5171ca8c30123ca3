"""Scans of images: when one begins, how long it takes, and what it finds in the packages that the image has."""

from __future__ import annotations

import collections
import fnmatch
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT, REGION
from helpers.rehearsal.ecr import packages, vulnerabilities
from helpers.rehearsal.ecr.registry import Image, Registry, Repository, Scan

# Source: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-basic.html
AGAIN_S = 24 * 3600
UNSUPPORTED = "UnsupportedImageError: The operating system and/or package manager are not supported."


def on_push(registry: Registry, repository: Repository, image: Image) -> None:
    """Begin the scan that a push asks for: by the repository's setting, a rule of the registry, or because all are scanned."""
    if image.scan is None and image.manifest.is_image and frequency(registry, repository) != "MANUAL":
        begin(registry, repository, image)


def frequency(registry: Registry, repository: Repository) -> str:
    """Return when images of a repository are scanned: CONTINUOUS_SCAN, SCAN_ON_PUSH or MANUAL."""
    for rule in registry.scanning["rules"]:
        if any(fnmatch.fnmatchcase(repository.name, one["filter"] if "*" in one["filter"] else f"*{one['filter']}*") for one in rule["repositoryFilters"]):
            return str(rule["scanFrequency"])
    return "SCAN_ON_PUSH" if repository.scan_on_push and registry.scanning["scanType"] == "BASIC" else "MANUAL"


def begin(registry: Registry, repository: Repository, image: Image) -> None:
    """Begin a scan; it is read at once, and ends when its time is over."""
    now = time.time()
    image.scan = Scan(registry.scanning["scanType"], now, now + registry.scan_s)
    if image.packages is not None:
        _judge(image.scan, image.packages)
        return
    paths = [registry.blobs.path(part.digest) for part in image.manifest.blobs[1:]]
    threading.Thread(target=_read, args=(image.scan, paths), daemon=True).start()


def _read(scan: Scan, paths: list[Path]) -> None:
    try:
        _judge(scan, packages.installed(paths))
    except packages.Unreadable:
        _judge(scan, {})


def _judge(scan: Scan, there: Mapping[str, str]) -> None:
    found = [(one, version) for name, version in sorted(there.items()) for one in vulnerabilities.of(name, version)]
    scan.found = sorted(found, key=lambda pair: (-pair[0].score, pair[0].name))
    scan.outcome = "done" if there else "UNSUPPORTED_IMAGE"


def status(scan: Scan) -> dict[str, str]:
    """Return imageScanStatus: status and description."""
    enhanced = scan.kind == "ENHANCED"
    if not scan.outcome or time.time() < scan.ready_at:
        return {"status": "PENDING" if enhanced else "IN_PROGRESS", "description": ""}
    if scan.outcome != "done":
        return {"status": scan.outcome, "description": UNSUPPORTED}
    if enhanced:
        return {"status": "ACTIVE", "description": "Continuous scan is selected for image."}
    return {"status": "COMPLETE", "description": "The scan was completed successfully."}


def summary(image: Image) -> dict[str, Any]:
    """Return what DescribeImages says of the scan of an image: nothing where there was none."""
    if image.scan is None:
        return {}
    told = status(image.scan)
    ended = told["status"] in ("ACTIVE", "COMPLETE")
    return {"imageScanStatus": told, **({"imageScanFindingsSummary": head(image.scan)} if ended else {})}


def findings(repository: Repository, image: Image, scan: Scan) -> dict[str, list[dict[str, Any]]]:
    """Return the findings of a scan that has ended, the gravest first, under the name that its kind has for them."""
    if scan.kind == "ENHANCED":
        return {"enhancedFindings": [_enhanced(repository, image, scan, *pair) for pair in scan.found]}
    return {"findings": [_basic(*pair) for pair in scan.found]}


def head(scan: Scan) -> dict[str, Any]:
    """Return the counts and times of a scan that has ended."""
    counts = collections.Counter(one.severity for one, _ in scan.found)
    return {"imageScanCompletedAt": scan.ready_at, "vulnerabilitySourceUpdatedAt": scan.started_at, "findingSeverityCounts": dict(counts)}


def _basic(one: vulnerabilities.Vulnerability, version: str) -> dict[str, Any]:
    attributes = {"package_name": one.package, "package_version": version}
    return {
        "name": one.name,
        "description": one.description,
        "uri": vulnerabilities.TRACKER + one.name,
        "severity": one.severity,
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
    }


def _enhanced(repository: Repository, image: Image, scan: Scan, one: vulnerabilities.Vulnerability, version: str) -> dict[str, Any]:
    package = {"name": one.package, "version": version, "packageManager": "OS", **({"fixedInVersion": one.fixed} if one.fixed else {})}
    resource = {"imageHash": image.digest, "imageTags": sorted(image.tags), "repositoryName": repository.name, "registry": ACCOUNT}
    return {
        "awsAccountId": ACCOUNT,
        "findingArn": f"arn:aws:inspector2:{REGION}:{ACCOUNT}:finding/{one.name.lower()}-{image.digest[7:19]}",
        "type": "PACKAGE_VULNERABILITY",
        "status": "ACTIVE",
        "title": f"{one.name} - {one.package}",
        "description": one.description,
        "severity": one.severity,
        "score": one.score,
        "firstObservedAt": scan.ready_at,
        "lastObservedAt": scan.ready_at,
        "updatedAt": scan.ready_at,
        "fixAvailable": "YES" if one.fixed else "NO",
        "remediation": {"recommendation": {"text": f"Upgrade {one.package} to {one.fixed}" if one.fixed else "None provided"}},
        "packageVulnerabilityDetails": {
            "vulnerabilityId": one.name,
            "source": "DEBIAN_CVE",
            "sourceUrl": vulnerabilities.TRACKER + one.name,
            "vulnerablePackages": [package],
        },
        "resources": [{"type": "AWS_ECR_CONTAINER_IMAGE", "id": f"{repository.arn}/{image.digest}", "details": {"awsEcrContainerImage": resource}}],
    }
