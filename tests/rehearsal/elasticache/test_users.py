"""Users and user groups decide on real servers who may do what, and changes reach every node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from helpers.rehearsal import engines
from helpers.rehearsal.elasticache import users
from helpers.rehearsal.elasticache.service import Service

OLD, NEW = engines.pair()
SECRET, OTHER, TOKEN = "a-password-0123456789", "another-password-0123", "a-token-0123456789abcdef"
SEALED = {"TransitEncryptionEnabled": True}


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch, cloud: Any) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", cloud.environment()["SSL_CERT_FILE"])


def user(account: Any, user_id: str, access: str = "on ~* +@all", **options: Any) -> dict[str, Any]:
    request = {"UserName": user_id, "Engine": "redis", "Passwords": [SECRET], **options}
    return account.elasticache.create_user(UserId=user_id, AccessString=access, **request)


def group(account: Any, group_id: str, *user_ids: str, engine: str = "redis") -> None:
    account.elasticache.create_user_group(UserGroupId=group_id, Engine=engine, UserIds=list(user_ids))
    settled(account, group_id)


def settled(account: Any, group_id: str) -> dict[str, Any]:
    find = account.elasticache.describe_user_groups

    def active() -> Any:
        found = find(UserGroupId=group_id)["UserGroups"][0]
        return found if found["Status"] == "active" else None

    return account.until(active)


def active(account: Any, user_id: str) -> dict[str, Any]:
    def found() -> Any:
        shown = account.elasticache.describe_users(UserId=user_id)["Users"][0]
        return shown if shown["Status"] == "active" else None

    return account.until(found)


def connected(account: Any, name: str, username: str | None = None, password: str | None = None,
              endpoint: str = "PrimaryEndpoint") -> redis.Redis:  # fmt: skip
    found = account.group(name)["NodeGroups"][0][endpoint]
    return redis.Redis(host=found["Address"], port=found["Port"], ssl=True, retry=Retry(NoBackoff(), 0),
                       username=username, password=password, decode_responses=True)  # fmt: skip


def let_in(account: Any, name: str, username: str | None = None, password: str | None = None) -> bool:
    """Return whether a login opens both endpoints of a group; a half-open one fails the test."""
    opened = set()
    for endpoint in ("PrimaryEndpoint", "ReaderEndpoint"):
        try:
            connected(account, name, username, password, endpoint).get("key")
            opened.add(True)
        except redis.exceptions.NoPermissionError:
            opened.add(True)
        except redis.AuthenticationError:
            opened.add(False)
    assert len(opened) == 1
    return opened.pop()


@pytest.fixture(scope="module")
def staffed(account: Any, until: Any) -> Any:
    account.until = until
    user(account, "nobody", "off", UserName="default")
    user(account, "web", "on ~session:* +@all", UserName="web")
    user(account, "reader", "on ~* -@all +@read +ping", Passwords=[SECRET, OTHER])
    group(account, "staff", "nobody", "web", "reader")
    account.create("sessions", NumCacheClusters=2, UserGroupIds=["staff"], **SEALED)
    return account


def test_each_user_is_let_in_with_its_password_and_does_what_its_access_string_says(staffed: Any) -> None:
    web = connected(staffed, "sessions", "web", SECRET)
    assert web.set("session:1", "x")
    with pytest.raises(redis.exceptions.NoPermissionError):
        web.set("other", "x")
    reader = connected(staffed, "sessions", "reader", OTHER)
    assert reader.get("session:1") == "x"
    with pytest.raises(redis.exceptions.NoPermissionError):
        reader.set("session:1", "y")
    for username, password in ((None, None), ("default", SECRET), ("web", OTHER), ("stranger", SECRET)):
        assert not let_in(staffed, "sessions", username, password)


@pytest.mark.parametrize("command", ["CONFIG GET maxmemory", "ACL SETUSER web on", "SYNC", "ACL DELUSER reader", "SAVE"])
def test_a_user_with_every_right_has_not_those_that_elasticache_keeps(staffed: Any, command: str) -> None:
    with pytest.raises(redis.RedisError, match="(?i)unknown command|no permissions"):
        connected(staffed, "sessions", "web", SECRET).execute_command(*command.split())


def test_users_and_groups_are_described_without_secrets(staffed: Any) -> None:
    shown = active(staffed, "reader")
    assert (shown["UserName"], shown["AccessString"]) == ("reader", "on ~* -@all +@read +ping")
    assert (shown["Authentication"], shown["UserGroupIds"]) == ({"Type": "password", "PasswordCount": 2}, ["staff"])
    found = settled(staffed, "staff")
    assert (found["UserIds"], found["ReplicationGroups"]) == (["nobody", "web", "reader"], ["sessions"])
    described = staffed.group("sessions")
    assert (described["UserGroupIds"], described["AuthTokenEnabled"]) == (["staff"], False)
    predefined = staffed.elasticache.describe_users(Filters=[{"Name": "user-id", "Values": ["default"]}])["Users"]
    assert predefined[0]["Authentication"] == {"Type": "no-password"}
    kept = b"".join(path.read_bytes() for path in staffed.cloud.directory.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept and OTHER.encode() not in kept


def test_changes_to_users_and_groups_reach_every_node(staffed: Any) -> None:
    client = staffed.elasticache
    user(staffed, "owner")
    assert not let_in(staffed, "sessions", "owner", SECRET)
    answer = client.modify_user_group(UserGroupId="staff", UserIdsToAdd=["owner"])
    assert (answer["Status"], answer["PendingChanges"]["UserIdsToAdd"]) == ("modifying", ["owner"])
    settled(staffed, "staff")
    assert let_in(staffed, "sessions", "owner", SECRET)
    connection = connected(staffed, "sessions", "owner", SECRET)
    assert connection.set("anything", "x")
    assert client.modify_user(UserId="owner", Passwords=[OTHER])["Status"] == "modifying"
    active(staffed, "owner")
    assert let_in(staffed, "sessions", "owner", OTHER) and not let_in(staffed, "sessions", "owner", SECRET)
    client.modify_user(UserId="owner", AppendAccessString="-set")
    assert active(staffed, "owner")["AccessString"] == "on ~* +@all -set"
    with pytest.raises(redis.exceptions.NoPermissionError):
        connection.set("anything", "y")
    client.modify_user_group(UserGroupId="staff", UserIdsToRemove=["owner"])
    settled(staffed, "staff")
    assert not let_in(staffed, "sessions", "owner", OTHER)
    with pytest.raises(redis.ConnectionError):
        connection.ping()
    assert "Modifying user group staff succeeded" in staffed.events("staff")


def test_a_deleted_user_is_taken_out_of_its_groups(staffed: Any) -> None:
    user(staffed, "leaver")
    staffed.elasticache.modify_user_group(UserGroupId="staff", UserIdsToAdd=["leaver"])
    settled(staffed, "staff")
    assert staffed.elasticache.delete_user(UserId="leaver")["Status"] == "deleting"
    staffed.until(lambda: staffed.refusal(staffed.elasticache.describe_users, UserId="leaver") == "UserNotFound")
    assert "leaver" not in settled(staffed, "staff")["UserIds"]
    assert not let_in(staffed, "sessions", "leaver", SECRET)


def test_users_outlast_an_upgrade_and_a_redis_group_fits_valkey(staffed: Any) -> None:
    staffed.create("upgraded", UserGroupIds=["staff"], **SEALED)
    staffed.elasticache.increase_replica_count(
        ReplicationGroupId="upgraded", NewReplicaCount=1, ApplyImmediately=True
    )
    staffed.reaches("upgraded", "available")
    staffed.modify("upgraded", Engine=NEW.name, EngineVersion=NEW.minor)
    assert let_in(staffed, "upgraded", "web", SECRET) and not let_in(staffed, "upgraded")
    with pytest.raises(redis.exceptions.NoPermissionError):
        connected(staffed, "upgraded", "web", SECRET).execute_command("ACL", "SETUSER", "web", "~*")


def test_a_valkey_group_without_a_default_user_lets_nobody_in_by_that_name(staffed: Any) -> None:
    user(staffed, "modern", Engine="valkey")
    group(staffed, "moderns", "modern", engine="valkey")
    staffed.create("modern", Engine=NEW.name, EngineVersion=NEW.minor, UserGroupIds=["moderns"], **SEALED)
    assert let_in(staffed, "modern", "modern", SECRET) and not let_in(staffed, "modern")


def test_a_group_moves_from_a_token_to_users_and_back(staffed: Any) -> None:
    staffed.create("moving", AuthToken=TOKEN, **SEALED)
    refused = {"ReplicationGroupId": "moving", "UserGroupIdsToAdd": ["staff"]}
    modify = staffed.elasticache.modify_replication_group
    assert staffed.refusal(modify, **refused) == "InvalidParameterCombination"
    staffed.modify("moving", UserGroupIdsToAdd=["staff"], AuthTokenUpdateStrategy="DELETE")
    assert staffed.group("moving")["UserGroupIds"] == ["staff"] and not staffed.group("moving")["AuthTokenEnabled"]
    assert let_in(staffed, "moving", "web", SECRET) and not let_in(staffed, "moving", None, TOKEN)
    assert staffed.refusal(modify, ReplicationGroupId="moving", AuthToken=TOKEN) == "InvalidParameterCombination"
    staffed.modify("moving", RemoveUserGroups=True, AuthToken=TOKEN, AuthTokenUpdateStrategy="SET")
    assert let_in(staffed, "moving", None, TOKEN) and not let_in(staffed, "moving", "web", SECRET)
    staffed.create("open", **SEALED)
    staffed.modify("open", UserGroupIdsToAdd=["staff"])
    assert not let_in(staffed, "open")
    staffed.modify("open", UserGroupIdsToRemove=["staff"])
    assert let_in(staffed, "open") and staffed.group("open")["UserGroupIds"] == []


def test_users_and_groups_that_aws_refuses_are_refused(staffed: Any) -> None:
    client = staffed.elasticache
    named = {"UserId": "refused", "UserName": "refused", "Engine": "redis", "AccessString": "on ~* +@all"}
    grouped = {"UserGroupId": "refused", "Engine": "redis"}
    sealed = {"ReplicationGroupId": "refused", "ReplicationGroupDescription": "x", **SEALED}
    for call, options, code in (
        (client.create_user, {**named, "AuthenticationMode": {"Type": "iam"}}, "InvalidParameterCombination"),
        (client.create_user, named, "InvalidParameterCombination"),
        (client.create_user, {**named, "Passwords": ["short"]}, "InvalidParameterValue"),
        (client.create_user, {**named, "Passwords": [SECRET, OTHER, TOKEN]}, "InvalidParameterValue"),
        (client.create_user, {**named, "Passwords": [SECRET], "NoPasswordRequired": True}, "InvalidParameterCombination"),
        (client.create_user, {**named, "Passwords": [SECRET], "AccessString": "on +@nothing"}, "InvalidParameterValue"),
        (client.create_user, {**named, "Passwords": [SECRET], "AccessString": f"on >{OTHER}"}, "InvalidParameterValue"),
        (client.create_user, {**named, "Engine": "valkey", "NoPasswordRequired": True}, "InvalidParameterCombination"),
        (client.create_user, {**named, "UserId": "web", "Passwords": [SECRET]}, "UserAlreadyExists"),
        (client.modify_user, {"UserId": "default", "NoPasswordRequired": True}, "InvalidParameterValue"),
        (client.modify_user, {"UserId": "web", "Engine": "valkey"}, "InvalidParameterCombination"),
        (client.modify_user, {"UserId": "modern", "NoPasswordRequired": True}, "InvalidParameterCombination"),
        (client.modify_user, {"UserId": "nothing", "NoPasswordRequired": True}, "UserNotFound"),
        (client.delete_user, {"UserId": "nobody"}, "DefaultUserAssociatedToUserGroup"),
        (client.create_user_group, {**grouped, "UserIds": ["web"]}, "DefaultUserRequired"),
        (client.create_user_group, {**grouped, "UserIds": ["default", "nothing"]}, "UserNotFound"),
        (client.create_user_group, {**grouped, "UserIds": ["default", "nobody"]}, "DuplicateUserName"),
        (client.create_user_group, {**grouped, "Engine": "valkey", "UserIds": ["default"]}, "InvalidParameterValue"),
        (client.create_user_group, {"UserGroupId": "staff", "Engine": "redis", "UserIds": ["default"]},
         "UserGroupAlreadyExists"),
        (client.modify_user_group, {"UserGroupId": "staff", "UserIdsToRemove": ["nobody"]}, "DefaultUserRequired"),
        (client.modify_user_group, {"UserGroupId": "staff", "UserIdsToAdd": ["web"]}, "InvalidParameterCombination"),
        (client.delete_user_group, {"UserGroupId": "staff"}, "InvalidUserGroupState"),
        (client.delete_user_group, {"UserGroupId": "nothing"}, "UserGroupNotFound"),
        (client.create_replication_group, {**sealed, "UserGroupIds": ["nothing"]}, "UserGroupNotFound"),
        (client.create_replication_group, {**sealed, "UserGroupIds": ["staff"], "AuthToken": TOKEN},
         "InvalidParameterCombination"),
        (client.create_replication_group, {**sealed, "UserGroupIds": ["staff"], "TransitEncryptionEnabled": False},
         "InvalidParameterCombination"),
    ):  # fmt: skip
        assert staffed.refusal(call, **options) == code, options
        assert not any(secret in staffed.last_message for secret in (SECRET, OTHER, TOKEN))


def test_a_user_group_that_is_no_longer_in_use_is_deleted(staffed: Any) -> None:
    group(staffed, "spare", "default")
    staffed.elasticache.delete_user_group(UserGroupId="spare")
    missing = staffed.refusal(staffed.elasticache.describe_user_groups, UserGroupId="spare")
    assert missing == "UserGroupNotFound"


def test_what_a_node_refuses_is_taken_back_everywhere_and_told(
    tmp_path: Path, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(tmp_path, "http://127.0.0.1:9", "ap-northeast-1", "123456789012")
    try:
        named = {"UserId": "web", "UserName": "web", "Engine": "redis", "Passwords": [SECRET]}
        service.call("CreateUser", {**named, "AccessString": "on ~* +@all"})
        service.call("CreateUserGroup", {"UserGroupId": "staff", "Engine": "redis", "UserIds": ["default", "web"]})
        until(lambda: service.users.group("staff").status == "active")
        request = {"ReplicationGroupId": "sessions", "ReplicationGroupDescription": "x", "NumCacheClusters": 2}
        service.call("CreateReplicationGroup", {**request, **SEALED, "UserGroupIds": ["staff"]})
        until(lambda: service.group("sessions").status == "available")
        # As if the check at the request knew a command that the engine of the nodes does not.
        monkeypatch.setattr(users, "check_access", lambda access, engine: access)
        service.call("ModifyUser", {"UserId": "web", "AccessString": "on ~* +@nothing", "Passwords": [OTHER]})
        until(lambda: service.users.user("web").status == "active")
        assert service.users.user("web").access == "on ~* +@all"
        assert "Modifying user web failed: ERR Error in ACL SETUSER modifier '+@nothing'" in service.events.find("web")[0]["Message"]
        for node in service.group("sessions").nodes:
            client = node.server.client(username="web", password=SECRET, decode_responses=True)
            assert client.acl_whoami() == "web"
    finally:
        service.close()
