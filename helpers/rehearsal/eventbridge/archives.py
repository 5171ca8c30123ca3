"""Record the events of a bus in its archives."""

from __future__ import annotations

from typing import Any

from helpers.rehearsal.eventbridge import engine


def record(event: dict[str, Any]) -> None:
    """Keep an event, as MiniStack does, in every archive of its bus whose pattern it matches, and count it and its bytes."""
    from ministack.core.responses import get_account_id, get_region
    from ministack.services import eventbridge

    bus = f"arn:aws:events:{get_region()}:{get_account_id()}:event-bus/{event['EventBusName']}"
    text = engine.text_of(event)
    kept = {name: value for name, value in event.items() if name != "_DispatchPath"}
    for archive in eventbridge._archives.values():
        pattern = archive["EventPattern"]
        if archive["EventSourceArn"] == bus and (not pattern or engine.matches(pattern, text)):
            archive.setdefault("Events", []).append(kept)
            archive["EventCount"] += 1
            archive["SizeBytes"] += len(text.encode())
