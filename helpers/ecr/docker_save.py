"""An archive of `docker save` as the image that `docker push` makes of it: its layers gzipped, the same way each time.

https://github.com/moby/docker-image-spec/blob/main/spec.md#combined-image-json--filesystem-changeset-format
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from helpers.aws import RunbookError
from helpers.ecr.content import DOCKER_MANIFEST, PIECE, Blob, Image, Manifest, changed, digest_of, digest_of_file, parse, platform_of
from helpers.ecr.files import GZIP_MAGIC, Files, Place, require_space, scratch

CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
LEVEL = 6  # what gzip takes by itself; zlib is part of Python, so that the digest does not follow from what is installed
# No name, no time, no system: the same layer gives the same bytes.
HEADER = GZIP_MAGIC + b"\x08\x00\x00\x00\x00\x00\x00\xff"


def is_docker_save(files: Files) -> bool:
    """True where the files are what `docker save` writes."""
    return files.has("manifest.json")


def read_docker_save(files: Files, name: str = "", platform: str = "") -> Image:
    """The image of the archive: the only one, or the one with the tag `name`. Layers that are not gzipped are, into a scratch folder.

    Raises `RunbookError` where the choice is not clear, the platform is another, a layer is missing or is not what the
    config says of it, or the disk has no room.
    """
    listed = json.loads(files.read("manifest.json"))
    chosen = [one for one in listed if not name or name in (one.get("RepoTags") or [])]
    names = ", ".join(tag for one in listed for tag in one.get("RepoTags") or ["(no tag)"])
    if len(chosen) != 1:
        raise RunbookError(f"{files.path} has {len(chosen)} images{f' called {name}' if name else ''}: {names}.", f"Name one: {files.path}:REPOSITORY:TAG.")
    body = files.read(chosen[0]["Config"])
    config = parse(body, "the image's config")
    if platform and not f"{platform_of(config)}/".startswith(f"{platform}/"):
        raise RunbookError(f"The platform {platform} is not in the image.", f"It has {platform_of(config) or 'none'}; leave `platform` empty to push it.")
    layers = _layers(files, chosen[0]["Layers"], config.get("rootfs", {}).get("diff_ids", []))
    return Image(_manifest(Blob(digest_of(body), len(body), CONFIG, data=body), layers, platform_of(config)), str(files.path))


def compress(place: Place, target: Path) -> tuple[str, str, int]:
    """Gzip a file into `target`; returns its digest before, its digest after, and its size in bytes after."""
    plain, packed, size, crc = hashlib.sha256(), hashlib.sha256(), 0, 0
    squeeze = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    with open(place.path, "rb") as source, open(target, "wb") as out:
        source.seek(place.offset)

        def put(piece: bytes) -> None:
            packed.update(piece)
            out.write(piece)

        put(HEADER)
        left = place.size
        while left:
            piece = source.read(min(PIECE, left))
            if not piece:
                raise RunbookError(f"{place.path} ended in the middle of a layer.", "Save the image again.")
            left -= len(piece)
            plain.update(piece)
            crc = zlib.crc32(piece, crc)
            put(squeeze.compress(piece))
        put(squeeze.flush() + crc.to_bytes(4, "little") + (place.size % 2**32).to_bytes(4, "little"))
        size = out.tell()
    return f"sha256:{plain.hexdigest()}", f"sha256:{packed.hexdigest()}", size


def _layers(files: Files, names: Sequence[str], plain: Sequence[str]) -> list[Blob]:
    """The layers as gzipped blobs, checked against the digests of the config."""
    places = [(name, files.place(name)) for name in names]
    if missing := [name for name, place in places if place is None]:
        raise RunbookError(f"{files.path} lacks {', '.join(missing)}.", "Save the image again.")
    require_space(sum(place.size for _, place in places if place), "Compressing the layers")
    folder = scratch()

    def one(number: int) -> Blob:
        place = places[number][1]
        assert place is not None
        with open(place.path, "rb") as file:
            file.seek(place.offset)
            if file.read(2) == GZIP_MAGIC:
                return _as_it_is(place)
        before, digest, size = compress(place, folder / f"{number}.tar.gz")
        blob = Blob(digest, size, LAYER, str(folder / f"{number}.tar.gz"))
        if number < len(plain) and before != plain[number]:
            raise changed(blob, f"uncompressed it is {before}, the config says {plain[number]}")
        return blob

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, range(len(places))))


def _as_it_is(place: Place) -> Blob:
    """A layer that is gzipped already."""
    with open(place.path, "rb") as file:
        file.seek(place.offset)
        digest = digest_of_file(file, place.size)
    return Blob(digest, place.size, LAYER, place.path, place.offset)


def _manifest(config: Blob, layers: Sequence[Blob], platform: str) -> Manifest:
    """The Docker schema 2 manifest, as `docker push` writes its members."""

    def described(blob: Blob) -> dict[str, Any]:
        return {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}

    content = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": described(config), "layers": [described(layer) for layer in layers]}
    body = json.dumps(content, separators=(",", ":")).encode()
    return Manifest(digest_of(body), DOCKER_MANIFEST, body, (config, *layers), (), platform)
