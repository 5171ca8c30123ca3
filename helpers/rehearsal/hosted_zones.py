"""Let a rehearsal choose the id of the hosted zone that it makes: a run names its zone by id, before there is one."""

from __future__ import annotations

import re
from typing import Any

REFERENCE = re.compile(rb"<CallerReference>(Z[A-Z0-9]{5,31})</CallerReference>")


def let_ids_be_chosen() -> None:
    """Make MiniStack's CreateHostedZone take the zone's id from a caller reference that has the form of an id.

    Route 53 gives every zone an id by chance, and a caller reference of any other form does the same here.
    """
    from ministack.services import route53

    create, by_chance = route53._create_hosted_zone, route53._zone_id

    def create_hosted_zone(body: bytes, query: dict[str, Any]) -> Any:
        chosen = REFERENCE.search(body)
        # Requests are handled one after the other, so this is back before the next.
        route53._zone_id = (lambda: chosen[1].decode()) if chosen else by_chance
        try:
            return create(body, query)
        finally:
            route53._zone_id = by_chance

    route53._create_hosted_zone = create_hosted_zone
