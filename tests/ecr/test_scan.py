"""Scans: waited for whatever they end as, read in both forms, judged by a threshold."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from helpers.aws import RunbookError
from helpers.ecr.push import push
from helpers.ecr.scan import Finding, Findings, await_findings, findings_table, judge
from tests.ecr import making
from tests.ecr.conftest import Account

STATUS = b"Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.2.11.dfsg-1\n\nPackage: libc6\nVersion: 2.36-9+deb12u3\n\n"


def packages(*more: bytes) -> bytes:
    """A layer with Debian's database of two packages with known vulnerabilities."""
    return gzip.compress(making.tar_of({"var/lib/dpkg/status": STATUS, "salt": os.urandom(8), **{str(n): one for n, one in enumerate(more)}}), mtime=0)


@pytest.fixture
def pushed(account: Account, tmp_path: Path) -> str:
    """The digest of an image with packages, in a repository that is scanned on push."""
    account.cloud.registry(scan_s=0.2)
    account.ecr.put_image_scanning_configuration(repositoryName=account.repository, imageScanningConfiguration={"scanOnPush": True})
    making.image(tmp_path / "oci", packages())
    return push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0").plan.digest


def test_a_basic_scan_is_waited_for_and_counted_by_severity(account: Account, pushed: str) -> None:
    found = await_findings(account.ecr, account.repository, pushed)
    assert found.status == "COMPLETE" and found.counts["CRITICAL"] == 2
    assert found.worst[0].severity == "CRITICAL" and found.worst[0].package == "zlib1g"


def test_an_enhanced_scan_ends_as_active_and_is_read_in_its_own_form(account: Account, tmp_path: Path) -> None:
    account.cloud.registry(scan_s=0.2)
    rule = {"scanFrequency": "CONTINUOUS_SCAN", "repositoryFilters": [{"filter": account.repository, "filterType": "WILDCARD"}]}
    account.ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=[rule])
    try:
        making.image(tmp_path / "oci", packages())
        digest = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0").plan.digest
        found = await_findings(account.ecr, account.repository, digest)
    finally:
        account.ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[])
    assert found.status == "ACTIVE" and found.counts["CRITICAL"] == 2
    assert found.worst[0].name.startswith("CVE-") and found.worst[0].package == "zlib1g"


def test_an_image_without_packages_is_told_to_be_unsupported_and_does_not_fail_a_run(account: Account, tmp_path: Path) -> None:
    account.cloud.registry(scan_s=0.0)
    account.ecr.put_image_scanning_configuration(repositoryName=account.repository, imageScanningConfiguration={"scanOnPush": True})
    making.image(tmp_path / "oci", gzip.compress(making.tar_of({"a": b"a"})))
    digest = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0").plan.digest
    found = await_findings(account.ecr, account.repository, digest)
    assert (found.status, found.is_known) == ("UNSUPPORTED_IMAGE", False)
    assert judge([found], "LOW").startswith("Not scanned: UNSUPPORTED_IMAGE")


def test_a_scan_that_does_not_begin_ends_the_wait(account: Account, tmp_path: Path) -> None:
    making.image(tmp_path / "oci")
    digest = push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0").plan.digest
    with pytest.raises(RunbookError, match=r"No scan of \w+ began in 0 s.*start-image-scan"):
        await_findings(account.ecr, account.repository, digest, begins=0.1)


FOUND = Findings("sha256:a", "COMPLETE", {"HIGH": 2, "MEDIUM": 1}, (Finding("CVE-1", "HIGH", "libc6", "2.36", "2.37"),))


def test_findings_at_the_threshold_or_above_fail_the_run_and_name_the_worst() -> None:
    for threshold in ("HIGH", "MEDIUM", "LOW"):
        with pytest.raises(RunbookError, match=r"2 high, 1 medium.*CVE-1 in libc6 2.36, mended in 2.37.*rollback"):
            judge([FOUND], threshold)


def test_findings_below_the_threshold_are_told_and_go_on() -> None:
    assert judge([FOUND], "CRITICAL") == judge([FOUND], "CRITICAL") == "The scan found 2 high, 1 medium; the threshold is CRITICAL."
    assert "2 high" in judge([FOUND], "none")
    assert findings_table([FOUND])["high"].tolist() == [2]


class Answering:
    """A stand-in for the client, for states that the local cloud has not."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)

    def describe_image_scan_findings(self, **_: Any) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == "ScanNotFoundException":
            raise ClientError({"Error": {"Code": status, "Message": "not found"}}, "DescribeImageScanFindings")
        counts = {"UNTRIAGED": 3, "HIGH": 1}
        return {"imageScanStatus": {"status": status, "description": "as it is"}, "imageScanFindings": {"findingSeverityCounts": counts}}


@pytest.mark.parametrize("status", ["FAILED", "UNSUPPORTED_IMAGE", "SCAN_ELIGIBILITY_EXPIRED", "FINDINGS_UNAVAILABLE", "LIMIT_EXCEEDED", "IMAGE_ARCHIVED"])
def test_every_way_in_which_a_scan_ends_ends_the_wait(status: str) -> None:
    found = await_findings(Answering("ScanNotFoundException", "PENDING", "IN_PROGRESS", status), "app", "sha256:a")
    assert (found.status, found.why, found.counts) == (status, "as it is", {})


def test_severities_of_no_rank_are_counted_as_undefined() -> None:
    assert await_findings(Answering("ACTIVE"), "app", "sha256:a").counts == {"UNDEFINED": 3, "HIGH": 1}
