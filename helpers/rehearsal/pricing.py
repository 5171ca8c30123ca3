"""The Pricing API in the local cloud, which MiniStack lacks and takes for S3: what ECR storage costs, and nothing of other services."""

from __future__ import annotations

import json
from typing import Any

from helpers.rehearsal.stricter import Answer, Handler, refuse, reply

TARGET = "AWSPriceListService"
ECR_STORAGE = "0.1000000000"  # USD a GB-month in every region. Source: https://aws.amazon.com/ecr/pricing/, November 2026


def install(handlers: dict[str, Handler]) -> None:
    """Put the service in MiniStack, by its name in a request's signature and by its target."""
    from ministack.core import router

    handlers["pricing"] = handle
    router.SERVICE_PATTERNS["pricing"] = {"target_prefixes": [TARGET], "host_patterns": [r"pricing\."], "credential_scope": "pricing"}


async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
    """Answer GetProducts; another operation is refused."""
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    if operation != "GetProducts":
        return refuse("InvalidParameterException", f"The local cloud has no {operation}.", 400)
    asked = json.loads(body or b"{}")
    region = next((one["Value"] for one in asked.get("Filters", ()) if one["Field"] == "regionCode"), "")
    products = [json.dumps(_storage(region))] if asked.get("ServiceCode") == "AmazonECR" else []
    return reply({"FormatVersion": "aws_v1", "PriceList": products})


def _storage(region: str) -> dict[str, Any]:
    """The product of a GB-month in ECR, in the API's shape."""
    dimension = {"unit": "GB-Mo", "pricePerUnit": {"USD": ECR_STORAGE}}
    attributes = {"servicecode": "AmazonECR", "regionCode": region, "usagetype": "TimedStorage-ByteHrs"}
    return {"product": {"productFamily": "EC2 Container Registry", "attributes": attributes}, "terms": {"OnDemand": {"1": {"priceDimensions": {"1": dimension}}}}}
