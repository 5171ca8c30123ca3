"""ECR's operations on images: put, describe, list, get and delete."""

from __future__ import annotations

import time
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT
from helpers.rehearsal.ecr import scanning
from helpers.rehearsal.ecr.api import Operation, page
from helpers.rehearsal.ecr.refusals import Refused, invalid
from helpers.rehearsal.ecr.registry import Image, Registry, Repository

# Source: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html
MOST_IDS = 100


def put_image(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    name, tag, digest = asked["repositoryName"], asked.get("imageTag", ""), asked.get("imageDigest", "")
    image, changed = registry.put_image(name, asked["imageManifest"].encode(), asked.get("imageManifestMediaType", ""), tag=tag, digest=digest)
    if not changed:
        with_tag = f"imageTag:'{tag or 'null'}'"
        told = f"Image with digest '{image.digest}' and tag '{tag}' already exists in the repository with name '{name}' in registry with id '{ACCOUNT}' ({with_tag})"
        raise Refused("ImageAlreadyExistsException", told)
    return {"image": _whole(name, image, tag)}


def _whole(name: str, image: Image, tag: str) -> dict[str, Any]:
    identity = {"imageDigest": image.digest, **({"imageTag": tag} if tag else {})}
    manifest = {"imageManifest": image.manifest.content.decode(), "imageManifestMediaType": image.manifest.media_type}
    return {"registryId": ACCOUNT, "repositoryName": name, "imageId": identity, **manifest}


def describe_images(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    identities, chosen = asked.get("imageIds"), asked.get("filter") or {}
    if identities and (asked.get("maxResults") or asked.get("nextToken")):
        raise invalid("maxResults", "cannot be specified together with imageIds")
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        if identities:
            found = list({image.digest: image for image in (_named(registry, repository, one) for one in identities)}.values())
        else:
            found = _filtered(repository, chosen)
        return page([_detail(registry, repository, one) for one in found], asked, "imageDetails", most=max(len(found), 1) if identities else 100)


def _named(registry: Registry, repository: Repository, identity: dict[str, str]) -> Image:
    if not identity.get("imageDigest") and not identity.get("imageTag"):
        raise invalid("imageIds", "an image is named by its digest or tag")
    return registry.find_image(repository.name, tag=identity.get("imageTag", ""), digest=identity.get("imageDigest", ""))


def _filtered(repository: Repository, chosen: dict[str, str]) -> list[Image]:
    """Return the images that a filter lets through, in the order of their digests, which says nothing; active ones unless asked otherwise."""
    tagged, status = chosen.get("tagStatus", "ANY"), chosen.get("imageStatus", "ACTIVE")
    return [
        image
        for _, image in sorted(repository.images.items())
        if tagged in ("ANY", "TAGGED" if image.tags else "UNTAGGED") and status in ("ANY", image.status)
    ]


def _detail(registry: Registry, repository: Repository, image: Image) -> dict[str, Any]:
    manifest = image.manifest
    optional = {
        "imageTags": sorted(image.tags),
        "lastRecordedPullTime": image.pulled_at,
        "artifactMediaType": manifest.artifact_type,
        "subjectManifestDigest": manifest.subject.digest if manifest.subject else None,
        "lastArchivedAt": image.archived_at,
        "lastActivatedAt": image.activated_at,
        **scanning.summary(image),
    }
    return {
        "registryId": ACCOUNT,
        "repositoryName": repository.name,
        "imageDigest": image.digest,
        "imageSizeInBytes": registry.size_of(repository, image),
        "imagePushedAt": image.pushed_at,
        "imageManifestMediaType": manifest.media_type,
        "imageStatus": image.status,
        **{name: value for name, value in optional.items() if value},
    }


def list_images(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    with registry.lock:
        found = _filtered(registry.find(asked["repositoryName"]), asked.get("filter") or {})
        identities = [
            {"imageDigest": image.digest, **({"imageTag": tag} if tag else {})} for image in found for tag in (sorted(image.tags) or [""])
        ]
        return page(identities, asked, "imageIds")


def batch_get_image(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    images, failures = [], []
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        for identity in _few(asked["imageIds"]):
            image, why = _resolved(repository, identity)
            if image is None:
                failures.append(_failure(identity, *why))
                continue
            images += [_whole(repository.name, image, tag) for tag in ([identity["imageTag"]] if identity.get("imageTag") else sorted(image.tags) or [""])]
    return {"images": images, "failures": failures}


def batch_delete_image(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    """A tag alone takes the tag away, and the image when it was the last one; a digest takes the image with all its tags.

    Source: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html
    """
    deleted, failures = [], []
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        # A list goes before what it lists, whatever order they are named in.
        identities = sorted(_few(asked["imageIds"]), key=lambda one: not _is_list(repository, one))
        for identity in identities:
            image, why = _resolved(repository, identity)
            if image is None:
                failures.append(_failure(identity, *why))
                continue
            tag, by_tag = identity.get("imageTag", ""), bool(identity.get("imageTag")) and not identity.get("imageDigest")
            if by_tag and len(image.tags) > 1:
                repository.untag(tag)
                deleted.append({"imageDigest": image.digest, "imageTag": tag})
                continue
            if lists := registry.listed_in(repository, image.digest):
                told = f"Requested image referenced by manifest list: [{', '.join(lists)}]"
                failures.append(_failure(identity, "ImageReferencedByManifestList", told))
                continue
            deleted += [{"imageDigest": image.digest, **({"imageTag": one} if one else {})} for one in (sorted(image.tags) or [""])]
            registry.delete_image(repository, image)
    return {"imageIds": deleted, "failures": failures}


def _is_list(repository: Repository, identity: dict[str, str]) -> bool:
    image, _ = _resolved(repository, identity)
    return image is not None and image.manifest.is_list


def _few(identities: list[dict[str, str]]) -> list[dict[str, str]]:
    if not 1 <= len(identities) <= MOST_IDS:
        raise invalid("imageIds", f"must have length between 1 and {MOST_IDS}")
    return identities


def _resolved(repository: Repository, identity: dict[str, str]) -> tuple[Image | None, tuple[str, str]]:
    """Return an image, or None and why there is none: code and sentence."""
    digest, tag = identity.get("imageDigest", ""), identity.get("imageTag", "")
    if not digest and not tag:
        return None, ("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null")
    if digest and (not digest.startswith("sha256:") or len(digest) != 71):
        return None, ("InvalidImageDigest", "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'")
    image = repository.tagged(tag) if tag else repository.images.get(digest)
    if image is None:
        return None, ("ImageNotFound", "Requested image not found")
    if digest and image.digest != digest:
        return None, ("ImageTagDoesNotMatchDigest", "The tag does not belong to the image with this digest")
    return image, ("", "")


def _failure(identity: dict[str, str], code: str, reason: str) -> dict[str, Any]:
    return {"imageId": identity, "failureCode": code, "failureReason": reason}


def update_image_storage_class(registry: Registry, asked: dict[str, Any]) -> dict[str, Any]:
    """Archive or restore an image; a restored one is there at once, where AWS takes up to 20 minutes."""
    with registry.lock:
        repository = registry.find(asked["repositoryName"])
        image = _named(registry, repository, asked["imageId"])
        archive = asked["targetStorageClass"] == "ARCHIVE"
        if archive == (image.status == "ARCHIVED"):
            told = f"The image with digest '{image.digest}' is already in the storage class {asked['targetStorageClass']}"
            raise Refused("ImageStorageClassUpdateNotSupportedException", told)
        if archive:
            image.status, image.archived_at = "ARCHIVED", time.time()
        else:
            image.status, image.activated_at = "ACTIVE", time.time()
    return {"registryId": ACCOUNT, "repositoryName": repository.name, "imageId": asked["imageId"], "imageStatus": image.status}


OPERATIONS: dict[str, Operation] = {
    "BatchDeleteImage": batch_delete_image,
    "BatchGetImage": batch_get_image,
    "DescribeImages": describe_images,
    "ListImages": list_images,
    "PutImage": put_image,
    "UpdateImageStorageClass": update_image_storage_class,
}
