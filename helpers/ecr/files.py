"""The files of a folder or of a tar archive, read where they lie: an archive is not unpacked."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from helpers.aws import RunbookError

GZIP_MAGIC = b"\x1f\x8b"
_scratch: list[tempfile.TemporaryDirectory[str]] = []


@dataclass(frozen=True)
class Place:
    """Where a file's bytes are: in which file, from which offset, how many."""

    path: str
    offset: int
    size: int


class Files:
    """What is in a folder or an uncompressed tar archive, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members = None if path.is_dir() else _members(path)

    def place(self, name: str) -> Place | None:
        """Where a file is; None where there is none of that name."""
        if self._members is not None:
            return self._members.get(_normal(name))
        path = self.path / name
        return Place(str(path), 0, path.stat().st_size) if path.is_file() else None

    def read(self, name: str) -> bytes:
        """The bytes of a small file. Raises `RunbookError` where there is none."""
        place = self.place(name)
        if place is None:
            raise RunbookError(f"{self.path} has no {name}.", "The image is not whole: build or save it again.")
        with open(place.path, "rb") as file:
            file.seek(place.offset)
            return file.read(place.size)

    def has(self, name: str) -> bool:
        """True where there is a file of that name."""
        return self.place(name) is not None


def scratch() -> Path:
    """A new folder that goes when the process ends."""
    _scratch.append(tempfile.TemporaryDirectory(prefix="ecr-push-"))
    return Path(_scratch[-1].name)


def require_space(needed: int, what: str) -> None:
    """Raise `RunbookError` where the folder for temporary files has no room for `needed` bytes."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunbookError(f"{what} needs up to {needed / 1e6:,.0f} MB in {folder}, which has {free / 1e6:,.0f} MB.", "Free some, or set TMPDIR to a larger disk.")


def open_files(path: Path) -> Files:
    """The files of a folder, a tar, or a gzipped tar, which is unzipped into a scratch folder first. Raises `RunbookError` for anything else."""
    try:
        if path.is_file() and _begins(path, GZIP_MAGIC):
            require_space(10 * path.stat().st_size, f"Unzipping {path.name}")
            unzipped = scratch() / path.stem
            with gzip.open(path) as source, open(unzipped, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            path = unzipped
        return Files(path)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise RunbookError(f"{path} is neither a folder nor a tar archive that can be read: {error}.", "Save the image again, with `docker save` or `skopeo copy … oci-archive:`.") from error


def _begins(path: Path, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _members(path: Path) -> dict[str, Place]:
    """The files of an archive by name; a link is where the file it leads to is."""
    found: dict[str, Place] = {}
    links: dict[str, str] = {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            name = _normal(member.name)
            if member.isreg():
                found[name] = Place(str(path), member.offset_data, member.size)
            elif member.issym():
                links[name] = _normal(str(PurePosixPath(name).parent / member.linkname))
            elif member.islnk():
                links[name] = _normal(member.linkname)
    for name, target in links.items():
        if target in found:
            found[name] = found[target]
    return found


def _normal(name: str) -> str:
    """A member's name without `./`, and with `..` followed."""
    parts: list[str] = []
    for part in PurePosixPath(name).parts:
        if part == "..":
            parts = parts[:-1]
        elif part not in (".", "/"):
            parts.append(part)
    return "/".join(parts)
