"""Manifests: what an image says it is made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from helpers.rehearsal.ecr.refusals import invalid

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
LISTS = (DOCKER_LIST, OCI_INDEX)
MEDIA_TYPES = (DOCKER_MANIFEST, OCI_MANIFEST, *LISTS)
# Source: PutImage, imageManifest.
LARGEST = 4 * 1024 * 1024
IMAGE_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")


@dataclass(frozen=True)
class Part:
    """What a manifest refers to: a config, a layer or another manifest."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True)
class Manifest:
    """A manifest, read: `blobs` are config and layers, `children` the manifests of a list; "" and None where it has none."""

    content: bytes
    digest: str
    media_type: str
    blobs: tuple[Part, ...]
    children: tuple[Part, ...]
    subject: Part | None
    artifact_type: str
    annotations: dict[str, str]

    @property
    def is_list(self) -> bool:
        """Return whether it lists other manifests."""
        return self.media_type in LISTS

    @property
    def is_image(self) -> bool:
        """Return whether it is a container image, and so can be scanned."""
        return not self.is_list and bool(self.blobs) and self.blobs[0].media_type in IMAGE_CONFIGS

    @property
    def size(self) -> int:
        """Return the bytes of config and layers, as compressed."""
        return sum(part.size for part in self.blobs)


def digest_of(content: bytes) -> str:
    """Return the digest of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read(content: bytes, media_type: str = "") -> Manifest:
    """Return a manifest as it was sent, byte for byte. Raises `Refused` where it is none that ECR takes."""
    if len(content) > LARGEST:
        raise invalid("ImageManifest", f"must have length less than or equal to {LARGEST}")
    try:
        told = json.loads(content)
        kind = told.get("mediaType") or media_type.partition(";")[0].strip() or _kind_of(told)
    except (ValueError, AttributeError) as error:
        raise invalid("ImageManifest", "Invalid JSON syntax") from error
    if kind not in MEDIA_TYPES or told.get("schemaVersion") != 2:
        raise invalid("ImageManifest", "Unsupported media type or schema version of the manifest")
    try:
        blobs = () if kind in LISTS else tuple(_part(one) for one in (told["config"], *told["layers"]))
        children = tuple(_part(one) for one in told["manifests"]) if kind in LISTS else ()
        subject = _part(told["subject"]) if told.get("subject") else None
    except (KeyError, TypeError, ValueError) as error:
        raise invalid("ImageManifest", "Invalid image manifest") from error
    artifact = told.get("artifactType") or (blobs[0].media_type if blobs else "")
    return Manifest(content, digest_of(content), kind, blobs, children, subject, artifact, dict(told.get("annotations") or {}))


def _part(told: dict[str, Any]) -> Part:
    digest = str(told["digest"])
    if not digest.startswith("sha256:"):
        raise ValueError(digest)
    return Part(digest, int(told["size"]), str(told.get("mediaType", "")))


def _kind_of(told: dict[str, Any]) -> str:
    return OCI_INDEX if "manifests" in told else OCI_MANIFEST
