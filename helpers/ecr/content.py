"""What is pushed: blobs that lie somewhere on disk, and the manifests that name them, byte for byte.

https://github.com/opencontainers/image-spec/blob/main/manifest.md, https://docs.docker.com/reference/api/registry/
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from helpers.aws import RunbookError

OCI_INDEX, OCI_MANIFEST = "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST, DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json"
INDEXES, MANIFESTS = {OCI_INDEX, DOCKER_LIST}, {OCI_MANIFEST, DOCKER_MANIFEST}
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
IMAGE, CHART = "image", "chart"
PIECE = 1 << 20


@dataclass(frozen=True)
class Blob:
    """A config or a layer: its digest, its size in bytes, and where its bytes are: in a file from an offset on, or here."""

    digest: str
    size: int
    media_type: str
    path: str = ""
    offset: int = 0
    data: bytes = field(default=b"", repr=False)

    def open(self) -> BinaryIO:
        """The bytes as a file at its beginning; the file may go on behind them, as that of an archive does.

        Raises `RunbookError` where they are not there any more.
        """
        if not self.path:
            return io.BytesIO(self.data)
        try:
            file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - the caller closes it
        except OSError as error:
            raise changed(self, f"{self.path} cannot be read ({error.strerror})") from error
        file.seek(self.offset)
        return file

    def digest_now(self) -> str:
        """The digest that its bytes have now, which is another one where somebody wrote to them."""
        with self.open() as file:
            return digest_of_file(file, self.size)


@dataclass(frozen=True)
class Manifest:
    """A manifest and what it names; an index has `children`, an image has `blobs`, config first. `platform` is `linux/arm64/v8`."""

    digest: str
    media_type: str
    body: bytes = field(repr=False)
    blobs: tuple[Blob, ...] = ()
    children: tuple[Manifest, ...] = ()
    platform: str = ""


@dataclass(frozen=True)
class Image:
    """What a push publishes: an image, an index of images, or a chart.

    `origin` says where it came from; `version` is a chart's, `name` a chart's name.
    """

    root: Manifest
    origin: str
    kind: str = IMAGE
    name: str = ""
    version: str = ""

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Every manifest once, those that others name before the others."""
        return tuple({one.digest: one for one in _children_first(self.root)}.values())

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every blob once, in the order of the manifests."""
        return tuple({blob.digest: blob for one in self.manifests for blob in one.blobs}.values())

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms in it, without the attestations that have none."""
        return tuple(dict.fromkeys(one.platform for one in self.manifests if one.platform))

    @property
    def size(self) -> int:
        """The bytes of its blobs."""
        return sum(blob.size for blob in self.blobs)


def digest_of(content: bytes) -> str:
    """The digest of bytes: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest_of_file(file: BinaryIO, size: int) -> str:
    """The digest of the next `size` bytes of a file, or of fewer where it ends."""
    hashed = hashlib.sha256()
    while size and (piece := file.read(min(PIECE, size))):
        hashed.update(piece)
        size -= len(piece)
    return f"sha256:{hashed.hexdigest()}"


def changed(blob: Blob, why: str) -> RunbookError:
    """The error for a blob that is not what its manifest says."""
    return RunbookError(f"Layer {short(blob.digest)} is not what the manifest names: {why}. Nothing was published.", "Build or save the image again, and let nothing write to it meanwhile.")


def blame(blob: Blob, refused: RunbookError) -> RunbookError:
    """The error for a blob whose digest the registry refuses: the file's fault where that has another one by now, else `refused`."""
    now = blob.digest_now()
    return refused if now == blob.digest else changed(blob, f"its digest is {now}")


def short(digest: str) -> str:
    """A digest for a table: its first twelve digits."""
    return digest.removeprefix("sha256:")[:12]


def parse(body: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `body`. Raises `RunbookError` that names `what`."""
    try:
        value = json.loads(body)
    except ValueError as error:
        raise RunbookError(f"{what} holds no JSON: {error}.", "The image is damaged: build or save it again.") from error
    if not isinstance(value, dict):
        raise RunbookError(f"{what} holds no JSON object.", "The image is damaged: build or save it again.")
    return value


def platform_of(described: dict[str, Any]) -> str:
    """`os/architecture` or `os/architecture/variant` of a descriptor's platform or of an image's config; empty where unknown."""
    parts = [str(described.get(name) or "") for name in ("os", "architecture", "variant")]
    return "" if "unknown" in parts or not all(parts[:2]) else "/".join(filter(None, parts))


def _children_first(manifest: Manifest) -> Iterator[Manifest]:
    for child in manifest.children:
        yield from _children_first(child)
    yield manifest
