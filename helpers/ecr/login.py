"""The login of a registry: a token of GetAuthorizationToken, asked for when it is needed and again when it has expired.

It is kept in memory, sent in a header, and neither printed, logged nor written: not to a command line, not to Docker's config.json.
https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from helpers.aws import RunbookError
from helpers.ecr.words import explain_ecr

PRIVATE, PUBLIC = "private", "public"
PUBLIC_REGISTRY = "https://public.ecr.aws"
PUBLIC_REGION = "us-east-1"  # the only one that gives tokens for it
EARLY_S = 60.0  # before its end a token is not used any more


@dataclass
class Login:
    """The login of the private or the public registry; `client` is boto3's of `ecr` or `ecr-public`."""

    client: Any
    visibility: str = PRIVATE
    refreshed: int = field(default=0, init=False)
    _token: str = field(default="", init=False, repr=False)
    _until: float = field(default=0.0, init=False, repr=False)
    _endpoint: str = field(default="", init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def endpoint(self) -> str:
        """Where the registry is: `https://012345678901.dkr.ecr.eu-west-1.amazonaws.com`."""
        self.header()
        return self._endpoint

    def header(self) -> str:
        """The Authorization header; a token that has expired, or is about to, is replaced first. Raises `RunbookError`."""
        with self._lock:
            if time.time() > self._until - EARLY_S:
                self._ask()
            return f"Basic {self._token}"

    def renew(self, refused: str) -> bool:
        """Get a new token where the header `refused` is still the present one; False where this login was renewed too often to help."""
        with self._lock:
            if refused != f"Basic {self._token}":
                return True
            if self.refreshed >= 5:
                return False
            self.refreshed += 1
            self._ask()
            return True

    def _ask(self) -> None:
        try:
            given = self.client.get_authorization_token()["authorizationData"]
        except Exception as error:
            raise explain_ecr(error) from error
        if self.visibility == PUBLIC:
            if "amazonaws.com" not in self.client.meta.endpoint_url:
                raise RunbookError(f"{self.client.meta.endpoint_url} is not AWS, so its token is not sent to {PUBLIC_REGISTRY}.", "Push to a private repository, or use the real service.")
            given = {**given, "proxyEndpoint": PUBLIC_REGISTRY}
        else:
            given = given[0]
        self._token, self._until, self._endpoint = given["authorizationToken"], given["expiresAt"].timestamp(), given["proxyEndpoint"]
