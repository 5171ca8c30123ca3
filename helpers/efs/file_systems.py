"""File systems as EFS describes them: size by class, modes, and what is set.

https://docs.aws.amazon.com/efs/latest/ug/API_DescribeFileSystems.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from helpers.aws import Aws, RunbookError
from helpers.aws.errors import error_code, explain, is_not_found
from helpers.efs.modes import BURSTING

ID = re.compile(r"fs-[0-9a-f]{8}(?:[0-9a-f]{9})?")


@dataclass(frozen=True)
class FileSystem:
    """A file system: sizes in bytes a storage class, provisioned throughput in MiB/s, `zone` where it is One Zone."""

    id: str
    name: str = ""
    arn: str = ""
    state: str = "available"
    throughput_mode: str = BURSTING
    provisioned_mibps: float | None = None
    performance_mode: str = "generalPurpose"
    encrypted: bool = True
    kms_key: str = ""
    zone: str = ""
    standard_bytes: float = 0.0
    ia_bytes: float = 0.0
    archive_bytes: float = 0.0

    @property
    def label(self) -> str:
        """Its name, or where it has none its id."""
        return self.name or self.id


def describe(aws: Aws, file_system: str) -> FileSystem:
    """The facts of one file system. Raises `RunbookError` for an id that is none, or that nobody has here."""
    if not ID.fullmatch(file_system):
        raise RunbookError(f"{file_system!r} is no id of a file system.", "Ids are fs- and 8 or 17 hexadecimal digits; the EFS console lists them.")
    try:
        found = aws.client("efs").describe_file_systems(FileSystemId=file_system)["FileSystems"]
    except ClientError as error:
        if is_not_found(error) or error_code(error) == "BadRequest":
            raise _absent(aws, file_system) from error
        raise explain(error) from error
    if not found:
        raise _absent(aws, file_system)
    return read(found[0])


def describe_all(aws: Aws, only: tuple[str, ...] = ()) -> list[FileSystem]:
    """All file systems of the region, or those of these ids and Name tags. Raises `RunbookError` where there are none."""
    if only and all(ID.fullmatch(one) for one in only):
        return [describe(aws, one) for one in only]
    try:
        pages = aws.client("efs").get_paginator("describe_file_systems").paginate()
        found = [read(one) for page in pages for one in page["FileSystems"]]
    except ClientError as error:
        raise explain(error) from error
    if not found:
        raise RunbookError(f"Account {aws.account} has no file system in {aws.region}.", "Choose another region or profile.")
    return [_named(aws, found, one) for one in only] or found


def _named(aws: Aws, found: list[FileSystem], asked: str) -> FileSystem:
    """The file system of an id or a Name tag."""
    named = [one for one in found if asked in (one.id, one.name)]
    if len(named) != 1:
        what = f"{len(named)} file systems are" if named else "There is no file system"
        raise RunbookError(f"{what} called {asked!r} in {aws.region} of account {aws.account}.", "Give an id (fs-…); the EFS console lists them.")
    return named[0]


def read(found: Mapping[str, Any]) -> FileSystem:
    """A FileSystemDescription as a `FileSystem`; Standard is the only class where EFS names none."""
    size = found.get("SizeInBytes", {})
    ia, archive = (float(size.get(name) or 0) for name in ("ValueInIA", "ValueInArchive"))
    standard = size.get("ValueInStandard")
    return FileSystem(
        id=found["FileSystemId"],
        name=found.get("Name", ""),
        arn=found.get("FileSystemArn", ""),
        state=found.get("LifeCycleState", ""),
        throughput_mode=found.get("ThroughputMode", BURSTING),
        provisioned_mibps=found.get("ProvisionedThroughputInMibps"),
        performance_mode=found.get("PerformanceMode", "generalPurpose"),
        encrypted=bool(found.get("Encrypted")),
        kms_key=found.get("KmsKeyId", ""),
        zone=found.get("AvailabilityZoneName", ""),
        standard_bytes=float(standard) if standard is not None else float(size.get("Value", 0)) - ia - archive,
        ia_bytes=ia,
        archive_bytes=archive,
    )


def _absent(aws: Aws, file_system: str) -> RunbookError:
    return RunbookError(f"There is no file system {file_system} in {aws.region} of account {aws.account}.", "Check the id, the region and the account.")
