"""Images of months past, put into a registry at once: their manifests are real, their layers known by digest and size only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from helpers.rehearsal.ecr import scanning
from helpers.rehearsal.ecr.manifests import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from helpers.rehearsal.ecr.registry import Image, Registry, Repository

LAYER = {OCI_MANIFEST: "application/vnd.oci.image.layer.v1.tar+gzip", DOCKER_MANIFEST: "application/vnd.docker.image.rootfs.diff.tar.gzip"}
CONFIG = {OCI_MANIFEST: "application/vnd.oci.image.config.v1+json", DOCKER_MANIFEST: "application/vnd.docker.container.image.v1+json"}


def seed(registry: Registry, repositories: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
    """Put images into repositories that are there; returns how many. Raises ValueError for what cannot be.

    An image is {"layers": [[name or digest, bytes], ...], "pushed_at": ISO 8601, "tags": [...]} and may have "pulled_at",
    "packages" ({name: version}, which a scan reads, begun then), "platform" ("linux/arm64") and "media_type". A name stands for a
    layer, the same everywhere. {"children": [number, ...], ...} lists images before it in this list. {"image": tag or digest,
    "pushed_at": ...} moves the push of an image that is there.
    """
    count = 0
    with registry.lock:
        for name, images in repositories.items():
            if name not in registry.repositories:
                raise ValueError(f"There is no repository {name!r}.")
            repository, made = registry.repositories[name], []
            for told in images:
                made.append(_put(registry, repository, told, made))
                count += 1
    return count


def _put(registry: Registry, repository: Repository, told: Mapping[str, Any], before: Sequence[Image]) -> Image:
    pushed = datetime.fromisoformat(told["pushed_at"]).timestamp()
    if "image" in told:
        image = repository.tagged(told["image"]) or repository.images.get(told["image"])
        if image is None:
            raise ValueError(f"There is no image {told['image']!r} in {repository.name}.")
        image.pushed_at = pushed
        return image
    content, kind = _index(told, before) if "children" in told else _manifest(registry, repository, told)
    tags = list(told.get("tags", [])) or [""]
    for tag in tags:
        image, _ = registry.put_image(repository.name, content, kind, tag=tag, at=pushed)
    image.pulled_at = datetime.fromisoformat(told["pulled_at"]).timestamp() if told.get("pulled_at") else None
    if "packages" in told:
        image.packages = dict(told["packages"])
        scanning.begin(registry, repository, image)
    return image


def _manifest(registry: Registry, repository: Repository, told: Mapping[str, Any]) -> tuple[bytes, str]:
    kind = told.get("media_type", OCI_MANIFEST)
    system, _, machine = told.get("platform", "linux/amd64").partition("/")
    layers = []
    for name, size in told["layers"]:
        digest = name if name.startswith("sha256:") else f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
        if registry.blobs.size(digest) is None:
            registry.blobs.hollow[digest] = size
        repository.layers[digest] = registry.blobs.size(digest) or 0
        layers.append({"mediaType": LAYER[kind], "digest": digest, "size": repository.layers[digest]})
    config = {"architecture": machine, "os": system, "created": told["pushed_at"], "config": {"Cmd": ["app"]}}
    config["rootfs"] = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
    text = json.dumps(config).encode()
    digest = registry.blobs.put(text)
    repository.layers[digest] = len(text)
    head = {"mediaType": CONFIG[kind], "digest": digest, "size": len(text)}
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "config": head, "layers": layers}).encode(), kind


def _index(told: Mapping[str, Any], before: Sequence[Image]) -> tuple[bytes, str]:
    manifests = []
    for number in told["children"]:
        child = before[number].manifest
        manifests.append({"mediaType": child.media_type, "digest": child.digest, "size": len(child.content)})
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode(), OCI_INDEX
