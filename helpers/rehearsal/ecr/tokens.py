"""Authorization tokens that expire."""

from __future__ import annotations

import base64
import secrets
import threading
import time

# Source: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
LIFETIME_S = 12 * 3600.0
USER = "AWS"


class Tokens:
    """The passwords that were given out, and until when each is good."""

    def __init__(self) -> None:
        self.lifetime_s = LIFETIME_S
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def mint(self) -> tuple[str, float]:
        """Return a new token, base64 of "AWS:password", and when it expires, in seconds since 1970."""
        password, until = secrets.token_urlsafe(96), time.time() + self.lifetime_s
        with self._lock:
            self._until[password] = until
        return base64.b64encode(f"{USER}:{password}".encode()).decode(), until

    def expire(self) -> None:
        """Let all tokens that were given out be expired from now on."""
        with self._lock:
            self._until = dict.fromkeys(self._until, 0.0)

    def check(self, authorization: str) -> str:
        """Return what an Authorization header is worth: "good", "expired", "unknown", or "absent" where it is no Basic one."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "basic" or not given:
            return "absent"
        try:
            user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            return "unknown"
        with self._lock:
            until = self._until.get(password)
        if until is None or user != USER:
            return "unknown"
        return "good" if time.time() < until else "expired"
