"""What every adapter shares: a setting as it was read, and the error for one that somebody else changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from helpers.aws import UNKNOWN, Aws, RunbookError, planning, wait

ENDPOINT = re.compile(r"[A-Za-z0-9_.-]+:[0-9]{1,5}")
NOT_SHOWN = "(something that is no host:port)"
SEEN_WITHIN = 10.0  # seconds in which a read has to show what was written
HOW_TO_LOOK = {
    "/": "ssm get-parameter-history",
    "secretsmanager:": "secretsmanager list-secret-version-ids",
    "appconfig:": "appconfig list-deployments",
    "route53:": "CloudTrail's ChangeResourceRecordSets events",
}


@dataclass(frozen=True)
class Setting:
    """A setting as it was read; `version` is "" or 0 where it does not exist.

    `value` is "host:port" (for route53 the host), or in parentheses why it holds none: whatever else the store
    has there is not kept, so that a setting can be shown and journaled.
    """

    where: str
    value: str
    version: str | int


def shown(text: str) -> str:
    """`text` where it is an endpoint; anything else might be a secret and is not shown."""
    return text if UNKNOWN in text or ENDPOINT.fullmatch(text) else NOT_SHOWN


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """`host:port` -> (host, port); of an endpoint that a plan does not know yet neither is known."""
    if endpoint == UNKNOWN:
        return UNKNOWN, UNKNOWN
    host, _, port = endpoint.rpartition(":")
    return host, port


def changed_meanwhile(where: str, found: str, expected: str) -> RunbookError:
    """The error that says so: somebody else changed the setting."""
    look = next((how for start, how in HOW_TO_LOOK.items() if where.startswith(start)), "the store's history")
    again = " again" if found == expected else f", not {expected!r}"
    return RunbookError(
        f"{where} holds {found!r}{again}: somebody changed it meanwhile. It was left as it is.",
        f"Find out who and why ({look}), put it right, and resume the run.",
    )


def await_seen(aws: Aws, before: Setting, value: str, read: Callable[[Aws, str], Setting]) -> None:
    """Return once a read shows `value`. Raises `RunbookError` where it shows another one; in a plan nothing is read."""
    if planning():
        return
    seen = before

    def state() -> str:
        nonlocal seen
        seen = read(aws, before.where)
        return "seen" if seen.value == value else "old" if seen.value == before.value else "other"

    if wait(f"{before.where} holds {value}", state, until=("seen", "other"), timeout=SEEN_WITHIN) == "other":
        raise changed_meanwhile(before.where, seen.value, value)
