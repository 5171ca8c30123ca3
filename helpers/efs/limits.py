"""The most that EFS serves in a region: throughput and requests a second by mode, and what one client gets of it.

https://docs.aws.amazon.com/efs/latest/ug/limits.html
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.aws.errors import RunbookError
from helpers.efs.credits import GIB, MIB
from helpers.efs.modes import BURSTING, ELASTIC, MODES, PROVISIONED

LARGE_REGIONS = {
    BURSTING: ("us-east-2", "us-east-1", "us-west-2", "ap-southeast-2", "eu-west-1"),
    PROVISIONED: ("us-east-2", "us-east-1", "us-west-2", "eu-west-1"),
    ELASTIC: (
        "us-east-2", "us-east-1", "us-west-2", "ap-south-1", "ap-northeast-2", "ap-southeast-1", "ap-southeast-2", "ap-northeast-1", "eu-central-1",
        "eu-west-1", "eu-west-2",
    ),
}  # fmt: skip
# GiB/s of reads and writes: in a large region, and in any other
REGIONAL = {BURSTING: ((5, 3), (3, 1)), PROVISIONED: ((10, 3.33), (3, 1)), ELASTIC: ((60, 5), (20, 1))}
ONE_ZONE = (3, 1)
IOPS = {BURSTING: (35_000, 7_000), PROVISIONED: (55_000, 25_000), ELASTIC: (250_000, 50_000)}
IA_READ_IOPS = 90_000  # of elastic, where the data is in IA or Archive
CLIENT, NEW_CLIENT = 500 * MIB, 1500 * MIB  # bytes/s; the second on elastic, with efs-utils 2 or the CSI driver


@dataclass(frozen=True)
class Limits:
    """Bytes/s of reads and of writes, and requests a second of each on frequently used data; `client` is bytes/s of one client at the most."""

    read: float
    write: float
    read_iops: int
    write_iops: int
    client: float


def limits(mode: str, region: str, *, one_zone: bool = False, utils_major: int = 2) -> Limits:
    """What a file system in a throughput mode gets in a region; `utils_major` is the version of the clients' efs-utils.

    A region that the page does not name has the smaller figures. Raises `RunbookError` for a mode that EFS does not have.
    """
    if mode not in MODES:
        raise RunbookError(f"EFS has no throughput mode {mode!r}.", f"Modes are {', '.join(MODES)}.")
    read, write = ONE_ZONE if one_zone else REGIONAL[mode][region not in LARGE_REGIONS[mode]]
    return Limits(read * GIB, write * GIB, *IOPS[mode], NEW_CLIENT if mode == ELASTIC and utils_major >= 2 else CLIENT)


def largest_provisioned_mibps(region: str, *, one_zone: bool = False) -> int:
    """The most that may be provisioned, whole MiB/s: a third of the reads that the region serves."""
    return -(-int(limits(PROVISIONED, region, one_zone=one_zone).read) // (3 * MIB))
