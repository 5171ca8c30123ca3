"""What a policy saves: the bytes of layers that no remaining image has, times the price; never the sum of image sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from helpers.ecr.lifecycle import KEEP, preview_lifecycle
from helpers.ecr.lifecycle_policy import EXPIRE, Policy, parse_policy
from helpers.ecr.prices import GIB, Prices
from helpers.ecr.stored import Stored


@dataclass(frozen=True)
class Saving:
    """What becomes of a repository: images, bytes and money a month, before and after. `moved` goes to the archive.

    `later` are images that expire only at a later evaluation, once the manifest list that they are in is gone.
    """

    images: int
    expired: int
    later: int
    moved: int
    bytes_before: int
    bytes_freed: int
    bytes_moved: int
    summed_freed: int
    monthly_before: float
    monthly_after: float
    currency: str
    restore: float

    @property
    def monthly(self) -> float:
        """What is saved a month."""
        return self.monthly_before - self.monthly_after

    @property
    def finding(self) -> str:
        """The saving in a sentence."""
        share = self.bytes_freed / self.bytes_before if self.bytes_before else 0.0
        gone = self.expired + self.later
        text = f"{gone:,} of {self.images:,} images go; that frees {gib(self.bytes_freed)} of {gib(self.bytes_before)} ({share:.0%}), "
        text += f"{self.monthly:,.2f} {self.currency} a month."
        if not gone:
            text = "No image goes."
        if self.later:
            text += f" {self.later:,} of them go a day later, once the manifest list is gone that they are in."
        if self.summed_freed > self.bytes_freed:
            text += f" Their sizes add up to {gib(self.summed_freed)}, but images that stay share layers with them."
        if self.moved:
            text += f" {self.moved:,} images ({gib(self.bytes_moved)}) move to the archive, which saves nothing below 150 TB, keeps them for 90 days"
            text += f" at least and costs {self.restore:,.2f} {self.currency} to restore."
        return text

    def table(self) -> pd.DataFrame:
        """Before, after and the difference: images, unique layers in GiB, money a month."""
        after = self.images - self.expired - self.later
        rows = [
            ("images", f"{self.images:,}", f"{after:,}", f"{after - self.images:+,}"),
            ("of them in the archive by this policy", "0", f"{self.moved:,}", f"{self.moved:+,}"),
            ("unique layers", gib(self.bytes_before), gib(self.bytes_before - self.bytes_freed), gib(-self.bytes_freed)),
            (f"{self.currency} a month", f"{self.monthly_before:,.2f}", f"{self.monthly_after:,.2f}", f"{round(self.monthly_after - self.monthly_before, 2) + 0.0:,.2f}"),
        ]
        return pd.DataFrame(rows, columns=["what", "now", "after", "difference"])


def settled(policy: str | Mapping[str, Any] | Policy, images: list[dict[str, Any]], now: str | datetime) -> tuple[pd.DataFrame, set[str]]:
    """The preview of now, and every digest that is gone when the policy has been applied until nothing more goes.

    One evaluation deletes a manifest list, the next the images that were in it.
    """
    parsed = parse_policy(policy)
    first = preview_lifecycle(parsed, images, now)
    gone: set[str] = set()
    found = first
    while len(more := set(found.digest[found.action == EXPIRE])):
        gone |= more
        found = preview_lifecycle(parsed, [record for record in images if record["digest"] not in gone], now)
    return first, gone


def saving(stored: Stored, preview: pd.DataFrame, gone: set[str], prices: Prices) -> Saving:
    """What the policy of this preview saves, of which `gone` are the images that it removes in the end."""
    expired = int((preview.action == EXPIRE).sum())
    moving = set(preview.digest[~preview.action.isin([EXPIRE, KEEP])]) - gone
    archived = {record["digest"] for record in stored.images if record["storageClass"] == "archive"}
    before, freed = stored.bytes_of(), stored.freed(gone)
    moved = stored.freed(gone | moving) - freed
    in_archive, left = stored.bytes_of(archived), stored.bytes_of(archived - gone)
    return Saving(
        len(stored.images), expired, len(gone) - expired, len(moving), before, freed, moved,
        sum(record.get("sizeBytes", 0) for record in stored.images if record["digest"] in gone),
        prices.monthly(before - in_archive, in_archive), prices.monthly(before - freed - left - moved, left + moved), prices.currency,
        moved / GIB * prices.restore,
    )  # fmt: skip


def gib(size: float) -> str:
    """Bytes in words: GiB, or MiB below one."""
    return f"{size / GIB:,.1f} GiB" if abs(size) >= GIB else f"{size / 2**20:,.0f} MiB"
