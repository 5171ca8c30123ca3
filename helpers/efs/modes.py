"""Throughput modes and when EFS lets a file system change between them."""

from __future__ import annotations

from helpers.aws.errors import RunbookError

BURSTING, PROVISIONED, ELASTIC = MODES = ("bursting", "provisioned", "elastic")
LOCK_HOURS = 24


def can_switch(
    from_mode: str,
    to_mode: str,
    from_mibps: float | None = None,
    to_mibps: float | None = None,
    hours_since_switch_to_provisioned_or_amount_change: float | None = None,
) -> bool:
    """Whether the throughput mode may change now.

    For 24 h after a switch to provisioned, or a change of its amount (MiB/s), provisioned may neither be left nor
    decreased; it may be increased. Bursting and elastic change freely. None for the hours: longer ago than anyone knows.
    EFS has the last word: older pages lock every change, and UpdateFileSystem then answers TooManyRequests.

    https://docs.aws.amazon.com/efs/latest/ug/performance.html (Restrictions on switching throughput modes and changing
    provisioned amount). Raises `RunbookError` for a mode that EFS does not have, or an amount that is needed and missing.
    """
    for mode in (from_mode, to_mode):
        if mode not in MODES:
            raise RunbookError(f"EFS has no throughput mode {mode!r}.", f"Modes are {', '.join(MODES)}.")
    since = hours_since_switch_to_provisioned_or_amount_change
    if from_mode != PROVISIONED or since is None or since >= LOCK_HOURS:
        return True
    if to_mode != PROVISIONED:
        return False
    if from_mibps is None or to_mibps is None:
        raise RunbookError("The provisioned amount before or after the change is missing.", "Give both in MiB/s.")
    return to_mibps >= from_mibps
