"""Signed addresses of layers, which need no authorization."""

from __future__ import annotations

import secrets
import time

# Source: what GetDownloadUrlForLayer gives is an address of S3 that is signed for an hour.
LINK_S = 3600.0


class Links:
    """The addresses that were made, and until when each is good."""

    def __init__(self) -> None:
        self._until: dict[str, tuple[str, float]] = {}

    def make(self, endpoint: str, digest: str) -> str:
        """Return an address of a layer for an hour."""
        key = secrets.token_urlsafe(24)
        self._until[key] = (digest, time.time() + LINK_S)
        return f"{endpoint}/layers/{digest}?X-Amz-Signature={key}"

    def good(self, digest: str, key: str) -> bool:
        """Return whether an address is one that was made, and still good."""
        made_for, until = self._until.get(key, ("", 0.0))
        return made_for == digest and time.time() < until
