"""Pack a chart folder as `helm package` does, the same bytes each time.

Chart.yaml stays as it is written (Helm writes it anew, with the same content), and every file gets the time of the newest one
(Helm takes the present), so that a plan and its apply pack the same digest.
"""

from __future__ import annotations

import fnmatch
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from helpers.aws import RunbookError
from helpers.ecr.files import GZIP_MAGIC, scratch

CHART_FILE, IGNORE_FILE = "Chart.yaml", ".helmignore"
FIRST = (CHART_FILE, "Chart.lock", "values.yaml", "values.schema.json")
EXTRA = b"+aHR0cHM6Ly95b3V0dS5iZS96OVV6MWljandyTQo="  # Helm marks its archives with this field
ALWAYS_IGNORED = ("templates/.?*",)

Entry = tuple[str, bytes]


def pack(folder: Path) -> Path:
    """The chart as a `.tgz` in a scratch folder; its time is that of the newest file in it. Raises `RunbookError` for a chart without a name."""
    import yaml

    try:
        told = yaml.safe_load((folder / CHART_FILE).read_bytes())
        name, version = str(told["name"]), str(told["version"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise RunbookError(f"{folder / CHART_FILE} has no name and version: {' '.join(str(error).split())}.", "`helm lint` says what a chart needs.") from error
    newest = int(max(path.stat().st_mtime for path in folder.rglob("*") if path.is_file()))
    target = scratch() / f"{name}-{version}.tgz"
    target.write_bytes(_gzip(_tar([(f"{name}/{where}", content) for where, content in _ordered(list(_files(folder)))], newest)))
    os.utime(target, (newest, newest))
    return target


def _files(folder: Path) -> Iterator[Entry]:
    """The files that belong to the chart, by name within it, in the order of a walk."""
    ignored = _rules(folder)

    def walk(directory: Path) -> Iterator[Entry]:
        for path in sorted(directory.iterdir(), key=lambda one: one.name):
            name = path.relative_to(folder).as_posix()
            if _is_ignored(name, path.is_dir(), ignored):
                continue
            if path.is_dir():
                yield from walk(path)
            elif path.parent == folder / "charts" and path.suffix == ".tgz":
                yield from _unpacked(path)
            else:
                yield name, path.read_bytes()

    return walk(folder)


def _unpacked(path: Path) -> Iterator[Entry]:
    """The files of a packed subchart, which Helm keeps unpacked."""
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.isreg() and (content := archive.extractfile(member)):
                yield f"charts/{PurePosixPath(member.name).as_posix()}", content.read()


def _ordered(entries: list[Entry]) -> Iterator[Entry]:
    """As Helm writes them: the chart's own files first, templates before the rest, then each subchart the same way."""
    own = [(name, content) for name, content in entries if not (name.startswith("charts/") and name.count("/") > 1)]
    by_name = dict(own)
    yield from ((name, by_name[name]) for name in FIRST if name in by_name)
    rest = [(name, content) for name, content in own if name not in FIRST]
    yield from (entry for entry in rest if entry[0].startswith("templates/"))
    yield from (entry for entry in rest if not entry[0].startswith("templates/"))
    under = [entry for entry in entries if entry[0].startswith("charts/") and entry[0].count("/") > 1]
    for chart in dict.fromkeys(name.split("/")[1] for name, _ in under):
        prefix = f"charts/{chart}/"
        yield from ((prefix + name, content) for name, content in _ordered([(name.removeprefix(prefix), content) for name, content in under if name.startswith(prefix)]))


def _rules(folder: Path) -> list[str]:
    """The patterns of .helmignore, https://helm.sh/docs/chart_template_guide/helm_ignore_file/."""
    path = folder / IGNORE_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [*ALWAYS_IGNORED, *(line for raw in lines if (line := raw.strip()) and not line.startswith("#"))]


def _is_ignored(name: str, is_folder: bool, rules: list[str]) -> bool:
    """Whether .helmignore leaves a path out: a pattern with a slash is for the whole path, one that ends with a slash for folders."""
    for rule in rules:
        negated, pattern = rule.startswith("!"), rule.removeprefix("!")
        if pattern.endswith("/") and not is_folder:
            continue
        pattern = pattern.rstrip("/")
        whole = "/" in pattern
        tested = name if whole else name.rpartition("/")[2]
        pattern = pattern.removeprefix("/")
        matches = fnmatch.fnmatchcase(tested, pattern) and tested.count("/") == pattern.count("/")
        if matches is not negated:
            return True
    return False


def _tar(entries: list[Entry], when: int) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o644, when
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def _gzip(content: bytes) -> bytes:
    """Gzip with Helm's extra field and comment, and neither a name nor a time."""
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = GZIP_MAGIC + b"\x08\x14\x00\x00\x00\x00\x00\xff" + len(EXTRA).to_bytes(2, "little") + EXTRA + b"Helm\x00"
    return head + squeeze.compress(content) + squeeze.flush() + zlib.crc32(content).to_bytes(4, "little") + (len(content) % 2**32).to_bytes(4, "little")
