"""The state of a registry: repositories, their layers, images and tags. Both planes read and change this, and nothing else."""

from __future__ import annotations

import fnmatch
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT, REGION
from helpers.rehearsal.ecr.blobs import Blobs, Incoming
from helpers.rehearsal.ecr.faults import Faults
from helpers.rehearsal.ecr.links import Links
from helpers.rehearsal.ecr.manifests import Manifest, read
from helpers.rehearsal.ecr.refusals import Refused, invalid
from helpers.rehearsal.ecr.tokens import Tokens
from helpers.rehearsal.ecr.vulnerabilities import Vulnerability

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,299}")
# Source: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
MOST_TAGS = 1000
# How long a scan takes here; on AWS some seconds.
SCAN_S = 1.0


@dataclass
class Upload:
    """A layer that comes in; `first_end` is where its first piece ended."""

    id: str
    repository: str
    incoming: Incoming
    first_end: int = 0
    parts: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Scan:
    """A scan of an image: its kind ("BASIC", "ENHANCED"), when it began and ends, and what it found in which versions.

    `outcome` is "" until the packages were read, then "done" or the status of a scan that could not be.
    """

    kind: str
    started_at: float
    ready_at: float
    outcome: str = ""
    found: list[tuple[Vulnerability, str]] = field(default_factory=list)


@dataclass
class Image:
    """A manifest in a repository, and what happened to it; times in seconds since 1970."""

    manifest: Manifest
    pushed_at: float
    tags: set[str] = field(default_factory=set)
    pulled_at: float | None = None
    status: str = "ACTIVE"
    archived_at: float | None = None
    activated_at: float | None = None
    scan: Scan | None = None
    packages: dict[str, str] | None = None

    @property
    def digest(self) -> str:
        """Return the digest of the manifest."""
        return self.manifest.digest


@dataclass
class Repository:
    """A repository: settings as CreateRepository has them, layers (digest: size), and images by digest."""

    name: str
    created_at: float
    mutability: str = "MUTABLE"
    exclusions: list[dict[str, str]] = field(default_factory=list)
    scan_on_push: bool = False
    encryption: dict[str, str] = field(default_factory=lambda: {"encryptionType": "AES256"})
    labels: dict[str, str] = field(default_factory=dict)
    policy: str = ""
    lifecycle: str = ""
    lifecycle_evaluated_at: float = 0.0
    preview: dict[str, Any] | None = None
    layers: dict[str, int] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    _of_tags: dict[str, Image] = field(default_factory=dict)
    # How many images have a layer, and which have an image for their subject: deleting one does not look at all others.
    _uses: Counter[str] = field(default_factory=Counter)
    _referring: dict[str, dict[str, Image]] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """Return the ARN."""
        return f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{self.name}"

    @property
    def named(self) -> dict[str, str]:
        """Return how the API's answers name it."""
        return {"registryId": ACCOUNT, "repositoryName": self.name}

    def tagged(self, tag: str) -> Image | None:
        """Return the image that has a tag."""
        return self._of_tags.get(tag)

    def tag(self, tag: str, image: Image) -> None:
        """Give a tag to an image, taking it from another that had it."""
        self.untag(tag)
        self._of_tags[tag] = image
        image.tags.add(tag)

    def untag(self, tag: str) -> None:
        """Take a tag away."""
        if image := self._of_tags.pop(tag, None):
            image.tags.discard(tag)

    def referring(self, digest: str) -> list[Image]:
        """Return the images whose subject has a digest."""
        return list(self._referring.get(digest, {}).values())

    def add(self, image: Image) -> None:
        """Take an image in."""
        self.images[image.digest] = image
        self._uses.update({part.digest for part in image.manifest.blobs})
        if image.manifest.subject:
            self._referring.setdefault(image.manifest.subject.digest, {})[image.digest] = image

    def drop(self, image: Image) -> set[str]:
        """Delete an image with its tags; returns the layers that no other image has, which are then no layers of this repository."""
        del self.images[image.digest]
        for tag in list(image.tags):
            self.untag(tag)
        if image.manifest.subject:
            self._referring[image.manifest.subject.digest].pop(image.digest)
        digests = {part.digest for part in image.manifest.blobs}
        self._uses.subtract(digests)
        unused = {digest for digest in digests if self._uses[digest] < 1}
        for digest in unused:
            del self._uses[digest]
            self.layers.pop(digest, None)
        return unused

    def fixed(self, tag: str) -> bool:
        """Return whether a tag, once given, stays where it is."""
        excepted = any(fnmatch.fnmatchcase(tag, one["filter"].replace("[", "[[]")) for one in self.exclusions)
        return self.mutability == "IMMUTABLE" or (self.mutability.endswith("_WITH_EXCLUSION") and self.mutability.startswith("IMMUTABLE") != excepted)


class Registry:
    """All repositories of the account in its region. `lock` is held around every look at them or change of them."""

    def __init__(self, directory: Path) -> None:
        self.lock = threading.RLock()
        self.blobs, self.tokens, self.links, self.faults = Blobs(directory), Tokens(), Links(), Faults()
        self.repositories: dict[str, Repository] = {}
        self.endpoint = ""
        self.settings = {"BASIC_SCAN_TYPE_VERSION": "AWS_NATIVE", "BLOB_MOUNTING": "DISABLED", "REGISTRY_POLICY_SCOPE": "V2"}
        self.scanning: dict[str, Any] = {"scanType": "BASIC", "rules": []}
        self.scan_s = SCAN_S
        self.on_push: list[Callable[[Repository, Image], None]] = []

    @property
    def host(self) -> str:
        """Return where /v2 is served, "127.0.0.1:40123"."""
        return self.endpoint.partition("://")[2]

    def find(self, name: str) -> Repository:
        """Return a repository. Raises `Refused` where there is none of this name."""
        try:
            return self.repositories[name]
        except KeyError:
            told = f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'"
            raise Refused("RepositoryNotFoundException", told) from None

    def remove(self, name: str) -> Repository:
        """Delete a repository with all that is in it."""
        with self.lock:
            repository = self.repositories.pop(name)
            for upload in repository.uploads.values():
                upload.incoming.drop()
            self._forget(set(repository.layers))
            return repository

    # Layers

    def start_upload(self, name: str) -> Upload:
        """Begin a layer."""
        with self.lock:
            repository = self.find(name)
            upload = Upload(str(uuid.uuid4()), name, self.blobs.receive())
            repository.uploads[upload.id] = upload
            return upload

    def upload(self, name: str, identity: str) -> Upload:
        """Return a layer that was begun. Raises `Refused` where it was not, or is over."""
        with self.lock:
            try:
                return self.find(name).uploads[identity]
            except KeyError:
                told = f"The upload ID {identity} for repository '{name}' in registry '{ACCOUNT}' could not be found"
                raise Refused("UploadNotFoundException", told) from None

    def finish_upload(self, upload: Upload, digests: list[str]) -> tuple[str, bool]:
        """End a layer that came in; returns its digest and whether the repository had it already. Raises `Refused`."""
        with self.lock:
            repository = self.find(upload.repository)
            if upload.incoming.digest not in digests:
                repository.uploads.pop(upload.id, None)
                upload.incoming.drop()
                raise Refused("InvalidLayerException", "None of the provided layer digests match the calculated layer digest")
            repository.uploads.pop(upload.id, None)
            digest = self.blobs.keep(upload.incoming)
            there = digest in repository.layers
            repository.layers[digest] = upload.incoming.size
            return digest, there

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Take a layer over from another repository; returns whether that could be.

        Source: https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html
        """
        with self.lock:
            repository, other = self.find(name), self.repositories.get(source)
            if self.settings["BLOB_MOUNTING"] != "ENABLED" or other is None or digest not in other.layers or other.encryption != repository.encryption:
                return False
            repository.layers[digest] = other.layers[digest]
            return True

    def received(self, name: str, size: int) -> None:
        """Count bytes of a layer that came into a repository, which may be ordered to vanish by that."""
        if self.faults.vanishes(name, size) and name in self.repositories:
            self.remove(name)

    # Images

    def put_image(self, name: str, content: bytes, media_type: str, *, tag: str = "", digest: str = "", at: float = 0.0) -> tuple[Image, bool]:
        """Put a manifest, under a tag where one is given; returns the image and whether anything changed. Raises `Refused`."""
        manifest = read(content, media_type)
        if tag and not TAG.fullmatch(tag):
            raise invalid("imageTag", "must satisfy regular expression '" + TAG.pattern + "'")
        with self.lock:
            repository = self.find(name)
            if digest and digest != manifest.digest:
                told = f"The image with digest '{digest}' in repository '{name}' and registry ID '{ACCOUNT}' does not match the image digest that Amazon ECR has calculated."
                raise Refused("ImageDigestDoesNotMatchException", told)
            self._refuse_missing(repository, manifest)
            there = repository.tagged(tag) if tag else None
            if there and repository.fixed(tag):
                told = f"The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because the tag is immutable."
                raise Refused("ImageTagAlreadyExistsException", told)
            image = repository.images.get(manifest.digest)
            changed = image is None or bool(tag and there is not image)
            if image is None:
                image = Image(manifest, at or time.time())
                repository.add(image)
            if tag and there is not image:
                if len(image.tags) >= MOST_TAGS:
                    raise Refused("LimitExceededException", f"The image has reached the limit of {MOST_TAGS} tags")
                repository.tag(tag, image)
            if changed:
                for tell in self.on_push:
                    tell(repository, image)
            return image, changed

    def _refuse_missing(self, repository: Repository, manifest: Manifest) -> None:
        into = f"required for pushing image into repository with name '{repository.name}' in the registry with id '{ACCOUNT}' do not exist"
        if absent := [part.digest for part in manifest.blobs if part.digest not in repository.layers]:
            raise Refused("LayersNotFoundException", f"Layers with digests '[{', '.join(absent)}]' {into}")
        if absent := [part.digest for part in manifest.children if part.digest not in repository.images]:
            raise Refused("ReferencedImagesNotFoundException", f"Images with digests '[{', '.join(absent)}]' {into}")

    def find_image(self, name: str, *, tag: str = "", digest: str = "") -> Image:
        """Return an image by tag, digest, or both. Raises `Refused` where there is none."""
        with self.lock:
            repository = self.find(name)
            image = repository.tagged(tag) if tag else repository.images.get(digest)
            if image is None or (digest and image.digest != digest):
                named = f"{{imageDigest:'{digest or 'null'}', imageTag:'{tag or 'null'}'}}"
                told = f"The image with imageId {named} does not exist within the repository with name '{name}' in the registry with id '{ACCOUNT}'"
                raise Refused("ImageNotFoundException", told)
            return image

    def size_of(self, repository: Repository, image: Image) -> int:
        """Return imageSizeInBytes: of a list, that of the largest image in it.

        Source: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html
        """
        if not image.manifest.is_list:
            return image.manifest.size
        return max((repository.images[part.digest].manifest.size for part in image.manifest.children if part.digest in repository.images), default=0)

    def listed_in(self, repository: Repository, digest: str) -> list[str]:
        """Return the digests of the manifest lists that have an image."""
        return [one.digest for one in repository.images.values() if any(part.digest == digest for part in one.manifest.children)]

    def referrers(self, name: str, digest: str) -> list[Image]:
        """Return the images of a repository whose subject has a digest."""
        with self.lock:
            return self.find(name).referring(digest)

    def delete_image(self, repository: Repository, image: Image) -> None:
        """Delete an image, what refers to it, and the layers that nothing else uses."""
        with self.lock:
            for referrer in repository.referring(image.digest):
                self.delete_image(repository, referrer)
            self._forget(repository.drop(image))

    def _forget(self, digests: set[str]) -> None:
        """Remove the bytes of layers that no repository has."""
        for digest in digests:
            if not any(digest in repository.layers for repository in self.repositories.values()):
                self.blobs.remove(digest)
