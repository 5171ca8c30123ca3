"""Publish manifests, children before the index that names them; prove by reading back; and take a publication back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.aws import RunbookError
from helpers.aws.errors import error_code
from helpers.ecr.content import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Image, digest_of, short
from helpers.ecr.push_plan import PushPlan, Put, images, tagged
from helpers.ecr.tables import table
from helpers.ecr.wire import Registry
from helpers.ecr.words import explain_ecr

if TYPE_CHECKING:
    import pandas as pd

ACCEPTED = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))


@dataclass(frozen=True)
class Proof:
    """What came back after a push: the digest and bytes of the manifest that the tag leads to, and what DescribeImages says."""

    reference: str
    digest: str
    bytes: int
    media_type: str
    size: int
    tags: tuple[str, ...]
    pushed_at: str

    def table(self) -> pd.DataFrame:
        """A row a fact: what, read back."""
        rows = [
            ("sha256 of the manifest, read by its tag", self.digest), ("bytes of the manifest", self.bytes), ("media type", self.media_type),
            ("bytes as ECR counts them", f"{self.size:,}"), ("tags", ", ".join(self.tags)), ("pushed at", self.pushed_at),
        ]  # fmt: skip
        return table(rows, ["what", "read back"])


def publish_manifests(client: Any, image: Image, plan: PushPlan) -> list[str]:
    """Put each manifest that is not there, children first, and last the one with the tag; returns what was put, in words.

    What is there already is success. Raises `RunbookError`, for an immutable tag with both digests.
    """
    there = {one.digest for one in plan.manifests if one.there}
    done = []
    for manifest in image.manifests:
        is_root = manifest.digest == plan.digest
        if manifest.digest in there and (not is_root or plan.tag_now == plan.digest):
            continue
        told = {"repositoryName": plan.repository, "imageManifest": manifest.body.decode(), "imageManifestMediaType": manifest.media_type, "imageDigest": manifest.digest}
        try:
            client.put_image(**told, **({"imageTag": plan.tag} if is_root else {}))
        except Exception as error:
            if error_code(error) == "ImageTagAlreadyExistsException":
                raise conflict(plan.repository, plan.tag, tagged(client, plan.repository, plan.tag), plan.digest) from error
            if error_code(error) != "ImageAlreadyExistsException":
                raise explain_ecr(error) from error
        done.append(f"{plan.repository}:{plan.tag} is {manifest.digest}" if is_root else f"{manifest.digest} {manifest.platform}".strip())
    return done


def conflict(repository: str, tag: str, now: str, wanted: str) -> RunbookError:
    """The error for an immutable tag that names another image: both digests."""
    return RunbookError(
        f"The tag {tag} of {repository} is immutable and names {now}; this image is {wanted}. Nothing was uploaded under it.",
        "Push under another tag: each version gets its own.",
    )


def verify(client: Any, registry: Registry, plan: PushPlan) -> Proof:
    """Read the manifest back by its tag, hash what comes, and ask DescribeImages. Raises `RunbookError` where a digest is another."""
    answer = registry.request("GET", f"{registry.path}/manifests/{plan.tag}", headers={"Accept": ACCEPTED})
    digest = digest_of(answer.body)
    try:
        detail = client.describe_images(repositoryName=plan.repository, imageIds=[{"imageTag": plan.tag}])["imageDetails"][0]
    except Exception as error:
        raise explain_ecr(error) from error
    if {digest, detail["imageDigest"]} != {plan.digest}:
        raise RunbookError(
            f"{plan.repository}:{plan.tag} should be {plan.digest}, but its manifest hashes to {digest} and ECR describes {detail['imageDigest']}.",
            "Somebody pushed under the same tag meanwhile: push again under a tag of its own.",
        )
    return Proof(
        f"{plan.repository}:{plan.tag}", digest, len(answer.body), answer.headers.get("content-type", ""), detail.get("imageSizeInBytes", 0),
        tuple(detail.get("imageTags", ())), f"{detail['imagePushedAt']:%Y-%m-%d %H:%M:%S %Z}".strip() if "imagePushedAt" in detail else "",
    )  # fmt: skip


def withdraw(client: Any, plan: PushPlan) -> list[str]:
    """Take back what a push published: a moved tag goes back to its image, a new tag and new images go. Returns what was done.

    What was there before stays: other tags, images that others pushed or tagged since, and a tag that somebody moved on.
    """
    try:
        if plan.is_done:
            return ["nothing had been published"]
        done = [*_withdraw_tag(client, plan)]
        # The index before its children: ECR keeps what a list names.
        for manifest in reversed(plan.manifests):
            if not manifest.there:
                done += _remove(client, plan.repository, manifest)
    except Exception as error:
        if error_code(error) == "RepositoryNotFoundException":
            return [f"{plan.repository} is gone already"]
        raise explain_ecr(error) from error
    return done or ["nothing had been published"]


def _withdraw_tag(client: Any, plan: PushPlan) -> list[str]:
    name = f"{plan.repository}:{plan.tag}"
    now = tagged(client, plan.repository, plan.tag)
    if now != plan.digest:
        return [f"{name} names {now} by now, and stays"] if now and now != plan.tag_now else []
    if plan.tag_now == plan.digest:
        return []
    if plan.tag_now:
        found = client.batch_get_image(repositoryName=plan.repository, imageIds=[{"imageDigest": plan.tag_now}])["images"]
        if not found:
            return [f"{name} stays: the image it named before, {plan.tag_now}, is gone"]
        before = {"imageManifest": found[0]["imageManifest"], "imageManifestMediaType": found[0]["imageManifestMediaType"]}
        client.put_image(repositoryName=plan.repository, imageTag=plan.tag, **before)
        return [f"{name} is {plan.tag_now} again"]
    root = next(one for one in plan.manifests if one.digest == plan.digest)
    tags = images(client, plan.repository, [plan.digest]).get(plan.digest, {}).get("imageTags", [])
    if root.there and len(tags) < 2:
        return [f"{name} stays: the image was there without a tag, and ECR deletes an image with its last one"]
    _delete(client, plan.repository, {"imageTag": plan.tag})
    return [f"the tag {name} is removed"]


def _remove(client: Any, repository: str, manifest: Put) -> list[str]:
    """Delete an image that the push brought, unless it has a tag, or an index names it."""
    detail = images(client, repository, [manifest.digest]).get(manifest.digest)
    if detail is None:
        return []
    if detail.get("imageTags"):
        return [f"{short(manifest.digest)} stays: it is tagged {', '.join(detail['imageTags'])}"]
    return [f"{short(manifest.digest)} stays: an index that was there names it" if _delete(client, repository, {"imageDigest": manifest.digest}) else f"the image {manifest.digest} is removed"]


def _delete(client: Any, repository: str, identity: dict[str, str]) -> bool:
    """Delete a tag or an image; returns True where an index that names it keeps it. Raises `RunbookError` where ECR says something else."""
    failures: Sequence[dict[str, Any]] = client.batch_delete_image(repositoryName=repository, imageIds=[identity])["failures"]
    other = [one for one in failures if one["failureCode"] not in ("ImageNotFound", "ImageReferencedByManifestList")]
    if other:
        raise RunbookError(f"ECR did not delete {identity} of {repository}: {other[0].get('failureReason', other[0]['failureCode'])}.", "Delete it by hand, or resume the roll back.")
    return any(one["failureCode"] == "ImageReferencedByManifestList" for one in failures)
