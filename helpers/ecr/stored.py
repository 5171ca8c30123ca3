"""What a repository stores, read from ECR: its images as records, and the layers of each from its manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from helpers.aws.errors import is_not_found
from helpers.ecr.lifecycle_policy import ARCHIVE, STANDARD

PAGE = 1000  # the most that DescribeImages gives at once; with its own 100 a listing takes nine times as long
BATCH = 100  # the most that BatchGetImage takes
THREADS = 16
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MEDIA_TYPES = (*INDEXES, "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
CLASSES = {"ARCHIVED": ARCHIVE, "ACTIVATING": "activating"}
TIMES = {"imagePushedAt": "pushedAt", "lastRecordedPullTime": "lastRecordedPullTime", "lastArchivedAt": "lastArchivedAt", "lastActivatedAt": "lastActivatedAt"}


@dataclass(frozen=True)
class Stored:
    """A repository's images and blobs.

    `images` are records as `preview_lifecycle` takes them, with `sizeBytes` and `mediaType`, and `findings`, the number of
    vulnerabilities by severity, where a scan was completed. `blobs` has the bytes of each layer and configuration by digest,
    image by image. `unread` are images whose manifest ECR did not give (archived ones cannot be read): each counts as one blob of its
    own, as large as `imageSizeInBytes` says.
    """

    repository: str
    images: list[dict[str, Any]]
    blobs: dict[str, dict[str, int]]
    unread: tuple[str, ...] = ()
    policy: str = field(default="", compare=False)

    def bytes_of(self, digests: Iterable[str] | None = None) -> int:
        """The bytes of the different blobs of these images, or of all; a layer that many images share counts once."""
        return sum(self.union(self.blobs if digests is None else digests).values())

    def union(self, digests: Iterable[str]) -> dict[str, int]:
        """The different blobs of these images, and their bytes."""
        together: dict[str, int] = {}
        for digest in digests:
            together.update(self.blobs.get(digest, {}))
        return together

    def freed(self, gone: Iterable[str]) -> int:
        """The bytes that are freed when these images go: of the blobs that no image which stays has."""
        gone = set(gone)
        kept = self.union(digest for digest in self.blobs if digest not in gone)
        return sum(size for blob, size in self.union(gone).items() if blob not in kept)

    @property
    def summed(self) -> int:
        """The sum of imageSizeInBytes, which counts a shared layer once for every image."""
        return sum(record.get("sizeBytes", 0) for record in self.images)


def read(client: Any, repository: str, threads: int = THREADS) -> Stored:
    """Read the repository: its images in pages of 1,000, their manifests in batches of 100 on `threads` threads.

    Raises botocore's errors, of a repository that does not exist too.
    """
    images = list(describe(client, repository))
    active = [record["digest"] for record in images if record["storageClass"] == STANDARD]
    manifests = read_manifests(client, repository, active, threads)
    blobs, unread = {}, []
    for record in images:
        manifest = manifests.get(record["digest"])
        if manifest is None:
            unread.append(record["digest"])
            blobs[record["digest"]] = {record["digest"]: record.get("sizeBytes", 0)}
        else:
            complete(record, manifest)
            blobs[record["digest"]] = blobs_of(manifest)
    return Stored(repository, images, blobs, tuple(unread))


def describe(client: Any, repository: str) -> Iterator[dict[str, Any]]:
    """The images of the repository as records, archived ones too, which DescribeImages leaves out unless asked for."""
    pages = client.get_paginator("describe_images").paginate(repositoryName=repository, filter={"imageStatus": "ANY"}, PaginationConfig={"PageSize": PAGE})
    for page in pages:
        for detail in page["imageDetails"]:
            yield record_of(detail)


def current_policy(client: Any, repository: str) -> str:
    """The text of the repository's lifecycle policy, empty where it has none."""
    try:
        return str(client.get_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"])
    except Exception as error:
        if is_not_found(error):
            return ""
        raise


def record_of(detail: Mapping[str, Any]) -> dict[str, Any]:
    """An image as `preview_lifecycle` takes it, from what DescribeImages says."""
    record = {
        "digest": detail["imageDigest"],
        "tags": list(detail.get("imageTags", ())),
        "sizeBytes": detail.get("imageSizeInBytes", 0),
        "storageClass": CLASSES.get(detail.get("imageStatus", ""), STANDARD),
        "mediaType": detail.get("imageManifestMediaType", ""),
    }
    record |= {mine: detail[theirs] for theirs, mine in TIMES.items() if detail.get(theirs)}
    if detail.get("subjectManifestDigest"):
        record["subject"] = detail["subjectManifestDigest"]
    findings = detail.get("imageScanFindingsSummary", {}).get("findingSeverityCounts")
    if findings is not None:
        record["findings"] = dict(findings)
    return record


def read_manifests(client: Any, repository: str, digests: Sequence[str], threads: int = THREADS) -> dict[str, dict[str, Any]]:
    """The manifests of these images by digest; those that ECR does not give are left out."""

    def batch(some: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
        wanted = [{"imageDigest": digest} for digest in some]
        answer = client.batch_get_image(repositoryName=repository, imageIds=wanted, acceptedMediaTypes=list(MEDIA_TYPES))
        return [(image["imageId"]["imageDigest"], json.loads(image["imageManifest"])) for image in answer["images"]]

    batches = [digests[start : start + BATCH] for start in range(0, len(digests), BATCH)]
    with ThreadPoolExecutor(max_workers=max(1, min(threads, len(batches)))) as pool:
        return {digest: manifest for some in pool.map(batch, batches) for digest, manifest in some}


def complete(record: dict[str, Any], manifest: Mapping[str, Any]) -> None:
    """Add to a record what only its manifest says: the images in a manifest list, and what a referrer refers to."""
    if "manifests" in manifest:
        record["references"] = [one["digest"] for one in manifest["manifests"]]
    if manifest.get("subject"):
        record.setdefault("subject", manifest["subject"]["digest"])


def blobs_of(manifest: Mapping[str, Any]) -> dict[str, int]:
    """The bytes of the layers and the configuration that a manifest names, by digest; a manifest list has none of its own."""
    named = [*manifest.get("layers", ()), *([manifest["config"]] if "config" in manifest else [])]
    return {one["digest"]: one.get("size", 0) for one in named}
