"""An OCI image layout, as a folder or as a tar archive: its manifests byte for byte, its blobs where they lie.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

from typing import Any

from helpers.aws import RunbookError
from helpers.ecr.content import DIGEST, HELM_CONFIG, INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST, Blob, Image, Manifest, changed, digest_of, parse, platform_of
from helpers.ecr.files import Files

MARKER = "oci-layout"
REF_NAME = "org.opencontainers.image.ref.name"
CONFIGS = {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
DAMAGED = "The layout is damaged: build or save the image again."


def is_layout(files: Files) -> bool:
    """True where the files are an OCI layout."""
    return files.has(MARKER)


def read_layout(files: Files, name: str = "", platform: str = "") -> Image:
    """The image of a layout: the only one, or the one whose ref name is `name`.

    `platform` takes one image out of an index; empty takes all. Raises `RunbookError` where the choice is not clear,
    or something that a manifest names is missing or of another size.
    """
    listed = parse(files.read("index.json"), "index.json").get("manifests", [])
    chosen = [one for one in listed if not name or name in (one.get("annotations", {}).get(REF_NAME), one.get("digest"))]
    names = ", ".join(str(one.get("annotations", {}).get(REF_NAME) or one.get("digest")) for one in listed)
    if not chosen:
        raise RunbookError(f"{files.path} has no image {name or 'at all'}.", f"It has {names or 'none'}.")
    if len({one["digest"] for one in chosen}) > 1:
        raise RunbookError(f"{files.path} has {len(chosen)} images: {names}.", f"Name one: {files.path}:NAME.")
    return image_of(files, select(_read(files, chosen[0], platform), platform))


def image_of(files: Files, root: Manifest) -> Image:
    """An image, or a chart where its config is Helm's."""
    config = root.blobs[0] if root.blobs else None
    if config is None or config.media_type != HELM_CONFIG:
        return Image(root, str(files.path))
    told = parse(files.read(_blob_path(config.digest)), "the chart's config")
    return Image(root, str(files.path), "chart", str(told.get("name", "")), str(told.get("version", "")))


def select(root: Manifest, platform: str) -> Manifest:
    """The manifest for a platform, all of them where none is asked for. Raises `RunbookError` where it has no such one."""
    if not platform or (not root.children and root.platform in ("", platform)):
        return root
    candidates = [one for one in root.children if platform == one.platform] or [one for one in root.children if one.platform.startswith(f"{platform}/")]
    if len(candidates) == 1:
        return candidates[0]
    there = ", ".join(one.platform for one in root.children if one.platform) if root.children else root.platform
    what = "is ambiguous: choose its variant too" if candidates else "is not in the image"
    raise RunbookError(f"The platform {platform} {what}.", f"It has {there or 'none'}; leave `platform` empty to push all.")


def _read(files: Files, described: dict[str, Any], wanted: str) -> Manifest:
    """The manifest of a descriptor, with all that it names."""
    digest = str(described.get("digest"))
    if not DIGEST.fullmatch(digest):
        raise RunbookError(f"{files.path} names a manifest by {digest!r}, which is no sha256 digest.", DAMAGED)
    body = files.read(_blob_path(digest))
    if digest_of(body) != digest:
        raise RunbookError(f"The manifest {digest} in {files.path} has another digest, {digest_of(body)}.", DAMAGED)
    content = parse(body, f"the manifest {digest}")
    media_type = content.get("mediaType") or described.get("mediaType") or (OCI_INDEX if "manifests" in content else OCI_MANIFEST)
    if media_type in INDEXES:
        children = [_read(files, child, wanted) for child in content.get("manifests", []) if _is_wanted(files, child, wanted)]
        return Manifest(digest, media_type, body, (), tuple(children))
    if media_type not in MANIFESTS:
        raise RunbookError(f"{files.path} has a manifest of the type {media_type}, which ECR does not take.", "Save it as an OCI or a Docker schema 2 image.")
    blobs = tuple(blob for one in [content["config"], *content.get("layers", [])] if (blob := _blob(files, one)))
    platform = platform_of(described.get("platform") or {}) or _platform_of_config(files, blobs[0])
    return Manifest(digest, media_type, body, blobs, (), platform)


def _is_wanted(files: Files, child: dict[str, Any], wanted: str) -> bool:
    """Whether a child of an index is to be read: one platform may be taken from a layout that has no other."""
    if files.has(_blob_path(str(child.get("digest")))):
        return True
    platform = platform_of(child.get("platform") or {})
    if wanted and not f"{platform}/".startswith(f"{wanted}/"):
        return False
    raise RunbookError(f"{files.path} lacks the manifest for {platform or child.get('digest')}, which its index names.", "Save all platforms (`skopeo copy --all`), or choose one with `platform`.")


def _blob(files: Files, described: dict[str, Any]) -> Blob | None:
    """The blob of a descriptor; None for a layer that is to be fetched from elsewhere (`urls`) and is not here."""
    digest, size = str(described.get("digest")), int(described.get("size", -1))
    place = files.place(_blob_path(digest))
    blob = Blob(digest, size, str(described.get("mediaType", "")))
    if place is None and described.get("urls"):
        return None
    if place is None:
        raise changed(blob, f"{files.path} has no {_blob_path(digest)}")
    if place.size != size:
        raise changed(blob, f"it has {place.size:,} bytes in place of {size:,}")
    return Blob(digest, size, blob.media_type, place.path, place.offset)


def _platform_of_config(files: Files, config: Blob) -> str:
    return platform_of(parse(files.read(_blob_path(config.digest)), "the image's config")) if config.media_type in CONFIGS else ""


def _blob_path(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


