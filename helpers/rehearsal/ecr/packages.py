"""Which packages a layer's files say are installed: Debian's and Alpine's databases."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable
from pathlib import Path

DATABASE = re.compile(r"(?:\./)?(var/lib/dpkg/status(?:\.d/[^/]+)?|lib/apk/db/installed)")
LARGEST = 64 * 1024 * 1024


class Unreadable(ValueError):
    """The layers are of a kind that is not read here."""


def installed(layers: Iterable[Path]) -> dict[str, str]:
    """Return the versions of packages by name; a later layer's database takes the place of an earlier one's.

    Raises `Unreadable` where a layer is no tar, or one that is compressed otherwise than with gzip.
    """
    found: dict[str, str] = {}
    for layer in layers:
        try:
            with tarfile.open(layer, "r|*") as files:
                for member in files:
                    known = DATABASE.fullmatch(member.name)
                    if known and member.isfile() and member.size < LARGEST:
                        content = files.extractfile(member)
                        found[known[1]] = content.read().decode(errors="replace") if content else ""
        except (tarfile.TarError, EOFError, OSError) as error:
            raise Unreadable(f"a layer is no tar or gzip: {error}") from error
    return {name: version for path, text in found.items() for name, version in _read(text, "P:", "V:") if "apk" in path} | {
        name: version for path, text in found.items() for name, version in _read(text, "Package:", "Version:") if "dpkg" in path
    }


def _read(text: str, name: str, version: str) -> list[tuple[str, str]]:
    packages = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        told = [next((line.removeprefix(key).strip() for line in lines if line.startswith(key)), "") for key in (name, version)]
        if all(told):
            packages.append((told[0], told[1]))
    return packages
