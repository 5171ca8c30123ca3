"""What ECR storage costs a month: the Pricing API first, a dated table where it cannot be asked.

What AWS calls GB on the bill is 2^30 bytes, so everything here counts GiB. https://aws.amazon.com/ecr/pricing/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from helpers.aws.errors import explain
from helpers.aws.pricing import products
from helpers.aws.session import Aws

GIB = 2**30
TABLE_DATE = "table of November 2026"
ARCHIVE_TIER_GIB = 150 * 1024  # up to 150 TB a month the archive costs what standard storage does


@dataclass(frozen=True)
class Prices:
    """Prices in `currency`: storage a GiB-month (the archive's above 150 TB too), and restoring from the archive a GiB.

    `source` says where they come from and of what date.
    """

    region: str
    currency: str
    source: str
    standard: float = 0.10
    archive: float = 0.10
    archive_above: float = 0.07
    restore: float = 0.03

    def __str__(self) -> str:
        return f"{self.standard:.2f} {self.currency} a GiB-month in {self.region} ({self.source})"

    def monthly(self, standard_bytes: float, archive_bytes: float = 0.0) -> float:
        """What so many bytes cost a month."""
        archived = archive_bytes / GIB
        below = min(archived, ARCHIVE_TIER_GIB)
        return standard_bytes / GIB * self.standard + below * self.archive + (archived - below) * self.archive_above


def table_prices(region: str, why: str = "") -> Prices:
    """The dated table's prices, the same in every region."""
    return Prices(region, "USD", f"{TABLE_DATE}; {why}" if why else TABLE_DATE)


def prices(aws: Aws) -> Prices:
    """The prices of the session's region: storage from the Pricing API where it answers, the rest from the table; `source` says so."""
    try:
        found = storage_price(products(aws, "AmazonECR", aws.region))
    except (BotoCoreError, ClientError) as error:
        return table_prices(aws.region, f"the Pricing API was not reached: {explain(error).what}")
    if found is None:
        return table_prices(aws.region, "the Pricing API has no storage price")
    price, currency = found
    return Prices(aws.region, currency, f"Pricing API, {date.today()}; the archive from the {TABLE_DATE}", standard=price)


def storage_price(found: Iterable[Mapping[str, Any]]) -> tuple[float, str] | None:
    """The price of a GiB-month of private storage among the Pricing API's products, and its currency; None where there is none."""
    for product in found:
        usage = product["product"]["attributes"].get("usagetype", "")
        if not re.fullmatch(r"([A-Z]{2,4}\d?-)?TimedStorage-ByteHrs", usage):
            continue
        for term in product["terms"].get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                (currency, price), *_ = dimension["pricePerUnit"].items()
                if float(price) > 0:
                    return float(price), currency
    return None
