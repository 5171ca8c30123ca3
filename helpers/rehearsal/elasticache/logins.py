"""Who may log in at the nodes of a group: the ACL users of its servers, from AUTH tokens or from user groups."""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helpers.rehearsal.elasticache.api import Fault

DEFAULT_USER = "default"
EVERYTHING = "on ~* &* +@all"
# Source: AWS, CreateReplicationGroup (AuthToken): "The only permitted printable special characters are ...".
TOKEN_CHARACTERS = frozenset(string.ascii_letters + string.digits + "!&#$^<>-")
TOKEN_LENGTHS = (16, 128)


@dataclass(frozen=True)
class Login:
    """One ACL user of the servers; without hashes (SHA-256) of passwords it needs none."""

    name: str = DEFAULT_USER
    access: str = EVERYTHING
    hashes: tuple[str, ...] = ()

    def rules(self) -> list[str]:
        """Return the ACL rules of the user as words, the service's own restrictions not yet among them."""
        passwords = [f"#{digest}" for digest in self.hashes] or ["nopass"]
        return ["reset", *self.access.split(), *passwords]


@dataclass
class Logins:
    """The users of one group as they are now; changed in place, so that a node started later has them too."""

    present: tuple[Login, ...] = (Login(),)


@dataclass
class Authentication:
    """How clients of one group say who they are: by AUTH tokens (hashes, the newest last), by user groups, or not."""

    tokens: tuple[str, ...] = ()
    user_groups: tuple[str, ...] = ()
    tokens_changed_at: datetime | None = None
    # What PendingModifiedValues shows while a change is under way.
    pending: dict[str, Any] = field(default_factory=dict)

    @property
    def all_user_groups(self) -> set[str]:
        """Return the user groups that let in, and those that a change under way adds."""
        added = self.pending.get("UserGroups", {}).get("UserGroupIdsToAdd") or []
        return {*self.user_groups, *(name.lower() for name in added)}

    def describe_token(self) -> dict[str, Any]:
        """Return what group and members show of the AUTH token, which is never the token."""
        return {"AuthTokenEnabled": bool(self.tokens), "AuthTokenLastModifiedDate": self.tokens_changed_at}


def closed() -> Login:
    """Return the default user that lets nobody in, for a user group that has none of that name."""
    return Login(access="off")


def hash_of(password: str) -> str:
    """Return what the servers and this service remember of a password or token."""
    return hashlib.sha256(password.encode()).hexdigest()


def check_token(token: str) -> str:
    """Return the hash of an AUTH token, or raise the service's error, which does not repeat it."""
    low, high = TOKEN_LENGTHS
    if not low <= len(token) <= high or not set(token) <= TOKEN_CHARACTERS:
        raise Fault(
            "InvalidParameterValueException",
            f"Invalid AuthToken provided: it must have {low} to {high} characters, which are letters, digits "
            "and !, &, #, $, ^, <, > and -.",
        )
    return hash_of(token)
