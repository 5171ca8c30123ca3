"""The operations on users and user groups: what they change reaches every node of the groups that they let in."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.rehearsal.elasticache import authentication, catalogue, users
from helpers.rehearsal.elasticache.answers import page
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.events import USER, USER_GROUP
from helpers.rehearsal.elasticache.groups import Group
from helpers.rehearsal.elasticache.logins import DEFAULT_USER
from helpers.rehearsal.elasticache.users import User, UserGroup
from helpers.rehearsal.engines import Engine

if TYPE_CHECKING:
    from helpers.rehearsal.elasticache.service import Service

InvalidValue = "InvalidParameterValueException"
InvalidCombination = "InvalidParameterCombinationException"


def create_user(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Make a user."""
    user_id = _check_id(parameters["UserId"], "UserId")
    engine = users.check_engine(parameters["Engine"])
    hashes = users.passwords_of(parameters, engine)
    if hashes is None:
        raise Fault(InvalidCombination, "Give Passwords, NoPasswordRequired or AuthenticationMode.")
    if not re.fullmatch("[!-~]+", parameters["UserName"]):
        raise Fault(InvalidValue, "UserName must have printable ASCII characters only, and no spaces.")
    access = users.check_access(parameters["AccessString"], _server_of(engine))
    with service.lock:
        if user_id in service.users.users:
            raise Fault("UserAlreadyExistsFault", f"User {user_id} already exists.")
        user = User(user_id, parameters["UserName"], engine, access, hashes)
        service.users.users[user_id] = user
        service.tags[service.arn("user", user_id)] = _tags(parameters)
        return _describe_user(service, user)


def modify_user(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Change access string or passwords of a user, and then of the nodes that it is let in at."""
    with service.lock:
        user = _own_user(service, parameters["UserId"])
        engine = users.check_engine(parameters.get("Engine", user.engine))
        hashes = users.passwords_of(parameters, engine)
        access = parameters.get("AccessString", user.access)
        groups = service.users.groups_of(user.id)
    if engine != "redis" and (redis := [group.id for group in groups if group.engine == "redis"]):
        raise Fault(InvalidCombination, f"User {user.id} is in user group {redis[0]}, which is for redis users only.")
    needs_password = engine == "valkey" or any(group.engine == "valkey" for group in groups)
    if needs_password and not (user.hashes if hashes is None else hashes):
        raise Fault(InvalidCombination, f"User {user.id} needs a password: valkey knows no users without one.")
    if more := parameters.get("AppendAccessString"):
        access = f"{access} {more}"
    if access != user.access:
        access = users.check_access(access, _server_of(engine))
    with service.lock:
        _own_user(service, user.id)
        before = (user.engine, user.access, user.hashes)
        user.engine, user.access = engine, access
        user.hashes = user.hashes if hashes is None else hashes
        user.status = "modifying"
        shown = _describe_user(service, user)

    def undo() -> None:
        user.engine, user.access, user.hashes = before

    def done() -> None:
        user.status = "active"

    about = (USER, user.id, f"Modifying user {user.id}")
    _spread(service, service.users.groups_of(user.id), about, done, undo)
    return shown


def delete_user(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a user, who is thereby no longer in any group and no longer let in.

    Source: AWS, DeleteUser: "The user will be removed from all user groups and in turn removed from
    all replication groups."
    """
    with service.lock:
        user = _own_user(service, parameters["UserId"])
        groups = service.users.groups_of(user.id)
        if user.name == DEFAULT_USER and groups:
            raise Fault(
                "DefaultUserAssociatedToUserGroupFault",
                f"User {user.id} is the default user of user group {groups[0].id}.",
            )
        user.status = "deleting"
        for group in groups:
            group.user_ids.remove(user.id)
        shown = _describe_user(service, user)

    def done() -> None:
        service.users.users.pop(user.id)
        service.tags.pop(service.arn("user", user.id), None)

    def undo() -> None:
        for group in groups:
            group.user_ids.append(user.id)

    _spread(service, groups, (USER, user.id, f"Deleting user {user.id}"), done, undo)
    return shown


def describe_users(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show one user or all."""
    with service.lock:
        if wanted := parameters.get("UserId"):
            found = [service.users.user(wanted)]
        else:
            found = [service.users.users[name] for name in sorted(service.users.users)]
        if engine := parameters.get("Engine"):
            found = [user for user in found if user.engine == engine.lower()]
        shown = [_describe_user(service, user) for user in found]
    for condition in parameters.get("Filters") or []:
        member = {"user-id": "UserId", "user-name": "UserName"}.get(condition["Name"])
        if member is None:
            raise Fault(InvalidValue, f"Users are filtered by user-id and user-name, not by {condition['Name']}.")
        shown = [user for user in shown if user[member] in condition["Values"]]
    return page("Users", shown, parameters)


def create_user_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Make a user group of users that exist."""
    group_id = _check_id(parameters["UserGroupId"], "UserGroupId")
    engine = users.check_engine(parameters["Engine"])
    with service.lock:
        if group_id in service.users.groups:
            raise Fault("UserGroupAlreadyExistsFault", f"User group {group_id} already exists.")
        members = service.users.check_members(engine, parameters.get("UserIds") or [])
        group = UserGroup(group_id, engine, members)
        service.users.groups[group_id] = group
        service.tags[service.arn("usergroup", group_id)] = _tags(parameters)
        shown = _describe_group(service, group)

    def done() -> None:
        group.status = "active"

    _spread(service, [], (USER_GROUP, group_id, f"Creating user group {group_id}"), done, done)
    return shown


def modify_user_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Add and remove users, there and on the nodes that the group lets in at."""
    with service.lock:
        group = _active_group(service, parameters["UserGroupId"])
        engine = users.check_engine(parameters.get("Engine", group.engine))
        added = [service.users.user(name).id for name in parameters.get("UserIdsToAdd") or []]
        removed = [service.users.user(name).id for name in parameters.get("UserIdsToRemove") or []]
        if not added and not removed and engine == group.engine:
            raise Fault(InvalidCombination, "Give UserIdsToAdd, UserIdsToRemove or Engine.")
        if foreign := set(removed) - set(group.user_ids):
            raise Fault("UserNotFoundFault", f"User {min(foreign)} is not in user group {group.id}.")
        if present := set(added) & set(group.user_ids):
            raise Fault(InvalidCombination, f"User {min(present)} is in user group {group.id} already.")
        members = [user for user in group.user_ids if user not in removed] + added
        before = (group.engine, group.user_ids)
        group.engine, group.user_ids = engine, service.users.check_members(engine, members)
        group.pending = {"UserIdsToAdd": added, "UserIdsToRemove": removed}
        group.status = "modifying"
        shown = _describe_group(service, group)

    def done() -> None:
        group.pending, group.status = {}, "active"

    def undo() -> None:
        group.engine, group.user_ids = before

    _spread(service, [group], (USER_GROUP, group.id, f"Modifying user group {group.id}"), done, undo)
    return shown


def delete_user_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a user group that lets in at no replication group."""
    with service.lock:
        group = _active_group(service, parameters["UserGroupId"])
        if used := _replication_groups(service, group):
            raise Fault("InvalidUserGroupStateFault", f"User group {group.id} is in use by {used[0].title}.")
        group.status = "deleting"
        shown = _describe_group(service, group)
        service.users.groups.pop(group.id)
        service.tags.pop(service.arn("usergroup", group.id), None)
    return shown


def describe_user_groups(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show one user group or all."""
    with service.lock:
        if wanted := parameters.get("UserGroupId"):
            found = [service.users.group(wanted)]
        else:
            found = [service.users.groups[name] for name in sorted(service.users.groups)]
        return page("UserGroups", [_describe_group(service, group) for group in found], parameters)


def _spread(
    service: Service,
    groups: list[UserGroup],
    about: tuple[str, str, str],
    done: Callable[[], None],
    undo: Callable[[], None],
) -> None:
    """Bring the nodes that user groups let in at to their present users, in a thread; then `done`.

    Where a node refuses, `undo` comes first, everything is as before, and an event says why.
    """
    source_type, source, what = about
    affected = [one for group in groups for one in _replication_groups(service, group)]

    def refresh() -> None:
        for one in affected:
            _refresh(service, one)

    def run() -> None:
        message = f"{what} succeeded"
        try:
            refresh()
        except Exception as error:  # noqa: BLE001  whatever went wrong is told by an event
            message = f"{what} failed: {error}"
            with service.lock:
                undo()
            # A node that takes nothing any more has said so already.
            with contextlib.suppress(Exception):
                refresh()
        with service.lock:
            done()
        service.events.add(source_type, source, message)

    service.in_background(run)


def _refresh(service: Service, group: Group) -> None:
    """Let in at one group's nodes whom its user group names now."""
    with group.work:
        with service.lock:
            logins = authentication.logins_of(service, group.authentication)
        authentication.let_in(service, group, logins)


def _replication_groups(service: Service, group: UserGroup) -> list[Group]:
    """Return the replication groups that a user group lets in at, or is about to."""
    return [one for one in service.groups.values() if group.id in one.authentication.all_user_groups]


def _own_user(service: Service, user_id: str) -> User:
    """Return a user that can be changed now, or raise the service's error."""
    user = service.users.user(user_id)
    if user.id == DEFAULT_USER:
        raise Fault(InvalidValue, "The user with the id default is AWS's own and cannot be modified or deleted.")
    if user.status != "active":
        raise Fault("InvalidUserStateFault", f"User {user.id} is {user.status}, not active.")
    return user


def _active_group(service: Service, group_id: str) -> UserGroup:
    group = service.users.group(group_id)
    if group.status != "active":
        raise Fault("InvalidUserGroupStateFault", f"User group {group.id} is {group.status}, not active.")
    return group


def _describe_user(service: Service, user: User) -> dict[str, Any]:
    return user.describe(service.arn("user", user.id), [group.id for group in service.users.groups_of(user.id)])


def _describe_group(service: Service, group: UserGroup) -> dict[str, Any]:
    return group.describe(service.arn("usergroup", group.id), [one.id for one in _replication_groups(service, group)])


def _server_of(engine: str) -> Engine:
    """Return the newest server of an engine, or of the other where this machine has none."""
    offered = catalogue.offered()
    return next((one for one in reversed(offered) if one.name == engine), offered[-1])


def _check_id(name: str, field_name: str) -> str:
    # Source: AWS, the pattern of UserId in the service's own model; the console's limit of 40 characters.
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9-]*", name) or len(name) > users.LONGEST_ID:
        raise Fault(
            InvalidValue,
            f"{field_name} must begin with a letter and have letters, digits and hyphens only, "
            f"1 to {users.LONGEST_ID} characters.",
        )
    return name.lower()


def _tags(parameters: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in parameters.get("Tags") or []}


OPERATIONS = {
    "CreateUser": create_user,
    "ModifyUser": modify_user,
    "DeleteUser": delete_user,
    "DescribeUsers": describe_users,
    "CreateUserGroup": create_user_group,
    "ModifyUserGroup": modify_user_group,
    "DeleteUserGroup": delete_user_group,
    "DescribeUserGroups": describe_user_groups,
}
