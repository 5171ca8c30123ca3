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
    from helpers.rehearsal.elasticache.service import Service

InvalidCombination = "InvalidParameterCombinationException"
ROTATE, SET, DELETE = "ROTATE", "SET", "DELETE"


def of_new_group(service: Service, parameters: dict[str, Any]) -> Authentication:
    """Return what a new group asks for, or raise what the service refuses."""
    token = parameters.get("AuthToken")
    if token is None:
        return Authentication()
    if not parameters.get("TransitEncryptionEnabled"):
        raise Fault(InvalidCombination, "AuthToken can be specified only where TransitEncryptionEnabled is true.")
    return Authentication(tokens=(check_token(token),), tokens_changed_at=datetime.now(UTC))


def wanted(service: Service, group: Group, parameters: dict[str, Any]) -> Authentication | None:
    """Return what a group is to ask for after a change, None where none is asked for. The lock is held."""
    token, strategy = parameters.get("AuthToken"), parameters.get("AuthTokenUpdateStrategy")
    if token is None and strategy is None:
        return None
    if not group.serving.tls:
        raise Fault(InvalidCombination, "AuthToken can be specified only where TransitEncryptionEnabled is true.")
    return _with_token(group.authentication, token, strategy or ROTATE)


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
    if "AuthToken" not in parameters:
        return {}
    return {"AuthTokenStatus": "SETTING" if parameters.get("AuthTokenUpdateStrategy") == SET else "ROTATING"}


def apply(service: Service, group: Group, wanted: Authentication) -> None:
    """Let in who may log in now, and nobody else, on every node. The group's work is this thread's."""
    with service.lock:
        before = group.authentication
    try:
        let_in(service, group, logins_of(service, wanted))
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
        for node in group.nodes:
            service.nodes.apply_access(node)
    except Exception:
        shared.present = before
        for node in group.nodes:
            service.nodes.apply_access(node)
        raise


def logins_of(service: Service, authentication: Authentication) -> tuple[Login, ...]:
    """Return the users of the servers that an authentication means."""
    return (Login(hashes=authentication.tokens),)
