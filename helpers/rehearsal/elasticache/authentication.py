"""Decide how clients of a group say who they are, as CreateReplicationGroup and ModifyReplicationGroup ask for it.

Sources: AWS, "Authenticating with the Valkey and Redis OSS AUTH command" (ROTATE, SET, DELETE) and
"Role-Based Access Control (RBAC)".
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from helpers.rehearsal.elasticache.answers import not_offered
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.logins import Authentication, Login, check_token

if TYPE_CHECKING:
    from helpers.rehearsal.elasticache.groups import Group
    from helpers.rehearsal.elasticache.nodes import Settings
    from helpers.rehearsal.elasticache.service import Service
    from helpers.rehearsal.engines import Engine

InvalidCombination = "InvalidParameterCombinationException"
ROTATE, SET, DELETE = "ROTATE", "SET", "DELETE"


def of_new_group(service: Service, parameters: dict[str, Any], engine: Engine) -> Authentication:
    """Return what a new group asks for, or raise what the service refuses."""
    token, ids = parameters.get("AuthToken"), parameters.get("UserGroupIds") or []
    if token is not None and ids:
        raise Fault(InvalidCombination, "Give either AuthToken or UserGroupIds, not both.")
    if token is None and not ids:
        return Authentication()
    _check_encrypted("AuthToken" if ids == [] else "UserGroupIds", bool(parameters.get("TransitEncryptionEnabled")))
    if ids:
        with service.lock:
            return Authentication(user_groups=(_user_group(service, ids, engine),))
    return Authentication(tokens=(check_token(token),), tokens_changed_at=datetime.now(UTC))


def wanted(service: Service, group: Group, parameters: dict[str, Any]) -> Authentication | None:
    """Return what a group is to ask for after a change, None where none is asked for. The lock is held."""
    now, token, strategy = group.authentication, parameters.get("AuthToken"), parameters.get("AuthTokenUpdateStrategy")
    added = parameters.get("UserGroupIdsToAdd") or []
    removed = [name.lower() for name in parameters.get("UserGroupIdsToRemove") or []]
    if foreign := set(removed) - set(now.user_groups):
        raise Fault("UserGroupNotFoundFault", f"User group {min(foreign)} is not associated with {group.id}.")
    if parameters.get("RemoveUserGroups"):
        removed = list(now.user_groups)
    if not (token or strategy or added or removed):
        return None
    _check_encrypted("UserGroupIdsToAdd" if added else "AuthToken", group.serving.tls)
    if added:
        return _with_users(service, group, added, removed, strategy)
    if strategy is None and token is None:
        return Authentication()
    if removed and strategy == SET and token is not None:
        # The way back from users to a token.
        return Authentication(tokens=(check_token(token),), tokens_changed_at=datetime.now(UTC))
    if now.user_groups:
        raise Fault(InvalidCombination, "From user groups to an AUTH token: give RemoveUserGroups and strategy SET.")
    return _with_token(now, token, strategy or ROTATE)


def check_engine(service: Service, authentication: Authentication, settings: Settings) -> None:
    """Raise the service's error where a group's users do not fit the engine that it is to run. The lock is held."""
    for name in authentication.user_groups:
        _user_group(service, [name], settings.engine)


def _check_encrypted(name: str, tls: bool) -> None:
    if not tls:
        raise Fault(InvalidCombination, f"{name} can be specified only where TransitEncryptionEnabled is true.")


def _user_group(service: Service, ids: list[str], engine: Engine) -> str:
    """Return the id of the one user group that is asked for, ready for an engine, or raise the service's error."""
    if len(ids) != 1:
        raise Fault(InvalidCombination, "A replication group has at most one user group.")
    group = service.users.group(ids[0])
    if group.status != "active":
        raise Fault("InvalidUserGroupStateFault", f"User group {group.id} is {group.status}, not active.")
    if engine.name == "redis" and group.engine != "redis":
        raise Fault(InvalidCombination, f"User group {group.id} is for {group.engine}, not for redis.")
    return group.id


def _with_users(
    service: Service, group: Group, added: list[str], removed: list[str], strategy: str | None
) -> Authentication:
    """Return what follows from associating a user group."""
    now = group.authentication
    if set(now.user_groups) - set(removed):
        raise Fault(InvalidCombination, "A replication group has at most one user group: remove the present one too.")
    if strategy not in (None, DELETE):
        raise Fault(InvalidCombination, f"AuthTokenUpdateStrategy {strategy} does not go with UserGroupIdsToAdd.")
    if now.tokens and strategy != DELETE:
        raise Fault(InvalidCombination, "From an AUTH token to user groups: give AuthTokenUpdateStrategy DELETE.")
    return Authentication(user_groups=(_user_group(service, added, group.settings.engine),))


def _with_token(now: Authentication, token: str | None, strategy: str) -> Authentication:
    """Return what follows from an update of the AUTH token under one of AWS's three strategies."""
    if strategy not in (ROTATE, SET, DELETE):
        raise Fault("InvalidParameterValueException", "AuthTokenUpdateStrategy must be one of ROTATE, SET, DELETE.")
    if strategy == DELETE:
        raise Fault(InvalidCombination, "AuthTokenUpdateStrategy DELETE is allowed only when transitioning to RBAC.")
    if token is None:
        raise Fault(InvalidCombination, f"AuthTokenUpdateStrategy {strategy} needs an AuthToken.")
    digest = check_token(token)
    if not now.tokens:
        raise not_offered("Turning AUTH on for a group that runs without it (with and without a token at once)")
    if strategy == SET and digest != now.tokens[-1]:
        raise Fault(InvalidCombination, "AuthTokenUpdateStrategy SET is allowed only with the token rotated last.")
    # Two at most: the one in use, and the one that was rotated in.
    kept = () if strategy == SET or digest == now.tokens[-1] else now.tokens[-1:]
    tokens = now.tokens if strategy == ROTATE and digest == now.tokens[-1] else (*kept, digest)
    return Authentication(tokens=tokens, tokens_changed_at=datetime.now(UTC))


def pending(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what PendingModifiedValues shows while a change is under way."""
    shown: dict[str, Any] = {}
    if "AuthToken" in parameters:
        shown["AuthTokenStatus"] = "SETTING" if parameters.get("AuthTokenUpdateStrategy") == SET else "ROTATING"
    names = ("UserGroupIdsToAdd", "UserGroupIdsToRemove")
    if any(name in parameters for name in names):
        shown["UserGroups"] = {name: parameters.get(name) for name in names}
    return shown


def apply(service: Service, group: Group, wanted: Authentication) -> None:
    """Let in who may log in now, and nobody else, on every node. The group's work is this thread's."""
    with service.lock:
        before = group.authentication
        logins = logins_of(service, wanted)
    try:
        let_in(service, group, logins)
    except Exception:
        with service.lock:
            group.authentication = replace(before, pending={})
        raise
    with service.lock:
        group.authentication = wanted


def let_in(service: Service, group: Group, logins: tuple[Login, ...]) -> None:
    """Make these the users of a group's nodes; where one node refuses them, those before stay on all."""
    shared = group.settings.logins
    before, shared.present = shared.present, logins
    try:
        _apply_to_nodes(service, group)
    except Exception:
        shared.present = before
        _apply_to_nodes(service, group)
        raise


def _apply_to_nodes(service: Service, group: Group) -> None:
    for node in group.nodes:
        if node.server.alive:
            service.nodes.apply_access(node)


def logins_of(service: Service, authentication: Authentication) -> tuple[Login, ...]:
    """Return the users of the servers that an authentication means. The lock is held, or the group is new."""
    if authentication.user_groups:
        return service.users.logins_of(authentication.user_groups[0])
    return (Login(hashes=authentication.tokens),)
