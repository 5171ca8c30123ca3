"""Where events are read from: files, globs, gzip, S3 objects and lines, cut into parts that cores work on side by side."""

from __future__ import annotations

import glob
import gzip
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from helpers.aws import RunbookError

BLOCK = 512 * 1024  # bytes that are decoded at once: they stay in a core's cache
PART = 32 * 1024 * 1024  # bytes of a file that one core takes at a time
SENT = 4 * 1024 * 1024  # bytes that are sent to another process at a time

_LOGGED = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+Z\s+(?={)")  # how an export of CloudWatch Logs begins its lines
_JSON = json.JSONDecoder()


@dataclass(frozen=True)
class Range:
    """The lines of a file that begin at `start` or later and before `end` (bytes)."""

    path: str
    start: int
    end: int

    def blocks(self) -> Iterator[bytes]:
        """The lines, about `BLOCK` bytes at a time."""
        with open(self.path, "rb", buffering=0) as file:
            first, last = _line_from(file, self.start), _line_from(file, self.end)
            file.seek(first)
            yield from _whole_lines(_pieces(file, BLOCK, last - first))


def _line_from(file: IO[bytes], at: int) -> int:
    """Where the first line begins that does not begin before `at`."""
    if at == 0:
        return 0
    file.seek(at - 1)
    at -= 1
    while piece := file.read(BLOCK):
        found = piece.find(b"\n") + 1
        if found:
            return at + found
        at += len(piece)
    return at


Part = Range | bytes


def parts(source: Any, s3: Any = None) -> tuple[Iterator[Part], int]:
    """The parts of a source, and its size in bytes where that is known (else 0).

    A source is a path, a glob, `s3://bucket/key` or `s3://bucket/prefix/` (with a boto3 client), several of them, or an
    iterable of lines. Names that end in `.gz` are unpacked. Raises `RunbookError` where nothing is there.
    """
    if isinstance(source, str | Path):
        return _of_places([source], s3)
    if isinstance(source, bytes):
        raise RunbookError("The source is bytes.", "Give a path, or a list of lines.")
    items = iter(source)
    first = list(itertools.islice(items, 1))
    if first and _is_place(first[0]):
        return _of_places([*first, *items], s3)
    return _grouped(itertools.chain(first, items)), 0


def blocks(part: Part) -> Iterator[bytes]:
    """Whole lines of a part, about `BLOCK` bytes at a time."""
    if isinstance(part, Range):
        yield from part.blocks()
    else:
        start = 0
        while start < len(part):
            end = part.find(b"\n", start + BLOCK) + 1 or len(part)
            yield part[start:end]
            start = end


def events_in(line: bytes) -> list[bytes]:
    """The events of a line that is not just one: behind the time that an export of CloudWatch Logs puts before it, or
    one behind the other, as Firehose writes them. Any other line is returned as it is."""
    logged = _LOGGED.match(line)
    line = line[logged.end() :] if logged else line
    if not re.search(rb"}\s*{", line):
        return [line]
    found, at = [], 0
    try:
        text = line.decode()
        while at < len(text):
            value, end = _JSON.raw_decode(text, at)
            if not isinstance(value, dict):
                return [line]
            found.append(text[at:end].encode())
            at = end + len(text[end:]) - len(text[end:].lstrip())
    except (ValueError, RecursionError):
        return [line]
    return found


def _is_place(item: Any) -> bool:
    return isinstance(item, Path) or (isinstance(item, str) and item.strip() != "" and "{" not in item)


def _of_places(places: list[str | Path], s3: Any) -> tuple[Iterator[Part], int]:
    found = [one for place in places for one in (_objects(str(place), s3) if str(place).startswith("s3://") else _files(str(place)))]
    return itertools.chain.from_iterable(_of_place(name, size, s3) for name, size in found), sum(size for _, size in found)


def _files(place: str) -> list[tuple[str, int]]:
    names = [place] if Path(place).is_file() else sorted(name for name in glob.glob(place, recursive=True) if Path(name).is_file())
    if not names:
        raise RunbookError(f"There is no file {place!r}.", "Check the path; a folder is named by a glob, such as events/*.jsonl.gz.")
    return [(name, Path(name).stat().st_size) for name in names]


def _objects(place: str, s3: Any) -> list[tuple[str, int]]:
    """The S3 object of that name, or all below a prefix that ends in `/`.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """
    if s3 is None:
        raise RunbookError(f"{place} is in S3, and no client was given.", 'Pass s3=boto3.client("s3").')
    bucket, _, key = place.removeprefix("s3://").partition("/")
    if key and not key.endswith("/"):
        return [(place, s3.head_object(Bucket=bucket, Key=key)["ContentLength"])]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    found = [(f"s3://{bucket}/{one['Key']}", one["Size"]) for page in pages for one in page.get("Contents", []) if not one["Key"].endswith("/")]
    if not found:
        raise RunbookError(f"There is no object below {place}.", "Check the bucket and the prefix.")
    return found


def _of_place(name: str, size: int, s3: Any) -> Iterator[Part]:
    if name.startswith("s3://"):
        bucket, _, key = name.removeprefix("s3://").partition("/")
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
        yield from _whole_lines(_pieces(_unpacked(body) if name.endswith(".gz") else body, SENT))
    elif name.endswith(".gz"):
        with open(name, "rb") as file:
            yield from _whole_lines(_pieces(_unpacked(file), SENT))
    else:
        yield from (Range(name, start, min(start + PART, size)) for start in range(0, size, PART))


def _unpacked(file: Any) -> IO[bytes]:
    return gzip.GzipFile(fileobj=file, mode="rb")


def _pieces(file: Any, size: int, length: float = math.inf) -> Iterator[bytes]:
    """The next `length` bytes, up to `size` of them at a time."""
    try:
        while length > 0 and (piece := file.read(int(min(size, length)))):
            length -= len(piece)
            yield piece
    except (gzip.BadGzipFile, EOFError) as error:
        raise RunbookError(f"A gzip file is damaged: {error}.", "Copy it again.") from error


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut behind a line's end."""
    rest: list[bytes] = []
    for piece in pieces:
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield b"".join([*rest, memoryview(piece)[:cut]])
            rest = [piece[cut:]] if cut < len(piece) else []
        else:
            rest.append(piece)
    if rest:
        yield b"".join(rest)


def _grouped(lines: Iterable[str | bytes]) -> Iterator[bytes]:
    """Lines joined into blocks of about `BLOCK` bytes."""
    group, size = [], 0
    for line in lines:
        text = line.encode(errors="surrogatepass") if isinstance(line, str) else bytes(line)
        group.append(text.rstrip(b"\r\n"))
        size += len(text)
        if size >= BLOCK:
            yield b"\n".join(group) + b"\n"
            group, size = [], 0
    if group:
        yield b"\n".join(group) + b"\n"
