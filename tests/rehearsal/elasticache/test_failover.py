"""Nodes fail, by TestFailover or by themselves: replicas take over, new nodes take their places, events tell of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from helpers import cli
from helpers.rehearsal import engines, rehearse
from helpers.rehearsal.cloud import CloudFailed

OLD, NEW = engines.pair()


def plain(account: Any, name: str, nodes: int, **options: Any) -> dict[str, Any]:
    return dict(account.create(name, NumCacheClusters=nodes, AutomaticFailoverEnabled=nodes > 1, **options))


def sharded(account: Any, name: str, replicas: int, **options: Any) -> dict[str, Any]:
    account.elasticache.create_replication_group(
        ReplicationGroupId=name, ReplicationGroupDescription="a test", Engine=OLD.name, EngineVersion=OLD.minor,
        CacheNodeType="cache.r6g.large", NumNodeGroups=2, ReplicasPerNodeGroup=replicas,
        AutomaticFailoverEnabled=True, **options,
    )  # fmt: skip
    return dict(account.reaches(name, "available"))


def cluster(account: Any, name: str) -> RedisCluster:
    endpoint = account.group(name)["ConfigurationEndpoint"]
    return RedisCluster(host=endpoint["Address"], port=endpoint["Port"], decode_responses=True)


def roles(account: Any, name: str) -> dict[str, str]:
    members = account.group(name)["NodeGroups"][0]["NodeGroupMembers"]
    return {member["CacheClusterId"]: member["CurrentRole"] for member in members}


def pid(account: Any, node: str) -> int:
    groups = account.cloud.status()["groups"].values()
    return next(int(group["nodes"][node]["pid"]) for group in groups if node in group["nodes"])


def recovered(account: Any, until: Any, name: str, node: str, *, before: int) -> None:
    """Wait until a node runs as another process and its group is available."""
    until(lambda: pid(account, node) != before, 90.0)  # a node that dies while another is replaced makes it begin anew
    account.reaches(name, "available")


def told(account: Any, *sources: str) -> list[str]:
    """Return the messages of some sources, oldest first."""
    events = account.elasticache.describe_events()["Events"]
    return [one["Message"] for one in reversed(events) if one["SourceIdentifier"] in sources]


class Writer:
    """An application that writes through a failure, without retries of its own, and notes its longest silence."""

    def __init__(self, set_: Any) -> None:
        self.acknowledged: list[int] = []
        self.gap_s = 0.0
        self._set = set_
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        number, last = 0, time.monotonic()
        while not self._stop.wait(0.005):
            number += 1
            try:
                self._set(f"written:{number}", number)
            except (redis.RedisError, redis.exceptions.RedisClusterException):
                continue
            now = time.monotonic()
            self.gap_s, last = max(self.gap_s, now - last), now
            self.acknowledged.append(number)


def test_a_tested_failover_swaps_the_roles_and_keeps_the_endpoints(account: Any, until: Any, record_property: Any) -> None:
    before = plain(account, "tested", 3)
    node_group = before["NodeGroups"][0]
    account.data("tested").set("key", "value")
    assert account.data("tested").wait(2, 5000) == 2
    client = redis.Redis(port=node_group["PrimaryEndpoint"]["Port"], retry=Retry(NoBackoff(), 0), socket_timeout=5)
    first = pid(account, "tested-001")
    with Writer(client.set) as writer:
        until(lambda: len(writer.acknowledged) > 20)
        answer = account.elasticache.test_failover(ReplicationGroupId="tested", NodeGroupId="0001")
        assert answer["ReplicationGroup"]["Status"] == "modifying"
        after = account.reaches("tested", "available")
        count = len(writer.acknowledged)
        until(lambda: len(writer.acknowledged) > count + 20)
    record_property("gap_s", round(writer.gap_s, 2))
    now = roles(account, "tested")
    primary = next(name for name, role in now.items() if role == "primary")
    assert primary in ("tested-002", "tested-003") and sorted(now.values()) == ["primary", "replica", "replica"]
    assert after["NodeGroups"][0]["PrimaryEndpoint"] == node_group["PrimaryEndpoint"]
    assert after["NodeGroups"][0]["ReaderEndpoint"] == node_group["ReaderEndpoint"]
    addresses = [[m["ReadEndpoint"] for m in one["NodeGroups"][0]["NodeGroupMembers"]] for one in (before, after)]
    assert addresses[0] == addresses[1]
    assert account.data("tested").info("replication")["connected_slaves"] == 2
    assert account.node("tested-001").get("key") == "value" and pid(account, "tested-001") != first
    assert account.node("tested-001").info("replication")["role"] == "slave"
    moved = f"Failover from primary node tested-001 to replica node {primary} completed"
    story = told(account, "tested", "tested-001", "tested-002", "tested-003")
    assert story[story.index("Test Failover API called for node group 0001") :] == [
        "Test Failover API called for node group 0001", moved, moved,
        "Recovering cache nodes 0001", "Finished recovery for cache nodes 0001",
    ]  # fmt: skip
    assert moved in account.events("tested") and moved in account.events(primary)
    assert "Recovering cache nodes 0001" in account.events("tested-001")
    assert writer.gap_s < 5


def test_a_tested_failover_of_a_shard_keeps_a_cluster_client_going(account: Any, until: Any, record_property: Any) -> None:
    sharded(account, "shards", 1)
    data = cluster(account, "shards")
    for number in range(100):
        data.set(f"key:{number}", number)
    for shard in (1, 2):
        until(lambda one=shard: account.node(f"shards-000{one}-001").dbsize() == account.node(f"shards-000{one}-002").dbsize())
    known = {m: account.member(m)["CacheNodes"][0]["Endpoint"] for m in account.group("shards")["MemberClusters"]}
    with Writer(data.set) as writer:
        until(lambda: len(writer.acknowledged) > 20)
        account.elasticache.test_failover(ReplicationGroupId="shards", NodeGroupId="0002")
        account.reaches("shards", "available")
        count = len(writer.acknowledged)
        until(lambda: len(writer.acknowledged) > count + 20)
    record_property("gap_s", round(writer.gap_s, 2))
    assert account.node("shards-0002-002").info("replication")["role"] == "master"
    assert account.node("shards-0002-001").info("replication")["role"] == "slave"
    assert known == {m: account.member(m)["CacheNodes"][0]["Endpoint"] for m in known}
    assert [data.get(f"key:{number}") for number in range(100)] == [str(number) for number in range(100)]
    story = told(account, "shards", *known)
    assert story[story.index("Test Failover API called for node group 0002") :] == [
        "Test Failover API called for node group 0002",
        *["Failover from primary node shards-0002-001 to replica node shards-0002-002 completed"] * 2,
        "Recovering cache nodes 0001", "Finished recovery for cache nodes 0001",
    ]  # fmt: skip
    # It can fail back, and be upgraded, from where it is now.
    account.elasticache.test_failover(ReplicationGroupId="shards", NodeGroupId="2")
    account.reaches("shards", "available")
    assert account.node("shards-0002-001").info("replication")["role"] == "master"
    account.modify("shards", Engine=NEW.name, EngineVersion=NEW.minor)
    assert {account.member(m)["EngineVersion"] for m in known} == {NEW.version}
    fresh = cluster(account, "shards")
    assert [fresh.get(f"key:{number}") for number in range(100)] == [str(number) for number in range(100)]


def test_a_test_is_refused_without_failover_a_replica_or_such_a_shard(account: Any) -> None:
    call = account.elasticache.test_failover
    account.create("alone")
    assert account.refusal(call, ReplicationGroupId="alone", NodeGroupId="0001") == "TestFailoverNotAvailableFault"
    assert "Automatic failover is not enabled" in account.last_message
    sharded(account, "bare", 0)
    assert account.refusal(call, ReplicationGroupId="bare", NodeGroupId="0001") == "TestFailoverNotAvailableFault"
    assert "no replica" in account.last_message
    assert account.refusal(call, ReplicationGroupId="bare", NodeGroupId="0003") == "NodeGroupNotFoundFault"
    assert account.refusal(call, ReplicationGroupId="none", NodeGroupId="0001") == "ReplicationGroupNotFoundFault"


def test_a_primary_that_dies_by_itself_is_followed_by_the_replica_that_has_most(account: Any, until: Any) -> None:
    plain(account, "dying", 3, Engine=NEW.name, EngineVersion=NEW.minor)
    data = account.data("dying")
    data.set("key", "value")
    assert data.wait(2, 5000) == 2
    before = pid(account, "dying-001")
    os.kill(before, signal.SIGKILL)
    recovered(account, until, "dying", "dying-001", before=before)
    assert roles(account, "dying")["dying-001"] == "replica"
    assert account.data("dying").get("key") == "value" and account.data("dying").set("key", "again")
    assert account.refusal(account.elasticache.test_failover, ReplicationGroupId="dying", NodeGroupId="0001") == ""
    account.reaches("dying", "available")
    assert account.data("dying").get("key") == "again"


def test_a_replica_that_dies_is_replaced_and_readers_are_led_past_it(account: Any, until: Any) -> None:
    plain(account, "reading", 3)
    account.data("reading").set("key", "value")
    assert account.data("reading").wait(2, 5000) == 2
    before = account.cloud.fail("reading-002")
    until(lambda: "Recovering cache nodes 0001" in account.events("reading-002"))
    reader = account.data("reading", "ReaderEndpoint")
    assert [reader.get("key") for _ in range(4)] == ["value"] * 4
    recovered(account, until, "reading", "reading-002", before=before)
    assert roles(account, "reading") == {"reading-001": "primary", "reading-002": "replica", "reading-003": "replica"}
    assert account.node("reading-002").get("key") == "value"
    assert not any("Failover" in message for message in account.events("reading"))


def test_without_automatic_failover_a_new_primary_copies_a_replica(account: Any, until: Any) -> None:
    account.create("manual", NumCacheClusters=2)
    account.data("manual").set("key", "value")
    assert account.data("manual").wait(1, 5000) == 1
    before = account.cloud.fail("manual-001")
    recovered(account, until, "manual", "manual-001", before=before)
    assert roles(account, "manual") == {"manual-001": "primary", "manual-002": "replica"}
    assert account.data("manual").get("key") == "value"
    account.data("manual").set("key", "again")
    assert account.data("manual").wait(1, 5000) == 1
    assert account.node("manual-002").get("key") == "again"


def test_a_primary_without_a_replica_comes_back_empty_and_the_events_say_so(account: Any, until: Any) -> None:
    plain(account, "single", 1)
    account.data("single").set("key", "value")
    before = account.cloud.fail("single-001")
    recovered(account, until, "single", "single-001", before=before)
    assert account.data("single").dbsize() == 0
    assert "its data is lost" in account.events("single")[0]


def test_a_cache_cluster_outside_a_group_comes_back_empty_too(account: Any, until: Any) -> None:
    account.elasticache.create_cache_cluster(CacheClusterId="lone", Engine="redis", EngineVersion="6.2", NumCacheNodes=1)
    until(lambda: account.member("lone")["CacheClusterStatus"] == "available")
    address = account.member("lone")["CacheNodes"][0]["Endpoint"]
    account.node("lone").set("key", "value")
    account.cloud.fail("lone")
    until(lambda: "Finished recovery for cache nodes 0001" in account.events("lone"))
    until(lambda: account.member("lone")["CacheClusterStatus"] == "available")
    assert account.member("lone")["CacheNodes"][0]["Endpoint"] == address
    assert account.node("lone").dbsize() == 0
    assert "its data is lost" in account.events("lone")[0]


def test_an_encrypted_group_keeps_the_addresses_of_its_nodes_through_a_failover(account: Any, until: Any) -> None:
    before = plain(account, "hidden", 2, TransitEncryptionEnabled=True)
    bundle = account.cloud.environment()["SSL_CERT_FILE"]
    endpoint = before["NodeGroups"][0]["PrimaryEndpoint"]

    def data() -> redis.Redis:
        return redis.Redis(host=endpoint["Address"], port=endpoint["Port"], ssl=True, ssl_ca_certs=bundle)

    data().set("key", "value")
    assert data().wait(1, 5000) == 1
    account.elasticache.test_failover(ReplicationGroupId="hidden", NodeGroupId="0001")
    after = account.reaches("hidden", "available")
    members = [{m["CacheClusterId"]: m["ReadEndpoint"] for m in one["NodeGroups"][0]["NodeGroupMembers"]} for one in (before, after)]
    assert members[0] == members[1] and roles(account, "hidden")["hidden-002"] == "primary"
    assert data().get("key") == b"value" and data().set("key", "again")


def test_nodes_of_a_cluster_that_die_are_replaced_at_their_addresses(account: Any, until: Any) -> None:
    sharded(account, "mixed", 1)
    data = cluster(account, "mixed")
    for number in range(100):
        data.set(f"key:{number}", number)
    for shard in (1, 2):
        until(lambda one=shard: account.node(f"mixed-000{one}-001").dbsize() == account.node(f"mixed-000{one}-002").dbsize())
    known = {m: account.member(m)["CacheNodes"][0]["Endpoint"] for m in account.group("mixed")["MemberClusters"]}
    # A primary of one shard and the replica of the other, at once.
    before = {node: account.cloud.fail(node) for node in ("mixed-0001-001", "mixed-0002-002")}
    for node, process in before.items():
        recovered(account, until, "mixed", node, before=process)
    assert known == {m: account.member(m)["CacheNodes"][0]["Endpoint"] for m in known}
    fresh = cluster(account, "mixed")
    assert [fresh.get(f"key:{number}") for number in range(100)] == [str(number) for number in range(100)]
    places = account.node("mixed-0002-001").execute_command("CLUSTER SLOTS")
    assert {place[1] for served in places for place in served[2:]} == {one["Port"] for one in known.values()}


def test_a_shard_without_a_replica_comes_back_empty_while_the_others_keep_their_keys(account: Any, until: Any) -> None:
    sharded(account, "holed", 0)
    data = cluster(account, "holed")
    for number in range(100):
        data.set(f"key:{number}", number)
    kept = account.node("holed-0002-001").dbsize()
    before = account.cloud.fail("holed-0001-001")
    recovered(account, until, "holed", "holed-0001-001", before=before)
    assert account.node("holed-0001-001").dbsize() == 0
    assert account.node("holed-0002-001").dbsize() == kept > 0
    fresh = cluster(account, "holed")
    assert all(fresh.set(f"key:{number}", number) for number in range(100))
    assert any("its data is lost" in message for message in account.events("holed"))


def test_the_command_line_lets_a_node_fail(
    account: Any, until: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain(account, "told", 2)
    monkeypatch.setattr(rehearse, "running", lambda: [account.cloud])
    before = pid(account, "told-001")
    cli.cloud_fail("told-001")
    assert capsys.readouterr().out == f"killed: told-001, process {before}\n"
    recovered(account, until, "told", "told-001", before=before)
    assert roles(account, "told") == {"told-001": "replica", "told-002": "primary"}
    with pytest.raises(cli_error(), match="No local cloud has a node 'nobody'; there is .*told-001"):
        rehearse.fail("nobody")
    with pytest.raises(CloudFailed, match="CacheCluster not found: nobody"):
        account.cloud.fail("nobody")


def cli_error() -> type[Exception]:
    from helpers.aws.errors import RunbookError

    return RunbookError


def test_more_than_fifteen_tests_a_day_are_refused(account: Any) -> None:
    plain(account, "often", 2)
    for _ in range(20):
        if refusal := account.refusal(account.elasticache.test_failover, ReplicationGroupId="often", NodeGroupId="0001"):
            break
        account.reaches("often", "available")
    assert refusal == "APICallRateForCustomerExceeded" and "15 node groups" in account.last_message
