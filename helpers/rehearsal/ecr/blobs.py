"""Layers on disk, named by their digests, which are computed while the bytes come in."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from helpers.rehearsal.ecr.refusals import Refused


class Blobs:
    """The files of a registry: one a digest. `hollow` ones are known by digest and size only, their bytes are nowhere."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._coming = directory / "sha256", directory / "coming"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._coming.mkdir(exist_ok=True)
        self.hollow: dict[str, int] = {}

    def path(self, digest: str) -> Path:
        """Return where the bytes of a digest are, or would be."""
        return self._directory / digest.removeprefix("sha256:")

    def size(self, digest: str) -> int | None:
        """Return how many bytes a blob has, None where it is not known."""
        if digest in self.hollow:
            return self.hollow[digest]
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def receive(self) -> Incoming:
        """Return a new file for bytes that come in."""
        return Incoming(self._coming)

    def keep(self, incoming: Incoming) -> str:
        """Take over what has come in; returns its digest."""
        incoming.close()
        digest = incoming.digest
        os.replace(incoming.path, self.path(digest))
        self.hollow.pop(digest, None)
        return digest

    def put(self, content: bytes) -> str:
        """Keep bytes at hand; returns their digest."""
        incoming = self.receive()
        incoming.write(content)
        return self.keep(incoming)

    def remove(self, digest: str) -> None:
        """Forget a blob, with its bytes."""
        self.hollow.pop(digest, None)
        self.path(digest).unlink(missing_ok=True)


class Incoming:
    """Bytes that come in: written and hashed piece by piece, so that a layer is never in memory as a whole."""

    def __init__(self, directory: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=directory)
        self.path, self.size, self.dropped = Path(name), 0, False
        self._file, self._hash = open(descriptor, "wb", buffering=0), hashlib.sha256()
        self._mark: tuple[int, Any] = (0, self._hash.copy())

    @property
    def digest(self) -> str:
        """Return the digest of what has come in so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, piece: bytes | memoryview) -> None:
        """Take a piece; both the hash and the file let other threads run meanwhile. Raises `Refused` where it was dropped."""
        if self.dropped:
            raise Refused("UploadNotFoundException", "The upload is over: it was ended, or its repository deleted.")
        self._hash.update(piece)
        rest = memoryview(piece)
        while len(rest):
            rest = rest[self._file.write(rest) :]
        self.size += len(piece)

    def mark(self) -> None:
        """Remember this place for `back`."""
        self._mark = (self.size, self._hash.copy())

    def back(self) -> None:
        """Forget what came after the mark: what a broken connection brought counts for nothing."""
        if self.dropped:
            return
        self.size, kept = self._mark
        self._hash = kept.copy()
        self._file.truncate(self.size)
        self._file.seek(self.size)

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def drop(self) -> None:
        """Throw away what has come in; whoever is writing meanwhile is refused at the next piece."""
        self.dropped = True
        self.path.unlink(missing_ok=True)
