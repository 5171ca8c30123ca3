"""The rows of a registry's repositories in a capacity report over many: storage, which nothing limits and everybody pays."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.aws import capacity
from helpers.aws.capacity import FITS, SAVES, Row, Rows
from helpers.ecr.prices import GIB
from helpers.ecr.saving import Saving
from helpers.ecr.storage import Registry
from helpers.ecr.stored import Stored

WORTH = 1.0  # a month, in the currency of the prices: a smaller saving is no reason to change anything


def record(registry: Registry, savings: Mapping[str, Saving]) -> Rows:
    """The rows of a registry's repositories, shown and kept for a report over many; `savings` are those of the policy that was tried."""
    return capacity.record(row(registry, one, savings[one.repository]) for one in registry.by_size)


def row(registry: Registry, one: Stored, saving: Saving) -> Row:
    """The row: what is stored, and what the policy that was tried would leave of it."""
    worth = saving.monthly > WORTH
    little = "" if worth or not saving.monthly else f"The lifecycle policy that was tried saves less than {WORTH:g} {saving.currency} a month: "
    return Row(
        "ECR", one.repository, SAVES if worth else FITS, f"lifecycle policy: {'yes' if one.policy else 'none'}", "set the lifecycle policy that was tried" if worth else "nothing",
        account=registry.account, region=registry.prices.region, made_up=not registry.account,
        limit="storage, paid by the byte", measured=one.bytes_of() / GIB, unit="GiB", no_day="nothing to run out",
        cost_now=saving.monthly_before, cost_then=saving.monthly_after if worth else saving.monthly_before, currency=saving.currency, prices=str(registry.prices),
        note=" ".join([little + saving.finding, *(registry.unseen if worth else ())]), seen_until=registry.end.isoformat(timespec="minutes"),
    )  # fmt: skip
