"""ECR's operations on scans: of one image, and of what is scanned when."""

from __future__ import annotations

import time
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT
from helpers.rehearsal.ecr import scanning
from helpers.rehearsal.ecr.api import Operation, page
from helpers.rehearsal.ecr.refusals import Refused
from helpers.rehearsal.ecr.registry import Image, Registry


def start_image_scan(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        repository, image = registry.find(asked["repositoryName"]), _image(registry, asked)
        if registry.scanning["scanType"] == "ENHANCED":
            raise Refused("ValidationException", "This feature is disabled")
        if image.status != "ACTIVE":
            raise Refused("ImageArchivedException", f"The image with digest '{image.digest}' is archived")
        if not image.manifest.is_image:
            raise Refused("UnsupportedImageTypeException", f"The image with digest '{image.digest}' is of a type that is not scanned")
        if image.scan and time.time() < image.scan.started_at + scanning.AGAIN_S:
            raise Refused("LimitExceededException", "The scan quota per image has been exceeded. Wait and try again.")
        scanning.begin(registry, repository, image)
        return {**_of(asked, image), "imageScanStatus": {"status": "IN_PROGRESS"}}


def describe_image_scan_findings(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        repository, image = registry.find(asked["repositoryName"]), _image(registry, asked)
        if image.scan is None:
            named = f"{{imageDigest:'{image.digest}', imageTag:'{asked['imageId'].get('imageTag', 'null')}'}}"
            where = f"in the repository with name '{repository.name}' in the registry with id '{ACCOUNT}'"
            raise Refused("ScanNotFoundException", f"Image scan does not exist for the image with '{named}' {where}")
        told = {**_of(asked, image), "imageScanStatus": scanning.status(image.scan)}
        if told["imageScanStatus"]["status"] not in ("ACTIVE", "COMPLETE"):
            return told
        ((kind, found),) = scanning.findings(repository, image, image.scan).items()
        shown = page(found, asked, kind)
        return {**told, "imageScanFindings": {**scanning.head(image.scan), kind: shown.pop(kind)}, **shown}


def _image(registry: Registry, asked: dict[str, Any]) -> Image:
    identity = asked["imageId"]
    return registry.find_image(asked["repositoryName"], tag=identity.get("imageTag", ""), digest=identity.get("imageDigest", ""))


def _of(asked: dict[str, Any], image: Image) -> dict[str, Any]:
    return {"registryId": ACCOUNT, "repositoryName": asked["repositoryName"], "imageId": {"imageDigest": image.digest, **asked["imageId"]}}


def put_image_scanning_configuration(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        repository.scan_on_push = bool(asked["imageScanningConfiguration"].get("scanOnPush"))
        told = {"scanOnPush": repository.scan_on_push}
        return {**repository.named, "imageScanningConfiguration": told}


def get_registry_scanning_configuration(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    return {"registryId": ACCOUNT, "scanningConfiguration": registry.scanning}


def put_registry_scanning_configuration(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        before, rules = registry.scanning["scanType"], asked.get("rules", [])
        kind = asked.get("scanType", before)
        if kind == "BASIC" and any(rule["scanFrequency"] == "CONTINUOUS_SCAN" for rule in rules):
            raise Refused("ValidationException", "CONTINUOUS_SCAN is for the scan type ENHANCED only")
        registry.scanning = {"scanType": kind, "rules": rules}
        for repository in registry.repositories.values():
            for image in repository.images.values():
                image.scan = image.scan if kind == before else None
                if kind == "ENHANCED":
                    scanning.on_push(registry, repository, image)
        return {"registryScanningConfiguration": registry.scanning}


def batch_get_repository_scanning_configuration(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    told, failures = [], []
    with registry.lock:
        for name in asked["repositoryNames"]:
            repository = registry.repositories.get(name)
            if repository is None:
                failures.append({"repositoryName": name, "failureCode": "REPOSITORY_NOT_FOUND", "failureReason": "Repository not found"})
                continue
            when = scanning.frequency(registry, repository)
            head = {"repositoryArn": repository.arn, "repositoryName": name, "scanOnPush": when != "MANUAL", "scanFrequency": when}
            told.append({**head, "appliedScanFilters": []})
    return {"scanningConfigurations": told, "failures": failures}


OPERATIONS: dict[str, Operation] = {
    "BatchGetRepositoryScanningConfiguration": batch_get_repository_scanning_configuration,
    "DescribeImageScanFindings": describe_image_scan_findings,
    "GetRegistryScanningConfiguration": get_registry_scanning_configuration,
    "PutImageScanningConfiguration": put_image_scanning_configuration,
    "PutRegistryScanningConfiguration": put_registry_scanning_configuration,
    "StartImageScan": start_image_scan,
}
