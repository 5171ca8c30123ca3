"""Scans in the local cloud: what they find is in the packages that an image really has."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest

from helpers.rehearsal.ecr import vulnerabilities


def packed(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


def debian(**versions: str) -> bytes:
    blocks = [f"Package: {name}\nStatus: install ok installed\nVersion: {version}\n" for name, version in versions.items()]
    return packed({"./var/lib/dpkg/status": "\n".join(blocks)})


def findings(registry: Any, until: Any, tag: str) -> dict[str, Any]:
    def ended() -> Any:
        told = registry.ecr.describe_image_scan_findings(repositoryName=registry.repository, imageId={"imageTag": tag})
        return told if told["imageScanStatus"]["status"] not in ("IN_PROGRESS", "PENDING") else None

    return dict(until(ended))


def test_a_scan_is_in_progress_then_complete_with_what_the_packages_have(registry: Any, until: Any) -> None:
    registry.push("v1", debian(libc6="2.36-9+deb12u2", zlib1g="1:1.2.13.dfsg-1", bash="5.2"))
    assert registry.refusal("describe_image_scan_findings", imageId={"imageTag": "v1"})[0] == "ScanNotFoundException"
    started = registry.ecr.start_image_scan(repositoryName=registry.repository, imageId={"imageTag": "v1"})
    assert started["imageScanStatus"]["status"] == "IN_PROGRESS"
    told = findings(registry, until, "v1")
    assert told["imageScanStatus"]["status"] == "COMPLETE"
    names = {one["name"]: one for one in told["imageScanFindings"]["findings"]}
    assert {"CVE-2023-4911", "CVE-2024-2961", "CVE-2023-45853"} <= set(names)
    assert names["CVE-2023-4911"]["severity"] == "HIGH"
    assert {one["key"]: one["value"] for one in names["CVE-2023-4911"]["attributes"]} == {"package_name": "libc6", "package_version": "2.36-9+deb12u2"}
    counts = told["imageScanFindings"]["findingSeverityCounts"]
    assert sum(counts.values()) == len(names) and counts["CRITICAL"] == 1
    assert registry.detail(imageTag="v1")["imageScanFindingsSummary"]["findingSeverityCounts"] == counts
    again = registry.refusal("start_image_scan", imageId={"imageTag": "v1"})
    assert again[:2] == ("LimitExceededException", "The scan quota per image has been exceeded. Wait and try again.")


def test_a_later_layer_s_packages_are_those_that_count(registry: Any, until: Any) -> None:
    registry.ecr.put_image_scanning_configuration(repositoryName=registry.repository, imageScanningConfiguration={"scanOnPush": True})
    registry.push("v1", debian(libc6="2.36-9+deb12u2"), debian(libc6="2.36-9+deb12u14"))
    told = findings(registry, until, "v1")["imageScanFindings"]["findings"]
    assert [one["name"] for one in told] == ["CVE-2019-1010022"]


def test_an_image_without_known_packages_is_unsupported_and_a_chart_is_not_scanned(registry: Any, until: Any) -> None:
    registry.ecr.put_image_scanning_configuration(repositoryName=registry.repository, imageScanningConfiguration={"scanOnPush": True})
    registry.push("v1", b"no tar at all")
    assert findings(registry, until, "v1")["imageScanStatus"]["status"] == "UNSUPPORTED_IMAGE"
    config = b"{}"
    head = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": registry.blob(config), "size": 2}
    chart = {**json.loads(registry.manifest(b"chart")), "config": head}
    registry.put(json.dumps(chart).encode(), "chart")
    assert registry.refusal("start_image_scan", imageId={"imageTag": "chart"})[0] == "UnsupportedImageTypeException"


def test_findings_come_in_pages(registry: Any, until: Any) -> None:
    registry.push("v1", debian(libc6="2.36-9"))
    registry.cloud.registry(scan_s=0)
    registry.ecr.start_image_scan(repositoryName=registry.repository, imageId={"imageTag": "v1"})
    whole = findings(registry, until, "v1")["imageScanFindings"]["findings"]
    options = {"repositoryName": registry.repository, "imageId": {"imageTag": "v1"}, "PaginationConfig": {"PageSize": 2}}
    pages = list(registry.ecr.get_paginator("describe_image_scan_findings").paginate(**options))
    assert [one for page in pages for one in page["imageScanFindings"]["findings"]] == whole
    assert len(pages) == 3


def test_enhanced_scans_are_pending_then_active_and_follow_the_rules_of_the_registry(registry: Any, until: Any) -> None:
    registry.push("v1", debian(libssl3="3.0.9-1"))
    name = registry.repository
    rules = [{"scanFrequency": "CONTINUOUS_SCAN", "repositoryFilters": [{"filter": f"{name}*", "filterType": "WILDCARD"}]}]
    try:
        registry.ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=rules)
        assert registry.ecr.get_registry_scanning_configuration()["scanningConfiguration"] == {"scanType": "ENHANCED", "rules": rules}
        asked = registry.ecr.batch_get_repository_scanning_configuration(repositoryNames=[name, "no/such"])
        assert asked["scanningConfigurations"][0]["scanFrequency"] == "CONTINUOUS_SCAN"
        assert asked["failures"][0]["failureCode"] == "REPOSITORY_NOT_FOUND"
        told = findings(registry, until, "v1")
        assert told["imageScanStatus"]["status"] == "ACTIVE"
        found = told["imageScanFindings"]["enhancedFindings"][0]
        assert (found["severity"], found["fixAvailable"]) == ("HIGH", "YES")
        package = found["packageVulnerabilityDetails"]["vulnerablePackages"][0]
        assert (package["name"], package["version"], package["fixedInVersion"]) == ("libssl3", "3.0.9-1", "3.0.15-1~deb12u1")
        assert registry.refusal("start_image_scan", imageId={"imageTag": "v1"})[0] == "ValidationException"
    finally:
        registry.ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[])


@pytest.mark.parametrize(
    ("earlier", "later"),
    [("1.0~rc1", "1.0"), ("1.0", "1.0-1"), ("9", "10"), ("1.0-1", "1.0+b1-1"), ("2.36-9+deb12u3", "2.36-9+deb12u14"), ("2:1", "10:0"), ("1.0a", "1.0+")],
)
def test_versions_are_compared_as_debian_does(earlier: str, later: str) -> None:
    assert vulnerabilities.before(earlier, later)
    assert not vulnerabilities.before(later, earlier)
    assert not vulnerabilities.before(earlier, earlier)
