"""What `image` names: a chart, an OCI layout, an archive, or an image of a local engine; told apart by what is there."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.aws import RunbookError
from helpers.ecr.chart import is_chart, read_chart
from helpers.ecr.content import Image
from helpers.ecr.daemon import ENGINES, save_from_daemon
from helpers.ecr.docker_save import is_docker_save, read_docker_save
from helpers.ecr.files import Files, open_files
from helpers.ecr.layout import is_layout, read_layout

UNCOMPRESSED = {"application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"}


def open_image(image: str, platform: str = "") -> Image:
    """The image or chart that `image` names, ready to be pushed.

    `image` is a path (a chart folder or `.tgz`, an OCI layout folder, an OCI or `docker save` archive), a path and a name in it
    (`build/oci:web`, `$VARIABLES` are filled in), or the name of an image of a local Docker or Podman (`web:1.2`, `podman:web:1.2`). `platform`, such as
    `linux/arm64`, takes one image out of an index; empty takes all. Raises `RunbookError` with what is wrong and what to do.
    """
    path, name = _found(image)
    if path is None:
        engine, _, rest = image.partition(":")
        if engine not in ENGINES:
            engine, rest = "", image
        if "/" in rest and rest.startswith((".", "/", "~", "$")):
            raise RunbookError(f"There is no {rest}.", "Give the path of a chart, an OCI layout or an archive, or the name of a local image.")
        return _of_files(open_files(save_from_daemon(rest, engine)), "", platform, image)
    if not name and is_chart(path):
        if platform:
            raise RunbookError(f"{path} is a chart, which has no platform.", "Leave `platform` empty.")
        return read_chart(path)
    return _of_files(open_files(path), name, platform, str(path))


def _of_files(files: Files, name: str, platform: str, origin: str) -> Image:
    """The image in a folder or archive. An archive of Docker's is also a layout, whose layers may be as they are on Docker's disk: uncompressed."""
    if is_layout(files) and not (is_docker_save(files) and _is_uncompressed(files, name, platform)):
        return read_layout(files, name, platform)
    if is_docker_save(files):
        return read_docker_save(files, name, platform)
    raise RunbookError(f"{origin} is no chart, OCI layout, OCI archive or `docker save` archive.", "It needs a Chart.yaml, an oci-layout file or a manifest.json.")


def _is_uncompressed(files: Files, name: str, platform: str) -> bool:
    return any(blob.media_type in UNCOMPRESSED for blob in read_layout(files, name, platform).blobs)


def _found(image: str) -> tuple[Path | None, str]:
    """The path in `image` and the name behind it; no path where nothing of that name is on disk."""
    image = os.path.expandvars(image)
    whole = Path(image).expanduser()
    if whole.exists():
        return whole, ""
    for place, character in enumerate(image):
        if character == ":" and place and (path := Path(image[:place]).expanduser()).exists():
            return path, image[place + 1 :]
    return None, ""
