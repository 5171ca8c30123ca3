"""Remember what happened, as DescribeEvents tells it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

GROUP = "replication-group"
CLUSTER = "cache-cluster"
PARAMETER_GROUP = "cache-parameter-group"
SUBNET_GROUP = "cache-subnet-group"
USER = "user"
USER_GROUP = "user-group"
# Source: AWS, DescribeEvents: by default the last hour; kept for 14 days.
DEFAULT_MINUTES = 60


class Events:
    """All events of the account, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = []

    def add(self, source_type: str, source: str, message: str) -> None:
        """Remember that something happened to a source now."""
        event = {
            "SourceIdentifier": source,
            "SourceType": source_type,
            "Message": message,
            "Date": datetime.now(UTC),
        }
        with self._lock:
            self._events.append(event)

    def find(
        self,
        source: str | None = None,
        source_type: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        minutes: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the matching events, newest first."""
        last = end or datetime.now(UTC)
        first = start or last - timedelta(minutes=minutes or DEFAULT_MINUTES)
        with self._lock:
            events = list(reversed(self._events))
        return [
            event
            for event in events
            if first <= event["Date"] <= last
            and source in (None, event["SourceIdentifier"])
            and source_type in (None, event["SourceType"])
        ]
