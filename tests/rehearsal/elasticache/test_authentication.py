"""AUTH tokens are asked for by the real servers, and rotated, set and deleted as AWS does it."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from helpers.rehearsal import engines

OLD, NEW = engines.pair()
TOKEN, SECOND, THIRD = "first-token-0123456789", "second#token!0123456789", "third<token>$&^0123456789"
SEALED = {"TransitEncryptionEnabled": True}


@pytest.fixture(scope="module")
def guarded(account: Any) -> Any:
    account.create("guarded", NumCacheClusters=2, AuthToken=TOKEN, **SEALED)
    return account


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch, cloud: Any) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", cloud.environment()["SSL_CERT_FILE"])


def connected(account: Any, name: str, password: str | None = None, **options: Any) -> redis.Redis:
    endpoint = account.group(name)["NodeGroups"][0][options.pop("endpoint", "PrimaryEndpoint")]
    options = {"ssl": True, "retry": Retry(NoBackoff(), 0), "decode_responses": True, **options}
    return redis.Redis(host=endpoint["Address"], port=endpoint["Port"], password=password, **options)


def let_in(account: Any, name: str, password: str | None) -> bool:
    """Return whether a password opens both endpoints of a group; a half-open one fails the test."""
    opened = set()
    for endpoint in ("PrimaryEndpoint", "ReaderEndpoint"):
        try:
            opened.add(bool(connected(account, name, password, endpoint=endpoint).ping()))
        except redis.AuthenticationError:
            opened.add(False)
    assert len(opened) == 1
    return opened.pop()


def change(account: Any, name: str, token: str, strategy: str) -> dict[str, Any]:
    return account.modify(name, AuthToken=token, AuthTokenUpdateStrategy=strategy)


def test_only_the_token_lets_a_client_in(guarded: Any) -> None:
    assert let_in(guarded, "guarded", TOKEN)
    assert not let_in(guarded, "guarded", None)
    assert not let_in(guarded, "guarded", SECOND)
    for shown in (guarded.group("guarded"), guarded.member("guarded-002")):
        assert shown["AuthTokenEnabled"] and shown["AuthTokenLastModifiedDate"]


def test_a_client_with_the_token_may_do_what_elasticache_allows_and_no_more(guarded: Any) -> None:
    data = connected(guarded, "guarded", TOKEN)
    assert data.set("key", "value") and data.acl_whoami() == "default"
    for command in ("CONFIG GET maxmemory", "ACL SETUSER default nopass", "SYNC"):
        with pytest.raises(redis.RedisError, match="(?i)unknown command|no permissions"):
            data.execute_command(*command.split())


def test_rotating_keeps_the_token_before_and_setting_drops_it(account: Any) -> None:
    account.create("rotated", AuthToken=TOKEN, NumCacheClusters=2, **SEALED)
    before = account.group("rotated")["AuthTokenLastModifiedDate"]
    connection = connected(account, "rotated", TOKEN)
    number = connection.client_id()
    change(account, "rotated", SECOND, "ROTATE")
    assert [let_in(account, "rotated", token) for token in (TOKEN, SECOND, THIRD, None)] == [True, True, False, False]
    assert account.group("rotated")["AuthTokenLastModifiedDate"] > before
    change(account, "rotated", SECOND, "SET")
    assert [let_in(account, "rotated", token) for token in (TOKEN, SECOND)] == [False, True]
    change(account, "rotated", THIRD, "ROTATE")
    change(account, "rotated", TOKEN, "ROTATE")  # two at most: the oldest goes
    assert [let_in(account, "rotated", token) for token in (SECOND, THIRD, TOKEN)] == [False, True, True]
    assert connection.client_id() == number  # who is in stays in


def test_the_token_is_asked_for_by_nodes_that_come_later(account: Any) -> None:
    account.create("grown", AuthToken=TOKEN, **SEALED)
    connected(account, "grown", TOKEN).set("key", "value")
    account.elasticache.increase_replica_count(ReplicationGroupId="grown", NewReplicaCount=1, ApplyImmediately=True)
    account.reaches("grown", "available")
    account.modify("grown", Engine=NEW.name, EngineVersion=NEW.minor)
    assert let_in(account, "grown", TOKEN) and not let_in(account, "grown", None)
    assert connected(account, "grown", TOKEN, endpoint="ReaderEndpoint").get("key") == "value"
    account.cloud.settings(refuse_client_pause=True)
    try:
        assert let_in(account, "grown", TOKEN) and not let_in(account, "grown", None)
    finally:
        account.cloud.settings(refuse_client_pause=False)


def test_no_token_is_written_anywhere(guarded: Any) -> None:
    change(guarded, "guarded", SECOND, "ROTATE")
    guarded.refusal(guarded.elasticache.modify_replication_group, ReplicationGroupId="guarded", AuthToken=THIRD,
                    AuthTokenUpdateStrategy="SET")  # fmt: skip
    shown = repr([guarded.group("guarded"), guarded.member("guarded-001"), guarded.events("guarded"), guarded.last_message])
    kept = b"".join(path.read_bytes() for path in guarded.cloud.directory.rglob("*") if path.is_file())
    assert b"masterauth" in kept
    for token in (TOKEN, SECOND, THIRD):
        assert token not in shown and token.encode() not in kept


def test_tokens_and_strategies_that_aws_refuses_are_refused(guarded: Any) -> None:
    request = {"ReplicationGroupId": "refused", "ReplicationGroupDescription": "x"}
    client = guarded.elasticache
    for token in ("short", "x" * 129, "with/a-slash-0123456789", 'with"quotes-0123456789', "with@at-sign-0123456789",
                  "with spaces 0123456789", "with%percent-0123456789", "ünprintable-0123456789"):  # fmt: skip
        refused = guarded.refusal(client.create_replication_group, **request, **SEALED, AuthToken=token)
        assert refused == "InvalidParameterValue" and token not in guarded.last_message
        refused = guarded.refusal(client.modify_replication_group, ReplicationGroupId="guarded", AuthToken=token)
        assert refused == "InvalidParameterValue" and token not in guarded.last_message
    assert guarded.refusal(client.create_replication_group, **request, AuthToken=TOKEN) == "InvalidParameterCombination"
    for options, words in (
        ({"AuthToken": THIRD, "AuthTokenUpdateStrategy": "SET"}, "rotated last"),
        ({"AuthTokenUpdateStrategy": "SET"}, "needs an AuthToken"),
        ({"AuthTokenUpdateStrategy": "DELETE"}, "transitioning to RBAC"),
        ({"AuthToken": THIRD, "CacheNodeType": "cache.r6g.xlarge"}, "not offered"),
    ):
        refused = guarded.refusal(client.modify_replication_group, ReplicationGroupId="guarded", **options)
        assert (refused, words in guarded.last_message) == ("InvalidParameterCombination", True), guarded.last_message
    guarded.create("open", **SEALED)
    refused = guarded.refusal(client.modify_replication_group, ReplicationGroupId="open", AuthToken=TOKEN)
    assert (refused, "not offered" in guarded.last_message) == ("InvalidParameterCombination", True)
