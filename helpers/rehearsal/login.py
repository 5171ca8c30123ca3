"""The login of a Redis group, from a Secrets Manager secret: an AUTH token as text, or JSON with username and password."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from helpers.rehearsal.wire import WireError


class Login:
    """What AUTH is given, as the secret says; read when it is first needed, and again when it was refused.

    `client` makes a boto3 client of a service. The words stay in memory, and out of every text.
    """

    def __init__(self, secret: str, client: Callable[[str], Any]) -> None:
        self._secret = secret
        self._client = client
        self._words: tuple[str, ...] = ()

    def words(self) -> tuple[str, ...]:
        """Return (token,) or (user, password). Raises `WireError` where the secret cannot be read."""
        return self._words or self._read()

    def renewed(self, refused: tuple[str, ...]) -> bool:
        """Read the secret again after a login was refused; return whether it says something else now."""
        return self._read() != refused

    def _read(self) -> tuple[str, ...]:
        try:
            self._words = words_of(self._client("secretsmanager").get_secret_value(SecretId=self._secret)["SecretString"])
        except (BotoCoreError, ClientError) as error:
            raise WireError(f"the login cannot be read: {error}") from None
        return self._words


class NoLogin:
    """Of a group without AUTH."""

    def words(self) -> tuple[str, ...]:
        """Return nothing to log in with."""
        return ()

    def renewed(self, refused: tuple[str, ...]) -> bool:
        """Return that there is nothing else to try."""
        return False


def words_of(text: str) -> tuple[str, ...]:
    """Return the words for AUTH that a secret holds: (token,), (password,) or (user, password).

    Source: Redis, AUTH; AWS, ElastiCache user guide, "Authenticating with AUTH" and "Role-Based Access Control".
    """
    if not text.lstrip().startswith("{"):
        return (text.strip(),)
    try:
        facts = json.loads(text)
    except ValueError:
        return (text.strip(),)  # A token may begin with a brace.
    return tuple(str(facts[name]) for name in ("username", "password") if facts.get(name))
