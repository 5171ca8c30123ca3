"""What ElastiCache nodes cost: the Pricing API first, a dated table where it cannot be asked. On demand, by the node-hour.

https://aws.amazon.com/elasticache/pricing/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from helpers.aws.errors import explain
from helpers.aws.pricing import products
from helpers.aws.session import Aws

MONTH_H = 730  # hours in a month, as AWS's own calculator counts
VALKEY_SHARE = 0.8  # Valkey's price for that of Redis OSS, on every node type that has both
ENGINES = ("Redis", "Valkey")  # as the Pricing API writes them
TABLE_REGION = "us-east-1"
TABLE_DATE = "table of October 2026"

# USD an hour in us-east-1 for Redis OSS, large upwards in the order of helpers.elasticache.node_types
_SIZES_G = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge")
_SIZES_5 = ("large", "xlarge", "2xlarge", "4xlarge", "12xlarge", "24xlarge")
_SIZES_M4 = ("large", "xlarge", "2xlarge", "4xlarge", "10xlarge")
_SIZES_R4 = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")
_SIZES_T = ("micro", "small", "medium")
_REDIS = {
    "t3": (_SIZES_T, (0.017, 0.034, 0.068)),
    "t4g": (_SIZES_T, (0.016, 0.032, 0.065)),
    "m4": (_SIZES_M4, (0.156, 0.311, 0.623, 1.245, 3.112)),
    "r4": (_SIZES_R4, (0.228, 0.455, 0.91, 1.82, 3.64, 7.28)),
    "m5": (_SIZES_5, (0.156, 0.311, 0.623, 1.245, 3.744, 7.488)),
    "r5": (_SIZES_5, (0.216, 0.431, 0.862, 1.724, 5.184, 10.368)),
    "m6g": (_SIZES_G, (0.149, 0.297, 0.593, 1.186, 2.372, 3.557, 4.743)),
    "r6g": (_SIZES_G, (0.206, 0.411, 0.821, 1.642, 3.284, 4.925, 6.567)),
    "m7g": (_SIZES_G, (0.158, 0.315, 0.629, 1.257, 2.514, 3.770, 5.028)),
    "r7g": (_SIZES_G, (0.219, 0.437, 0.873, 1.745, 3.491, 5.235, 6.981)),
    "c7gn": (_SIZES_G, (0.255, 0.509, 1.018, 2.037, 4.073, 6.110, 8.147)),
}
_VALKEY_ONLY = {
    "m8g": (_SIZES_G, (0.1266, 0.2531, 0.5062, 1.0125, 2.025, 3.0375, 4.05)),
    "r8g": (_SIZES_G, (0.1756, 0.3511, 0.7022, 1.4044, 2.8088, 4.2132, 5.6177)),
}


def _hourly(table: Mapping[str, tuple[tuple[str, ...], tuple[float, ...]]], share: float = 1.0) -> dict[str, float]:
    return {f"cache.{family}.{size}": price * share for family, (sizes, prices) in table.items() for size, price in zip(sizes, prices, strict=True)}


TABLE = {"redis": _hourly(_REDIS), "valkey": {**_hourly(_REDIS, VALKEY_SHARE), **_hourly(_VALKEY_ONLY)}}


@dataclass(frozen=True)
class Prices:
    """What an hour of a node costs in `currency`, by engine and node type; `source` says where that is from and of what date."""

    region: str
    currency: str
    source: str
    hourly: Mapping[str, Mapping[str, float]] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.currency} in {self.region}, on demand ({self.source})"

    def monthly(self, engine: str, node_type: str, nodes: int = 1) -> float | None:
        """What so many nodes cost in a month of 730 h; None where the price is not known."""
        price = self.hourly.get(engine, {}).get(node_type)
        return None if price is None else price * MONTH_H * nodes


def prices(aws: Aws) -> Prices:
    """The prices of the session's region from the Pricing API, else from the table; `source` says so.

    Needs `pricing:GetProducts`; without it, and where the API does not answer, the table serves.
    """
    try:
        found = [one for engine in ENGINES for one in products(aws, "AmazonElastiCache", aws.region, productFamily="Cache Instance", cacheEngine=engine)]
    except (BotoCoreError, ClientError) as error:
        return table_prices(aws.region, f"the Pricing API was not reached: {explain(error).what}")
    hourly, currency = read_products(found)
    missing = [engine for engine in TABLE if not hourly.get(engine)]
    if missing:
        return table_prices(aws.region, f"the Pricing API has no price of {' and '.join(missing)} nodes")
    return Prices(aws.region, currency, f"Pricing API, {date.today()}", hourly)


def table_prices(region: str, why: str = "") -> Prices:
    """The dated table's prices, which are those of us-east-1; `source` says so where the region is another."""
    source = TABLE_DATE + ("" if region == TABLE_REGION else f"; of {TABLE_REGION}, because {region} is not in it")
    return Prices(region, "USD", f"{source}; {why}" if why else source, TABLE)


def read_products(found: Iterable[Mapping[str, Any]]) -> tuple[dict[str, dict[str, float]], str]:
    """Prices an hour by engine and node type in the Pricing API's products, and their currency.

    Outposts, serverless and extended support have usage types of their own and are left out, as are the lines of 0
    that stand for reserved nodes.
    """
    hourly: dict[str, dict[str, float]] = {"redis": {}, "valkey": {}}
    currency = "USD"
    for product in found:
        attributes = product["product"]["attributes"]
        engine = attributes.get("cacheEngine", "").lower()
        usage = re.fullmatch(r"(?:[A-Z]{2,4}\d?-)?NodeUsage:(cache\.\S+)", attributes.get("usagetype", ""))
        if engine not in hourly or not usage:
            continue
        for term in product["terms"].get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                (unit, price), *_ = dimension["pricePerUnit"].items()
                if float(price) > 0:
                    hourly[engine][usage[1]], currency = float(price), unit
    return hourly, currency
