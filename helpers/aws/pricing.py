"""The Pricing API: what AWS asks for a service in a region, product by product."""

from __future__ import annotations

import json
from typing import Any

from helpers.aws.session import RETRIES, Aws

PRICING_REGION = "us-east-1"  # one of the three where the Pricing API is


def products(aws: Aws, service: str, region: str, **attributes: str) -> list[dict[str, Any]]:
    """Every product of `service` (as AmazonEFS) in `region` with these `attributes`, as the API has it. Raises botocore's errors."""
    pages = aws.session.client("pricing", region_name=PRICING_REGION, config=RETRIES).get_paginator("get_products")
    wanted = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in {"regionCode": region, **attributes}.items()]
    return [json.loads(each) for page in pages.paginate(ServiceCode=service, Filters=wanted) for each in page["PriceList"]]
