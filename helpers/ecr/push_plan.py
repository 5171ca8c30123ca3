"""What a push would do, before it does: which layers are there, are mounted from another repository or are sent, and what the tag names now.

Reads only: BatchCheckLayerAvailability, DescribeImages, and the other repositories of the registry where blob mounting is on.
https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.aws import Aws
from helpers.aws.errors import error_code
from helpers.ecr.content import Blob, Image, short
from helpers.ecr.login import PRIVATE
from helpers.ecr.repository import Repository, client_of, encryption_of
from helpers.ecr.tables import table

if TYPE_CHECKING:
    import pandas as pd

THERE, MOUNT, UPLOAD = "there", "mount", "upload"
MOST_DIGESTS = 100  # a call, https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchCheckLayerAvailability.html
MOST_SOURCES = 20  # other repositories that are asked for layers: a call each
RATE = 12.5e6  # bytes a second: what the time is told for, 100 Mbit/s


@dataclass(frozen=True)
class Layer:
    """A blob of the image: what the push does with it, and the repository that it is mounted from."""

    digest: str
    size: int
    media_type: str
    action: str
    source: str = ""


@dataclass(frozen=True)
class Put:
    """A manifest of the image, and whether the repository has it."""

    digest: str
    media_type: str
    size: int
    platform: str
    there: bool


@dataclass(frozen=True)
class PushPlan:
    """A push of an image to a repository under a tag; `tag_now` is the digest that the tag names before, empty for none."""

    repository: str
    tag: str
    digest: str
    layers: tuple[Layer, ...]
    manifests: tuple[Put, ...]
    tag_now: str = ""
    mounting: bool = False

    @property
    def to_send(self) -> tuple[Layer, ...]:
        """The layers that are uploaded or mounted."""
        return tuple(one for one in self.layers if one.action != THERE)

    @property
    def bytes(self) -> int:
        """The bytes that are uploaded."""
        return sum(one.size for one in self.layers if one.action == UPLOAD)

    @property
    def is_done(self) -> bool:
        """True where the tag names this very image already, so that there is nothing to do."""
        return self.tag_now == self.digest and all(one.there for one in self.manifests)

    def told(self) -> str:
        """The plan in a sentence."""
        if self.is_done:
            return f"{self.repository}:{self.tag} is this image already: nothing will be sent."
        counts = {action: sum(one.action == action for one in self.layers) for action in (THERE, MOUNT, UPLOAD)}
        time = f", about {self.bytes / RATE:,.0f} s at 100 Mbit/s" if self.bytes > RATE else ""
        moved = f" The tag {self.tag} moves here from {self.tag_now}." if self.tag_now not in ("", self.digest) else ""
        return f"{len(self.layers)} blobs: {counts[THERE]} there already, {counts[MOUNT]} to mount, {counts[UPLOAD]} to upload, which is {self.bytes / 1e6:,.1f} MB{time}.{moved}"

    def table(self) -> pd.DataFrame:
        """A row a blob, a manifest and the tag: what, digest, bytes, action."""
        alone = len(self.manifests) == 1
        kinds = ["config" if alone else "blob", *["layer" if alone else "blob"] * len(self.layers)]
        rows = [(kind, short(one.digest), f"{one.size:,}", f"mount from {one.source}" if one.source else one.action) for kind, one in zip(kinds, self.layers, strict=False)]
        rows += [(f"manifest {one.platform}".strip(), short(one.digest), f"{one.size:,}", THERE if one.there else "put") for one in self.manifests]
        moves = f"moves from {short(self.tag_now)}" if self.tag_now else "new"
        rows.append((f"tag {self.tag}", short(self.digest), "", THERE if self.tag_now == self.digest else moves))
        return table(rows, ["what", "digest", "bytes", "action"])


def plan_push(aws: Aws, name: str, tag: str, image: Image, repository: Repository | None, visibility: str = PRIVATE, encryption: tuple[str, str] = ("AES256", "")) -> PushPlan:
    """The plan of a push; `repository` is None where it is still to be made, with this `encryption`: its type and its key."""
    client = client_of(aws, visibility)
    there = available(client, name, [blob.digest for blob in image.blobs]) if repository else set()
    absent = [blob for blob in image.blobs if blob.digest not in there]
    sources = _sources(client, name, absent, (repository.encryption, repository.kms_key) if repository else encryption) if visibility == PRIVATE and absent else {}
    known = images(client, name, [one.digest for one in image.manifests]) if repository else {}
    layers = tuple(
        Layer(blob.digest, blob.size, blob.media_type, THERE if blob.digest in there else MOUNT if blob.digest in sources else UPLOAD, sources.get(blob.digest, ""))
        for blob in image.blobs
    )
    manifests = tuple(Put(one.digest, one.media_type, len(one.body), one.platform, one.digest in known) for one in image.manifests)
    return PushPlan(name, tag, image.root.digest, layers, manifests, tagged(client, name, tag) if repository else "", bool(sources))


def available(client: Any, name: str, digests: Sequence[str]) -> set[str]:
    """Which layers a repository has. An archived one counts as absent."""
    found = set()
    for start in range(0, len(digests), MOST_DIGESTS):
        told = client.batch_check_layer_availability(repositoryName=name, layerDigests=list(digests[start : start + MOST_DIGESTS]))
        found |= {one["layerDigest"] for one in told["layers"] if one.get("layerAvailability") == "AVAILABLE"}
    return found


def images(client: Any, name: str, digests: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What DescribeImages says of the images that are there, by digest."""
    digests = list(digests)
    try:
        found = client.describe_images(repositoryName=name, imageIds=[{"imageDigest": one} for one in digests])["imageDetails"]
    except Exception as error:
        if error_code(error) != "ImageNotFoundException":
            raise
        if len(digests) == 1:
            return {}
        return {digest: detail for one in digests for digest, detail in images(client, name, [one]).items()}
    return {one["imageDigest"]: one for one in found}


def tagged(client: Any, name: str, tag: str) -> str:
    """The digest that a tag names; empty where there is no such tag."""
    try:
        return str(client.describe_images(repositoryName=name, imageIds=[{"imageTag": tag}])["imageDetails"][0]["imageDigest"])
    except Exception as error:
        if error_code(error) != "ImageNotFoundException":
            raise
        return ""


def _sources(client: Any, name: str, absent: Sequence[Blob], encryption: tuple[str, str]) -> dict[str, str]:
    """The repositories that layers can be mounted from: of the same encryption, where the registry mounts at all."""
    try:
        if client.get_account_setting(name="BLOB_MOUNTING")["value"] != "ENABLED":
            return {}
        pages = client.get_paginator("describe_repositories").paginate()
        others = [one for page in pages for one in page["repositories"] if one["repositoryName"] != name]
    except Exception as error:  # only a saving: who may not ask uploads
        if error_code(error):
            return {}
        raise
    others = [one for one in others if encryption_of(one) == encryption]
    found: dict[str, str] = {}
    for other in sorted(others, key=lambda one: _distance(name, one["repositoryName"]))[:MOST_SOURCES]:
        missing = [blob.digest for blob in absent if blob.digest not in found]
        if not missing:
            break
        found |= dict.fromkeys(available(client, other["repositoryName"], missing), other["repositoryName"])
    return found


def _distance(name: str, other: str) -> tuple[int, str]:
    """Repositories of the same beginning first: they are likelier to share a base image."""
    same = 0
    while same < min(len(name), len(other)) and name[same] == other[same]:
        same += 1
    return -same, other
