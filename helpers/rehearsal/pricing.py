"""The Pricing API in the local cloud: refused, so that a rehearsal shows the dated tables, and says so.

A price list of a local cloud would be an invented one. Without this MiniStack looks for twenty seconds for a service that could answer.
"""

from __future__ import annotations

from typing import Any

from helpers.rehearsal.stricter import Answer, Handler, refuse

TARGET = "AWSPriceListService"


def install(handlers: dict[str, Handler]) -> None:
    """Put the refusal where MiniStack looks for a service by its target."""
    from ministack.core import router

    router.SERVICE_PATTERNS["pricing"] = {"target_prefixes": [TARGET]}
    handlers["pricing"] = _refused


async def _refused(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
    return refuse("AccessDeniedException", "The local cloud has no price list.", 400)
