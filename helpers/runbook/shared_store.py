"""Runs in S3: a run's files are fetched into a private folder of this machine before they are read, and put into the bucket as they are written.

A file is put on the condition that nobody else has changed it since it was last seen here (a conditional write), so that no
machine writes over what another one has done. Listings and reads see every earlier write:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from helpers.aws import calls
from helpers.aws.errors import RunbookError, error_code, explain
from helpers.runbook.redact import hide, redact, redact_data
from helpers.runbook.store import line_of, write_whole

if TYPE_CHECKING:
    from helpers.runbook.shared_run import SharedRun

ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[^?#]*))?")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a run, or of a file of it: what a listing says must not lead out of the folder
PIECE = re.compile(r"journal/(\d{8})(-all)?\.json")  # of a journal: what was added, or all of it up to there
LEASE = "lease.json"
SMALL = {"run.json", "result.json", "fleet.json", "journal.jsonl", LEASE}  # what a list of runs is made of, beside the pieces of journals
OF_THIS_MACHINE = {"rehearsal.json", LEASE}  # not put: where a local cloud runs; a lease is its holder's
WITH_THE_RUN = {"output.ipynb"}  # put when a run ends, and not after every cell
ARTEFACTS = {".csv", ".html", ".ipynb", ".json", ".jsonl", ".parquet", ".pdf", ".png", ".svg", ".txt"}  # put with it; not what else lies in its folder
LOGS = ("journal.jsonl", "calls.jsonl")  # of an apply these are put piece by piece
AT_ONCE = 16
SETTINGS = Config(
    retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=5, read_timeout=15, max_pool_connections=2 * AT_ONCE, user_agent_extra="aws-runbooks"
)
REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
POLICY = "The caller needs s3:ListBucket on the bucket, and s3:GetObject and s3:PutObject on its objects."


class Changed(Exception):
    """The condition of a write does not hold: somebody else has written the object."""


@functools.cache
def opened(address: str) -> SharedStore:
    """The store at an address, opened once in a process: it keeps the credentials and the endpoint of that moment, whatever a run enters later.

    Raises `RunbookError` where the address is not one of S3.
    """
    return SharedStore(address)


class SharedStore:
    """A bucket and a prefix, and the folder of this machine that stands for them; its calls are no calls of a run."""

    def __init__(self, address: str) -> None:
        found = ADDRESS.fullmatch(address)
        if not found or ".." in found["bucket"]:
            raise RunbookError(f"RUNBOOK_RUNS is {address!r}, which is no place in S3.", "Write s3://bucket or s3://bucket/prefix, or the path of a folder.")
        self.bucket, prefix = found["bucket"], (found["prefix"] or "").strip("/")
        self.address = f"s3://{self.bucket}/{prefix}".rstrip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self._client = _client()
        self.folder = _folder(self._client.meta.endpoint_url, self.bucket, prefix)
        self.id = _identity(self.folder)
        self.owned: dict[str, SharedRun] = {}  # the runs that this process goes on with
        self.left: set[str] = set()  # those of which it must put nothing, because another one goes on with them

    # -- reading ---------------------------------------------------------------------------------------

    def fetch(self, run_id: str, *, members: bool = False) -> Path:
        """The folder of a run (with `members`, of a fleet and its runs) with its files as they are in S3 now; there is none where there is no such run."""
        found = self.listed(run_id if members else f"{run_id}/")
        wanted = {name: files for name, files in found.items() if name == run_id or members and name.startswith(f"{run_id}.")}
        self._bring(wanted, small=False)
        return self.folder / run_id

    def fetch_all(self) -> Path:
        """The folder of all runs, with what a list of them is made of."""
        self._bring(self.listed(), small=True)
        return self.folder

    def listed(self, start: str = "") -> dict[str, dict[str, str]]:
        """What there is of the runs whose names begin so: run -> file -> ETag."""
        found: dict[str, dict[str, str]] = {}
        request = {"Bucket": self.bucket, "Prefix": self.prefix + start}
        while True:
            with self.told("list"):
                page = self._client.list_objects_v2(**request)
            for one in page.get("Contents", []):
                run_id, _, name = one["Key"][len(self.prefix) :].partition("/")
                if NAME.fullmatch(run_id) and (NAME.fullmatch(name) or PIECE.fullmatch(name)):
                    found.setdefault(run_id, {})[name] = one["ETag"]
            if not page.get("IsTruncated"):
                return found
            request["ContinuationToken"] = page["NextContinuationToken"]

    def bring(self, run_id: str) -> list[int]:
        """Fetch the files of a run that this process has taken; returns the numbers of its journal's pieces."""
        files = self.listed(f"{run_id}/").get(run_id, {})
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self._bring_one(run_id, self._stale(run_id, files, small=False), pool)
        self._unroll(self.folder / run_id)
        return _numbers(files)

    def is_behind(self, run_id: str) -> bool:
        """True where the journal in S3 has what is not here: another machine has gone on with the run."""
        here = [path.relative_to(self.folder / run_id).as_posix() for path in (self.folder / run_id).glob("journal/*.json")]
        return max(_numbers(self.listed(f"{run_id}/").get(run_id, {})), default=0) > max(_numbers(here), default=0)

    def _bring(self, runs: Mapping[str, Mapping[str, str]], *, small: bool) -> None:
        """Fetch what is new of these runs; of one that a process of this machine goes on with nothing, because its files here are the newest."""
        with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(AT_ONCE) as of_files:

            def one(run_id: str) -> None:
                stale = self._stale(run_id, runs[run_id], small=small)
                if stale:
                    with self.alone(run_id) as free:
                        if free:
                            self._bring_one(run_id, stale, of_files)

            list(pool.map(one, runs))

    def _stale(self, run_id: str, files: Mapping[str, str], *, small: bool) -> list[str]:
        """The files of a run that are not here as they are in S3."""
        pieces = {name: PIECE.fullmatch(name) for name in files}
        whole = max((int(found[1]) for found in pieces.values() if found and found[2]), default=0)
        wanted = []
        for name, etag in files.items():
            found = pieces[name]
            if found:
                if (int(found[1]) > whole or found[2] and int(found[1]) == whole) and not (self.folder / run_id / name).exists():
                    wanted.append(name)
            elif name == LEASE and (self.folder / run_id / name).exists() or (not small or name in SMALL) and self._known(run_id, name)[0] != etag:
                wanted.append(name)
        return wanted

    def _bring_one(self, run_id: str, names: Iterable[str], pool: ThreadPoolExecutor) -> None:
        directory = self.folder / run_id
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

        def one(name: str) -> bool:
            data, etag, age_s = self.read(run_id, name)
            path, piece = directory / name, bool(PIECE.fullmatch(name))
            if name == LEASE:
                self._note_lease(path, data, age_s)
            else:
                path.parent.mkdir(exist_ok=True, mode=0o700)
                write_whole(path, data)
            if not piece:  # which never changes
                self._remember(run_id, name, etag, (0, 0) if name == LEASE else _stamp(path))
            return piece

        if any(list(pool.map(one, names))):
            self._unroll(directory)

    def _note_lease(self, path: Path, data: bytes, age_s: float) -> None:
        """Keep the lease of a run that somebody holds; one that was released or has run out is none."""
        told = json.loads(data)
        if told["released"] or age_s > told["ttl_s"] + 1:
            path.unlink(missing_ok=True)
        else:
            write_whole(path, data)

    def read(self, run_id: str, name: str) -> tuple[bytes, str, float]:
        """An object of a run: its bytes, its ETag, and its age in seconds by the clock of S3. Raises `KeyError` where there is none."""
        try:
            with self.told("read", but={"NoSuchKey"}):
                answer = self._client.get_object(Bucket=self.bucket, Key=self.key(run_id, name))
                return answer["Body"].read(), answer["ETag"], (_server_time(answer) - answer["LastModified"]).total_seconds()
        except ClientError as error:
            raise KeyError(name) from error

    def _unroll(self, directory: Path) -> None:
        """Write journal.jsonl and calls.jsonl from the pieces; what this machine has beyond them, because S3 could not be reached, stays."""
        for name, lines in self.unrolled(directory.name).items():
            path, text = directory / name, "".join(lines).encode()
            if lines and not (path.exists() and path.read_bytes().startswith(text)):
                write_whole(path, text)

    def unrolled(self, run_id: str) -> dict[str, list[str]]:
        """The lines of the two logs that the pieces of a run's journal make. Raises `RunbookError` where a piece is missing."""
        found = sorted((int(match[1]), bool(match[2]), path) for path in (self.folder / run_id / "journal").glob("*.json") if (match := PIECE.fullmatch(f"journal/{path.name}")))
        first = max((place for place, (_, whole, _) in enumerate(found) if whole), default=0)
        lines: dict[str, list[str]] = {name: [] for name in LOGS}
        expected = None
        for number, whole, path in found[first:]:
            if not whole and number != (expected or 1):
                raise RunbookError(f"Entry {expected or 1} of the journal of run {run_id} is missing in {self.address}, so what the run did is not known.", "Restore the object; do not go on without it.")
            expected = number + 1
            for name, entries in json.loads(path.read_text(encoding="utf-8"))["lines"].items():
                lines[name] += [line_of(entry) for entry in entries]
        return lines

    # -- writing ---------------------------------------------------------------------------------------

    def wrote(self, path: Path, *, new: bool = False) -> None:
        """`put` a file that was written, unless it is of this machine only, or goes to S3 when the run ends."""
        if path.name not in OF_THIS_MACHINE | WITH_THE_RUN:
            self.put(path, new=new)

    def put(self, path: Path, *, new: bool = False) -> None:
        """Put a file of a run into S3. Raises `RunbookError` where another machine has changed it, or, with `new`, where it is there already.

        Of a run that this process holds the lease of, its own file holds. Every write has a condition, so a bucket may demand one
        (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html). No ACL and no encryption are asked for: objects are private
        and encrypted as the bucket says (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-encryption.html).
        """
        run_id, name = path.parent.name, path.name
        owner = self.owned.get(run_id)
        if run_id in self.left or owner is not None and owner.fault:
            return  # what could not be put is put when the run ends, or is gone on with
        stamp, data = _stamp(path), _redacted(name, path.read_bytes())
        known = "" if new else self._known(run_id, name)[0]
        try:
            try:
                etag = self.write(run_id, name, data, IfMatch=known) if known else self.write(run_id, name, data, IfNoneMatch="*")
            except Changed as error:
                if new:
                    raise RunbookError(f"There is a run {run_id} in {self.address} already.", "Go on with it (`runbook resume`), or choose another run_id.") from error
                if owner is None:
                    raise RunbookError(f"{name} of run {run_id} was changed by another machine: it was left as it is.", "`runbook runs show` says what was done.") from error
                owner.check()
                etag = self.write(run_id, name, data, IfMatch=self.read(run_id, name)[1])
        except RunbookError as error:
            if owner is not None:
                owner.fault = owner.fault or error
            raise
        self._remember(run_id, name, etag, stamp)

    def publish(self, directory: Path) -> None:
        """Put every file of a run that is newer here than in S3."""
        pieces = (directory / "journal").is_dir() and any((directory / "journal").iterdir())
        for path in sorted(directory.iterdir()):
            name = path.name
            if path.suffix not in ARTEFACTS or not path.is_file() or not NAME.fullmatch(name) or name in OF_THIS_MACHINE or pieces and name in LOGS:
                continue
            if self._known(directory.name, name)[1:] != _stamp(path):
                self.put(path)

    def write(self, run_id: str, name: str, data: bytes, **condition: str) -> str:
        """Put an object and return its ETag. Raises `Changed` where the condition does not hold, unless the object is the very one asked for.

        A request that was answered too late is sent again by botocore, and meets what it has written itself. 409 says that another write
        of the same object was going on: it is looked at again.
        """
        key = self.key(run_id, name)
        for attempt in range(4):
            try:
                with self.told("write", but=REFUSED | {"NoSuchKey"}):
                    return self._client.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=_kind(name), **condition)["ETag"]
            except ClientError as error:
                with contextlib.suppress(KeyError):
                    there, etag, _ = self.read(run_id, name)
                    if there == data:
                        return etag
                if error_code(error) not in {"ConditionalRequestConflict", "409"} or attempt == 3:
                    raise Changed(key) from error
                time.sleep(0.05 * 2**attempt)
        raise AssertionError

    def key(self, run_id: str, name: str) -> str:
        """The key of an object of a run."""
        return f"{self.prefix}{run_id}/{name}"

    @contextlib.contextmanager
    def told(self, doing: str, but: Iterable[str] = ()) -> Iterator[None]:
        """Errors of S3 as sentences that name the place, but those with these codes."""
        try:
            yield
        except ClientError as error:
            code, reason = error_code(error), explain(error)
            if code in but:
                raise
            if code in {"NoSuchBucket", "404"}:
                raise RunbookError(f"There is no bucket {self.bucket}, where RUNBOOK_RUNS ({self.address}) wants the runs.", "Create it, or correct the address.", reason.request_id) from error
            if code in {"AccessDenied", "403", "AllAccessDisabled"}:
                raise RunbookError(f"The store of runs, {self.address}, cannot be used: {reason.what}", POLICY, reason.request_id) from error
            raise RunbookError(f"The store of runs, {self.address}, failed to {doing}: {reason.what}", reason.remedy or "Resume the run when S3 answers.", reason.request_id) from error
        except (BotoCoreError, OSError) as error:
            reason = explain(error)
            raise RunbookError(f"The store of runs, {self.address}, cannot be reached to {doing}: {reason.what}", reason.remedy or "Resume the run when S3 answers.") from error

    # -- what is here ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def alone(self, run_id: str, patience_s: float = 0.0) -> Iterator[bool]:
        """Hold a run's files on this machine against its other processes; yields whether that could be had."""
        place = self.folder / ".locks"
        place.mkdir(exist_ok=True, mode=0o700)
        with open(place / run_id, "w", encoding="utf-8") as file:
            yield _locked(file, patience_s)

    def _known(self, run_id: str, name: str) -> tuple[str, int, int]:
        """The ETag, the time and the size of a file when it was last the same here and in S3."""
        try:
            etag, changed, size = (self.folder / ".known" / run_id / name).read_text(encoding="utf-8").split(" ")
        except FileNotFoundError:
            return "", 0, 0
        return etag, int(changed), int(size)

    def _remember(self, run_id: str, name: str, etag: str, stamp: tuple[int, int]) -> None:
        place = self.folder / ".known" / run_id
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(place / name, f"{etag} {stamp[0]} {stamp[1]}".encode())


def _client() -> Any:
    """A client with the default credentials and endpoint of this moment; what it calls is not seen by a run, nor held back in a plan."""
    try:
        session = boto3.Session()
        credentials = session.get_credentials()
        if credentials is None:
            raise RunbookError("The store of runs needs AWS credentials, and none were found.", "Sign in with `aws sso login`, or set AWS_PROFILE.")
        hide(credentials.secret_key, credentials.token)
        client = session.client("s3", config=SETTINGS)
    except Exception as error:
        raise explain(error) from error
    calls.leave_unwatched(client)
    return client


def _folder(endpoint: str, bucket: str, prefix: str) -> Path:
    """The private folder for a prefix of a bucket, below XDG_CACHE_HOME or ~/.cache."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aws-runbooks"
    place = "aws" if re.search(r"\.amazonaws\.com(\.cn)?$", endpoint) else endpoint
    digest = hashlib.sha256(f"{place} {bucket} {prefix}".encode()).hexdigest()[:10]
    folder = root / f"{bucket}-{quote(prefix, safe='')[:60]}-{digest}"
    for one in (root, folder):
        one.mkdir(parents=True, exist_ok=True, mode=0o700)
        one.chmod(0o700)
    return folder.resolve()


def _numbers(names: Iterable[str]) -> list[int]:
    """The numbers of the pieces of a journal among these files."""
    return sorted({int(found[1]) for name in names if (found := PIECE.fullmatch(name))})


def _identity(folder: Path) -> str:
    """What tells this folder from those of other machines and users."""
    path = folder / ".id"
    if not path.exists():
        made = folder / f".id.{secrets.token_hex(4)}"
        write_whole(made, secrets.token_hex(8).encode())
        with contextlib.suppress(FileExistsError):
            os.link(made, path)  # unlike a rename it leaves the one that another process has made
        made.unlink()
    return path.read_text(encoding="utf-8")


def _locked(file: Any, patience_s: float) -> bool:
    end = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)


def _stamp(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_mtime_ns, told.st_size


def _redacted(name: str, data: bytes) -> bytes:
    """The content of a file with secrets masked once more, where it is text."""
    try:
        text = redact(data.decode())
    except UnicodeDecodeError:
        return data
    if name.endswith(".json"):
        try:
            json.loads(text)
        except ValueError:  # a mask that took half of an escaped quotation mark with it
            text = json.dumps(redact_data(json.loads(data)), ensure_ascii=False)
    return text.encode()


def _server_time(answer: Mapping[str, Any]) -> datetime:
    """When S3 gave an answer, by its own clock."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def _kind(name: str) -> str:
    return {".json": "application/json", ".html": "text/html; charset=utf-8", ".csv": "text/csv; charset=utf-8"}.get(Path(name).suffix, "application/octet-stream")
