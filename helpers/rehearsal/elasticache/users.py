"""Keep the users and user groups of role-based access control.

Source of the rules: AWS, "Role-Based Access Control (RBAC)", CreateUser and CreateUserGroup.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.rehearsal.elasticache.answers import not_offered
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.logins import DEFAULT_USER, Login, closed, hash_of
from helpers.rehearsal.engines import Engine
from helpers.rehearsal.servers import Server
from helpers.rehearsal.wire import Refused

ENGINES = ("redis", "valkey")
MINIMUM_VERSION = {"redis": "6.0", "valkey": "7.2"}
LONGEST_ID = 40
MOST_PASSWORDS = 2
PASSWORD_LENGTHS = (16, 128)
# Rules of an ACL that set passwords: they have parameters of their own, and no place in a description.
_OF_PASSWORDS = ("reset", "resetpass", "nopass")

InvalidValue = "InvalidParameterValueException"
InvalidCombination = "InvalidParameterCombinationException"


@dataclass
class User:
    """One user; `hashes` are those of its passwords, none where it needs no password."""

    id: str
    name: str
    engine: str
    access: str
    hashes: tuple[str, ...] = ()
    status: str = "active"

    def describe(self, arn: str, groups: list[str]) -> dict[str, Any]:
        """Return the user as the service shows it, without its passwords."""
        password = {"Type": "password", "PasswordCount": len(self.hashes)}
        return {
            "UserId": self.id,
            "UserName": self.name,
            "Status": self.status,
            "Engine": self.engine,
            "MinimumEngineVersion": MINIMUM_VERSION[self.engine],
            "AccessString": self.access,
            "UserGroupIds": groups,
            "Authentication": password if self.hashes else {"Type": "no-password"},
            "ARN": arn,
        }


@dataclass
class UserGroup:
    """One user group, and the change to its members that is under way."""

    id: str
    engine: str
    user_ids: list[str]
    status: str = "creating"
    pending: dict[str, list[str]] = field(default_factory=dict)

    def describe(self, arn: str, replication_groups: list[str]) -> dict[str, Any]:
        """Return the user group as the service shows it."""
        return {
            "UserGroupId": self.id,
            "Status": self.status,
            "Engine": self.engine,
            "UserIds": self.user_ids,
            "MinimumEngineVersion": MINIMUM_VERSION[self.engine],
            "PendingChanges": self.pending,
            "ReplicationGroups": replication_groups,
            "ARN": arn,
        }


class Users:
    """All users and user groups of the account, by id. The service's lock is held around every use."""

    def __init__(self) -> None:
        # AWS's own user, which every account has and nobody can change.
        self.users = {DEFAULT_USER: User(DEFAULT_USER, DEFAULT_USER, "redis", "on ~* +@all")}
        self.groups: dict[str, UserGroup] = {}

    def user(self, user_id: str) -> User:
        """Return a user, or raise the service's error."""
        if user_id.lower() not in self.users:
            raise Fault("UserNotFoundFault", f"User {user_id} not found.")
        return self.users[user_id.lower()]

    def group(self, group_id: str) -> UserGroup:
        """Return a user group, or raise the service's error."""
        if group_id.lower() not in self.groups:
            raise Fault("UserGroupNotFoundFault", f"User group {group_id} not found.")
        return self.groups[group_id.lower()]

    def groups_of(self, user_id: str) -> list[UserGroup]:
        """Return the groups that a user is in."""
        return [group for group in self.groups.values() if user_id in group.user_ids]

    def check_members(self, engine: str, user_ids: list[str]) -> list[str]:
        """Return the ids of users that can be one group of an engine, or raise the service's error."""
        members = [self.user(user_id) for user_id in user_ids]
        for user in members:
            if engine == "redis" and user.engine != "redis":
                raise Fault(InvalidValue, f"User {user.id} is for {user.engine}: a redis user group cannot have it.")
            if engine == "valkey" and not user.hashes:
                raise Fault(InvalidValue, f"User {user.id} needs no password, which valkey does not allow.")
        names = [user.name for user in members]
        if len(set(names)) != len(names):
            raise Fault("DuplicateUserNameFault", "Two users of a user group have the same user name.")
        if engine == "redis" and DEFAULT_USER not in names:
            raise Fault("DefaultUserRequired", f"A redis user group needs a user with the user name {DEFAULT_USER}.")
        return [user.id for user in members]

    def logins_of(self, group_id: str) -> tuple[Login, ...]:
        """Return the users of the servers that a user group means; no default user lets nobody in by that name."""
        members = [self.user(user_id) for user_id in self.group(group_id).user_ids]
        logins = tuple(Login(user.name, user.access, user.hashes) for user in members)
        return logins if any(login.name == DEFAULT_USER for login in logins) else (closed(), *logins)


def check_engine(engine: str) -> str:
    """Return an engine's name in lower case, or raise the service's error."""
    if engine.lower() not in ENGINES:
        raise Fault(InvalidValue, f"Engine must be redis or valkey, not {engine}.")
    return engine.lower()


def passwords_of(parameters: dict[str, Any], engine: str) -> tuple[str, ...] | None:
    """Return the hashes of the passwords that a request gives; () for none needed, None where it does not say.

    Raises the service's error, which does not repeat a password.
    """
    mode = parameters.get("AuthenticationMode") or {}
    kind = mode.get("Type")
    if kind == "iam":
        raise Fault(
            InvalidCombination,
            "IAM authentication is not offered by the local cloud: its servers cannot ask IAM who a client is.",
        )
    passwords = parameters.get("Passwords") or mode.get("Passwords") or []
    without = bool(parameters.get("NoPasswordRequired")) or kind == "no-password-required"
    if passwords and without:
        raise Fault(InvalidCombination, "Passwords cannot be specified where no password is required.")
    if without:
        if engine == "valkey":
            raise Fault(InvalidCombination, "A valkey user needs a password: no-password-required is for redis users.")
        return ()
    if not passwords:
        if kind == "password":
            raise Fault(InvalidCombination, "Authentication by password needs Passwords.")
        return None
    if len(passwords) > MOST_PASSWORDS:
        raise Fault(InvalidValue, f"A user has at most {MOST_PASSWORDS} passwords.")
    low, high = PASSWORD_LENGTHS
    for password in passwords:
        if not low <= len(password) <= high or not password.isascii() or not password.isprintable():
            raise Fault(InvalidValue, f"A password must have {low} to {high} printable ASCII characters.")
    return tuple(dict.fromkeys(hash_of(password) for password in passwords))


def check_access(access: str, engine: Engine) -> str:
    """Return an access string that a real server of an engine takes, or raise the service's error."""
    words = access.split()
    if not access.isprintable():
        raise Fault(InvalidValue, "AccessString must have printable characters only.")
    if "(" in access:
        raise not_offered("AccessString with selectors in parentheses")
    if any(word.lower() in _OF_PASSWORDS or word[0] in "><#!" for word in words):
        raise Fault(InvalidValue, "AccessString cannot set passwords: that is what Passwords is for.")
    with tempfile.TemporaryDirectory() as directory, Server(engine, Path(directory)) as server:
        try:
            server.command("ACL", "SETUSER", "checked", "reset", *words)
        except Refused as error:
            raise Fault(InvalidValue, f"AccessString is not valid: {error}") from error
    return " ".join(words)
