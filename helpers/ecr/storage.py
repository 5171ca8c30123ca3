"""A registry's storage on one page: by repository, by age, shared layers, what a policy would save, vulnerabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.aws import Aws, connect
from helpers.ecr import sample_registry
from helpers.ecr.in_use import find_uses, used_digests
from helpers.ecr.lifecycle_policy import parse_policy
from helpers.ecr.prices import GIB, Prices, prices, table_prices
from helpers.ecr.saving import Saving, gib, saving, settled
from helpers.ecr.shield import proposal, shield
from helpers.ecr.stored import Stored, current_policy, read

__all__ = ["Registry", "open_registry", "parse_policy", "proposal", "read_registry", "savings_table"]

SAMPLE_REGION = "us-east-1"
SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
WORST = SEVERITIES[:2]


@dataclass(frozen=True)
class Registry:
    """Repositories with who uses their images, by repository and digest; `unseen` says what could not be seen. `end` is now, `account` empty of a made-up one."""

    where: str
    repositories: list[Stored]
    used: dict[str, dict[str, list[str]]]
    unseen: tuple[str, ...]
    prices: Prices
    end: datetime
    account: str = ""

    def __str__(self) -> str:
        images = sum(len(one.images) for one in self.repositories)
        what = f"{len(self.repositories)} repositories with {images:,} images of {self.where}, at {self.end:%Y-%m-%d %H:%M} UTC;"
        return "\n".join([what, f"prices: {self.prices}", *self.unseen])

    # -- by repository ------------------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """A row a repository, the largest first: images, untagged share, GiB stored, the sum of image sizes, money a month, age, policy.

        An image in a manifest list has no tag of its own and is not counted as untagged.
        """
        rows = [self._row(one) for one in self.by_size]
        money = f"{self.prices.currency} a month"
        names = ["repository", "images", "untagged", "stored (GiB)", "sizes add up to (GiB)", money, "newest push", "oldest push", "policy"]
        return _by_repository(rows, names)

    @property
    def by_size(self) -> list[Stored]:
        """The repositories, the largest first."""
        return sorted(self.repositories, key=lambda one: -one.bytes_of())

    def _row(self, one: Stored) -> tuple[str, ...]:
        pushed = sorted(record["pushedAt"] for record in one.images)
        newest, oldest = (f"{pushed[place]:%Y-%m-%d}" if pushed else "" for place in (-1, 0))
        stored, money = one.bytes_of(), f"{self.prices.monthly(one.bytes_of()):,.2f}"
        sizes = (f"{stored / GIB:,.1f}", f"{one.summed / GIB:,.1f}")
        return (one.repository, f"{len(one.images):,}", f"{untagged_share(one):.0%}", *sizes, money, newest, oldest, "yes" if one.policy else "none")

    @property
    def stored(self) -> int:
        """Bytes that are stored and paid: different layers, repository by repository."""
        return sum(one.bytes_of() for one in self.repositories)

    @property
    def summed(self) -> int:
        """The sum of all image sizes, bytes."""
        return sum(one.summed for one in self.repositories)

    @property
    def finding(self) -> str:
        """What is stored and what it costs, in a sentence."""
        without = sum(not one.policy for one in self.repositories)
        text = f"{gib(self.stored)} are stored, {self.prices.monthly(self.stored):,.2f} {self.prices.currency} a month; image sizes add up to {self.times:.1f} times that."
        return f"{text} {without} of {len(self.repositories)} repositories have no lifecycle policy."

    @property
    def times(self) -> float:
        """How many times what is stored the image sizes add up to."""
        return self.summed / self.stored if self.stored else 1.0

    # -- by age -------------------------------------------------------------------------------------------

    def older_than(self, days: Sequence[float]) -> NDArray[np.float64]:
        """The bytes that only images pushed more than so many days ago have: what deleting them frees. One number for each of `days`."""
        freed = np.zeros(len(days))
        for one in self.repositories:
            youngest, stored = youngest_use(one, self.end), _sizes(one)
            ages, sizes = (np.array(column, dtype=float) for column in (list(youngest.values()), [stored[blob] for blob in youngest]))
            freed += [sizes[ages > limit].sum() for limit in days]
        return freed

    # -- shared layers ------------------------------------------------------------------------------------

    def shared(self) -> pd.DataFrame:
        """A row a repository: layers, GiB that one image alone has, GiB that several share, what sharing saves, and what other repositories have too."""
        places = Counter(blob for one in self.repositories for blob in _sizes(one))
        rows = [self._shared_row(one, places) for one in self.by_size]
        names = ["repository", "layers", "of one image (GiB)", "of several (GiB)", "sharing saves (GiB)", "also in other repositories (GiB)"]
        return _by_repository(rows, names)

    def _shared_row(self, one: Stored, places: Counter[str]) -> tuple[str, ...]:
        sizes, images = _sizes(one), Counter(blob for mine in one.blobs.values() for blob in mine)
        alone = sum(sizes[blob] for blob, count in images.items() if count == 1)
        saved = sum(sizes[blob] * (count - 1) for blob, count in images.items())
        elsewhere = sum(size for blob, size in sizes.items() if places[blob] > 1)
        return (one.repository, f"{len(sizes):,}", *(f"{size / GIB:,.1f}" for size in (alone, sum(sizes.values()) - alone, saved, elsewhere)))

    @property
    def across(self) -> int:
        """The bytes that are stored again because another repository has the same layer; a push that mounts it there stores them once only
        where the registry's blob mounting is on."""
        together: dict[str, int] = {}
        for one in self.repositories:
            together |= _sizes(one)
        return self.stored - sum(together.values())

    @property
    def sharing(self) -> str:
        """What sharing saves, and what it does not reach, in a sentence."""
        return f"Sharing layers saves {gib(self.summed - self.stored)}. {gib(self.across)} are stored again because another repository has the same layer."

    # -- what a policy would save -------------------------------------------------------------------------

    def savings(self, policy: str | Mapping[str, Any] = "") -> dict[str, Saving]:
        """What `policy` (empty: the proposal) would save in each repository, images in use shielded; the largest repository first."""
        return {one.repository: self._saving(one, policy or proposal()) for one in self.by_size}

    def _saving(self, one: Stored, policy: str | Mapping[str, Any]) -> Saving:
        shielded = shield(policy, one.images, self.used.get(one.repository, {}), self.end).policy
        return saving(one, *settled(shielded, one.images, self.end), self.prices)

    # -- vulnerabilities ----------------------------------------------------------------------------------

    def vulnerabilities(self) -> pd.DataFrame:
        """A row a repository: images scanned, findings by severity of the newest image and of those in use, images with critical ones."""
        rows = []
        for one in self.by_size:
            found = [record for record in one.images if "findings" in record]
            newest = max(found, key=lambda record: record["pushedAt"], default={})
            runs = findings_in_use(one, self.used.get(one.repository, {}))
            critical = sum(bool(record["findings"].get("CRITICAL")) for record in found)
            running = _severities(runs) if self.used.get(one.repository) else "none in use"
            rows.append((one.repository, f"{len(found):,}", _severities(newest.get("findings", {})), running, f"{critical:,}"))
        names = ["repository", "scanned", "newest image", "images in use, together", "images with critical ones"]
        return _by_repository(rows, names)

    def findings(self) -> pd.DataFrame:
        """Findings of images in use by repository (rows) and severity (columns)."""
        rows = {one.repository: findings_in_use(one, self.used.get(one.repository, {})) for one in self.by_size}
        return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(SEVERITIES)).fillna(0).astype(int)


def open_registry(made_up: bool = True, only: Sequence[str] = (), **place: str) -> Registry:
    """The made-up registry, or that of an account (all repositories of the region, or `only` those), entered as by `helpers.aws.connect`."""
    if made_up:
        repositories, used = sample_registry.registry()
        return Registry("a made-up registry", repositories, used, (), table_prices(SAMPLE_REGION), sample_registry.END)
    return read_registry(connect(**place), only)


def read_registry(aws: Aws, only: Sequence[str] = ()) -> Registry:
    """The registry of an account in the session's region; reads only."""
    ecr = aws.client("ecr")
    named = {"repositoryNames": list(only)} if only else {}
    found = [one for page in ecr.get_paginator("describe_repositories").paginate(**named) for one in page["repositories"]]
    uses = find_uses(aws)
    repositories, used = [], {}
    for one in found:
        name = one["repositoryName"]
        stored = read(ecr, name)
        repositories.append(Stored(name, stored.images, stored.blobs, stored.unread, current_policy(ecr, name)))
        used[name] = used_digests(uses.found, stored.images, [one["repositoryUri"], name])
    return Registry(f"account {aws.account}, {aws.region}", repositories, used, uses.unseen, prices(aws), datetime.now(timezone.utc), aws.account)


def untagged_share(one: Stored) -> float:
    """The share of images without a tag that no manifest list needs, 0 to 1."""
    children = {digest for record in one.images for digest in record.get("references", ())}
    own = [record for record in one.images if record["digest"] not in children]
    return sum(not record["tags"] for record in own) / len(own) if own else 0.0


def youngest_use(one: Stored, end: datetime) -> dict[str, float]:
    """For each blob of a repository the age in days of the newest image that has it."""
    youngest: dict[str, float] = {}
    for record in sorted(one.images, key=lambda record: record["pushedAt"]):
        age = (end - record["pushedAt"]) / timedelta(days=1)
        youngest |= dict.fromkeys(one.blobs.get(record["digest"], ()), age)
    return youngest


def findings_in_use(one: Stored, used: Iterable[str]) -> Counter[str]:
    """The findings of the images in use by severity, those of a manifest list's images too."""
    records = {record["digest"]: record for record in one.images}
    running = set(used)
    running |= {child for digest in running for child in records.get(digest, {}).get("references", ())}
    total: Counter[str] = Counter()
    for digest in running:
        total.update(records.get(digest, {}).get("findings", {}))
    return total


def savings_table(savings: Mapping[str, Saving]) -> pd.DataFrame:
    """A row a repository: images now and left, GiB now and freed, the sum of the sizes of what goes, money saved a month; and the sum."""
    rows = [_saving_row(name, [one]) for name, one in savings.items()]
    currency = next((one.currency for one in savings.values()), "USD")
    names = ["repository", "images", "go", "stored (GiB)", "freed (GiB)", "their sizes add up to (GiB)", f"{currency} a month saved"]
    return _by_repository([*rows, _saving_row("all", list(savings.values()))], names)


def _saving_row(name: str, some: Sequence[Saving]) -> tuple[str, ...]:
    total = {field: sum(getattr(one, field) for one in some) for field in ("images", "expired", "later", "bytes_before", "bytes_freed", "summed_freed", "monthly")}
    gone = total["expired"] + total["later"]
    sizes = (f"{total[field] / GIB:,.1f}" for field in ("bytes_before", "bytes_freed", "summed_freed"))
    return (name, f"{total['images']:,}", f"{gone:,}", *sizes, f"{total['monthly']:,.2f}")


def _by_repository(rows: Sequence[tuple[Any, ...]], names: list[str]) -> pd.DataFrame:
    """A table whose rows are named by the first column, with that column's name in the same line as the others."""
    return pd.DataFrame(rows, columns=names).set_index(names[0]).rename_axis(index=None, columns=names[0])


def _severities(found: Mapping[str, int]) -> str:
    return ", ".join(f"{found[severity]:,} {severity.lower()}" for severity in WORST if found.get(severity)) or ("none of these" if found else "not scanned")


def _sizes(one: Stored) -> dict[str, int]:
    return one.union(one.blobs)
