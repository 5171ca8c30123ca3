"""What EFS costs a month: the Pricing API first, a dated table where it cannot be asked.

What AWS calls GB on the bill is 2^30 bytes, so everything here counts GiB. https://aws.amazon.com/efs/pricing/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from helpers.aws.errors import RunbookError, explain
from helpers.aws.pricing import products
from helpers.aws.session import Aws
from helpers.efs.credits import GIB

BASELINE_GIB_A_MIBPS = 20  # Standard storage includes 1 MiB/s a 20 GiB


@dataclass(frozen=True)
class Prices:
    """Prices in `currency`: storage a GiB-month, access a GiB, provisioned throughput a MiB/s-month.

    `source` says where they come from and of what date.
    """

    region: str
    currency: str
    source: str
    standard: float
    one_zone: float
    ia: float
    ia_elastic: float
    archive: float
    ia_access: float
    archive_access: float
    elastic_read: float
    elastic_write: float
    provisioned: float

    def __str__(self) -> str:
        return f"{self.currency} in {self.region} ({self.source})"


_RATES = [each.name for each in fields(Prices)][3:]
_VIRGINIA = dict(zip(_RATES, (0.30, 0.16, 0.025, 0.016, 0.008, 0.01, 0.03, 0.03, 0.06, 6.00), strict=True))
TABLE_DATE = "table of November 2026"
TABLE = {
    "us-east-1": _VIRGINIA,
    "ap-northeast-1": _VIRGINIA | {"standard": 0.36, "elastic_read": 0.04, "elastic_write": 0.07, "provisioned": 7.20},
}
INCOMPLETE = {"ap-northeast-1": "; One Zone, IA and Archive as in us-east-1"}

# The usage type without its region, and who reads or writes where a price differs by that.
_USAGE = {
    ("TimedStorage-ByteHrs", ""): "standard",
    ("TimedStorage-Z-ByteHrs", ""): "one_zone",
    ("IATimedStorage-ByteHrs", ""): "ia",
    ("IATimedStorage-ET-ByteHrs", ""): "ia_elastic",
    ("ArchiveTimedStorage-ByteHrs", ""): "archive",
    ("ArchiveTimedStorage-ET-ByteHrs", ""): "archive",
    ("IADataAccess-Bytes", "Read"): "ia_access",
    ("ArchiveDataAccess-Bytes", "Read"): "archive_access",
    ("ETDataAccess-Bytes", "Read"): "elastic_read",
    ("ETDataAccess-Bytes", "Write"): "elastic_write",
}
UNITS = dict.fromkeys(_RATES, ("GB-Mo",)) | dict.fromkeys(("ia_access", "archive_access", "elastic_read", "elastic_write"), ("GB",)) | {"provisioned": ("MiBps-Mo",)}


def prices(aws: Aws | None = None, region: str = "") -> Prices:
    """The prices of `region`, by default the session's, from the Pricing API, else from the table.

    Without a session, or where the API refuses or lacks a price, the table fills in and `source` says so. Raises
    `RunbookError` where no region is given or found.
    """
    region = region or (aws.region if aws else "")
    if not region:
        raise RunbookError("Prices differ by region and none is given.", "Give `region`, as us-east-1.")
    if aws is None:
        return table_prices(region)
    try:
        found = products(aws, "AmazonEFS", region)
    except (BotoCoreError, ClientError) as error:
        return table_prices(region, f"the Pricing API was not reached: {explain(error).what}")
    except ValueError:
        return table_prices(region, "the Pricing API's answer was not JSON")
    rates, currency = read_products(found, region)
    missing = [name for name in _RATES if name not in rates]
    if absent := [name for name in ("standard", "provisioned") if name in missing]:
        return table_prices(region, f"the Pricing API has no {absent[0]} price")
    source = f"Pricing API, {date.today()}"
    if missing:
        if currency != "USD":
            raise RunbookError(f"The Pricing API answers in {currency} and lacks {', '.join(missing)}.", "Give `Prices` of your own.")
        source += f"; {', '.join(missing)} from the {TABLE_DATE}"
        rates = _table(region) | rates
    return Prices(region, currency, source, **rates)


def table_prices(region: str, why: str = "") -> Prices:
    """The dated table's prices; a region that it lacks gets those of us-east-1, and `source` says so."""
    source = TABLE_DATE + INCOMPLETE.get(region, "")
    if region not in TABLE:
        source += f"; of us-east-1, because {region} is not in it"
    return Prices(region, "USD", f"{source}; {why}" if why else source, **_table(region))


def _table(region: str) -> dict[str, float]:
    return TABLE.get(region, _VIRGINIA)


def read_products(products: Iterable[Mapping[str, Any]], region: str = "") -> tuple[dict[str, float], str]:
    """The prices by name in the Pricing API's products, and their currency.

    Left out are free tiers, other units than a GB-month, a GB and a MiB/s-month, products of another region than `region` where
    that is given, and what has not the documented shape. USD where there is any, else the currency of most prices.
    https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-the-aws-price-list-bulk-api.html
    """
    found: dict[str, dict[str, float]] = {}
    for product in products:
        try:
            attributes = product["product"]["attributes"]
            name = _name(product["product"].get("productFamily", ""), attributes)
            terms = [each for term in product["terms"]["OnDemand"].values() for each in term["priceDimensions"].values()]
            rates = [(unit, float(price)) for each in terms if each.get("unit") in UNITS.get(name, ()) for unit, price in each["pricePerUnit"].items()]
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        if region and attributes.get("regionCode", region) != region:
            continue
        for currency, price in rates:
            if price > 0:
                found.setdefault(currency, {})[name] = price
    currency = "USD" if "USD" in found or not found else max(found, key=lambda each: len(found[each]))
    return found.get(currency, {}), currency


def _name(family: str, attributes: Mapping[str, str]) -> str:
    if family == "Provisioned Throughput":
        return "provisioned" if attributes.get("throughputClass") == "Provisioned" else ""
    usage = re.sub(r"^[A-Z]{2,4}\d*-", "", attributes.get("usagetype", ""))
    return _USAGE.get((usage, attributes.get("accessType", "") if "DataAccess" in usage else ""), "")


def gib_month(gib_hours: float, hours_in_month: float) -> float:
    """GiB-months of GiB-hours: storage is billed by the hour."""
    return gib_hours / hours_in_month


def provisioned_billable(standard_gib_month: float, provisioned_mibps: float) -> float:
    """MiB/s that are billed: what is provisioned above the 1 MiB/s a 20 GiB that Standard storage includes."""
    return max(0.0, provisioned_mibps - standard_gib_month / BASELINE_GIB_A_MIBPS)


def provisioned_cost(standard_gib_month: float, provisioned_mibps: float, price: float) -> float:
    """What provisioned throughput adds to the bill of a month, at `price` a MiB/s-month."""
    return provisioned_billable(standard_gib_month, provisioned_mibps) * price


def elastic_cost(read_bytes: float, write_bytes: float, read_price: float, write_price: float) -> float:
    """What elastic throughput adds to the bill: bytes moved, and not metered bytes, at prices a GiB."""
    return read_bytes / GIB * read_price + write_bytes / GIB * write_price
