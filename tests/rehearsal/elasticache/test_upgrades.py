"""Engine upgrades move real data between real engines, under writes, and refuse what AWS refuses."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from helpers.rehearsal import engines

OLD, NEW = engines.pair()
TARGET = {"Engine": NEW.name, "EngineVersion": NEW.minor}
SOURCE = {"Engine": OLD.name, "EngineVersion": OLD.minor}


class Writer:
    """An application that writes without retries and remembers what was acknowledged, and when."""

    def __init__(self, port: int) -> None:
        self.acknowledged: list[int] = []
        self.moments: list[float] = [time.monotonic()]
        self._client = redis.Redis(port=port, retry=Retry(NoBackoff(), 0), socket_timeout=10)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    @property
    def gap_ms(self) -> float:
        return max(b - a for a, b in zip(self.moments, self.moments[1:], strict=False)) * 1000

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        number = 0
        while not self._stop.wait(0.002):
            number += 1
            try:
                self._client.set(f"written:{number}", number)
            except redis.RedisError:
                continue
            self.acknowledged.append(number)
            self.moments.append(time.monotonic())


def upgraded_under_writes(account: Any, until: Any, name: str, nodes: int) -> Writer:
    group = account.create(name, NumCacheClusters=nodes, **SOURCE)
    account.data(name).hset("session:1", mapping={"user": "alice"})
    with Writer(group["NodeGroups"][0]["PrimaryEndpoint"]["Port"]) as writer:
        until(lambda: len(writer.acknowledged) > 50)
        after = account.modify(name, **TARGET)
        count = len(writer.acknowledged)
        until(lambda: len(writer.acknowledged) > count + 50)
    assert after["NodeGroups"][0]["PrimaryEndpoint"] == group["NodeGroups"][0]["PrimaryEndpoint"]
    assert account.data(name).hgetall("session:1") == {"user": "alice"}
    return writer


def lost(account: Any, name: str, writer: Writer) -> list[int]:
    data = account.data(name)
    return [number for number in writer.acknowledged if data.get(f"written:{number}") != str(number)]


def test_a_rolling_upgrade_loses_no_acknowledged_write(account: Any, until: Any, record_property: Any) -> None:
    writer = upgraded_under_writes(account, until, "rolling", nodes=3)
    record_property("write_gap_ms", round(writer.gap_ms))
    assert lost(account, "rolling", writer) == []
    # Measured 20 to 60 ms; the bound leaves room for a busy machine.
    assert writer.gap_ms < 2000
    members = [account.member(f"rolling-00{number}") for number in (1, 2, 3)]
    assert {(m["Engine"], m["EngineVersion"]) for m in members} == {(NEW.name, NEW.version)}
    assert {m["CacheParameterGroup"]["CacheParameterGroupName"] for m in members} == {f"default.{NEW.family}"}
    until(lambda: account.data("rolling").info("replication")["connected_slaves"] == 2)
    written = str(writer.acknowledged[-1])
    until(lambda: account.data("rolling", "ReaderEndpoint").get(f"written:{written}") == written)


def test_an_upgrade_without_a_replica_has_a_longer_gap_and_keeps_the_data(account: Any, until: Any) -> None:
    writer = upgraded_under_writes(account, until, "alone", nodes=1)
    assert lost(account, "alone", writer) == []
    assert account.member("alone-001")["EngineVersion"] == NEW.version


def test_an_upgrade_tells_its_story_in_events(account: Any, until: Any) -> None:
    account.create("story", **SOURCE)
    account.modify("story", **TARGET)
    told = account.events("story")
    assert any("has started" in message for message in told)
    assert told[0] == "Finished modifying the nodes of replication group story"


def test_a_change_that_is_not_immediate_only_waits(account: Any) -> None:
    account.create("waiting", **SOURCE)
    account.elasticache.modify_replication_group(ReplicationGroupId="waiting", ApplyImmediately=False, **TARGET)
    member = account.member("waiting-001")
    assert account.group("waiting")["Status"] == "available"
    assert member["EngineVersion"] == OLD.version
    assert member["PendingModifiedValues"]["EngineVersion"] == NEW.version
    account.modify("waiting")
    member = account.member("waiting-001")
    assert member["EngineVersion"] == NEW.version
    assert "EngineVersion" not in member["PendingModifiedValues"]


def test_a_downgrade_is_refused_and_changes_nothing(account: Any) -> None:
    account.create("newer", **TARGET)
    refused = account.refusal(account.modify, "newer", **SOURCE)
    assert refused == "InvalidParameterCombination"
    assert account.group("newer")["Status"] == "available"
    assert account.member("newer-001")["EngineVersion"] == NEW.version


def test_an_unknown_version_is_refused(account: Any) -> None:
    account.create("same", **SOURCE)
    refused = account.refusal(account.modify, "same", Engine="valkey", EngineVersion="7.3")
    assert refused == "InvalidParameterCombination"
    assert account.last_message == "Cannot find version 7.3 for valkey"


def test_6_x_means_the_newest_minor_version(account: Any) -> None:
    if OLD.name != "redis":
        pytest.skip("no Redis 6 on this machine")
    account.create("floating", Engine="redis", EngineVersion="6.x")
    assert account.member("floating-001")["EngineVersion"] == OLD.version


def test_a_custom_parameter_group_does_not_follow_an_upgrade_by_itself(account: Any) -> None:
    for name, engine in (("old-custom", OLD), ("new-custom", NEW)):
        account.elasticache.create_cache_parameter_group(
            CacheParameterGroupName=name, CacheParameterGroupFamily=engine.family, Description="a test"
        )
    account.create("custom", CacheParameterGroupName="old-custom", **SOURCE)
    assert account.refusal(account.modify, "custom", **TARGET) == "InvalidParameterCombination"
    assert NEW.family in account.last_message and OLD.family in account.last_message
    wrong = account.refusal(account.modify, "custom", CacheParameterGroupName=f"default.{OLD.family}", **TARGET)
    assert wrong == "InvalidParameterCombination"
    account.modify("custom", CacheParameterGroupName="new-custom", **TARGET)
    shown = account.member("custom-001")["CacheParameterGroup"]
    assert shown["CacheParameterGroupName"] == "new-custom"


def test_a_node_type_change_gives_the_new_memory_and_keeps_the_data(account: Any) -> None:
    account.create("larger", NumCacheClusters=2, **SOURCE)
    account.data("larger").set("key", "value")
    account.modify("larger", CacheNodeType="cache.r6g.xlarge")
    assert account.data("larger").get("key") == "value"
    assert account.data("larger").info("memory")["maxmemory"] == 28261849702 * 3 // 4
    assert account.group("larger")["CacheNodeType"] == "cache.r6g.xlarge"


def test_a_group_that_is_being_modified_takes_no_second_change(account: Any) -> None:
    account.create("busy", NumCacheClusters=2, **SOURCE)
    change = {"ReplicationGroupId": "busy", "ApplyImmediately": True, **TARGET}
    account.elasticache.modify_replication_group(**change)
    assert account.refusal(account.elasticache.modify_replication_group, **change) == "InvalidReplicationGroupState"
    taken = account.refusal(account.elasticache.create_snapshot, ReplicationGroupId="busy", SnapshotName="busy")
    assert taken == "InvalidReplicationGroupState"
    account.reaches("busy", "available")


def test_settings_around_the_nodes_change_at_once(account: Any) -> None:
    account.create("settled", NumCacheClusters=2, **SOURCE)
    account.modify(
        "settled", ReplicationGroupDescription="new words", SnapshotRetentionLimit=3, SnapshotWindow="01:00-02:00",
        PreferredMaintenanceWindow="mon:03:00-mon:04:00", AutomaticFailoverEnabled=True,
        SecurityGroupIds=["sg-1"],
    )  # fmt: skip
    group, member = account.group("settled"), account.member("settled-001")
    assert (group["Description"], group["SnapshotRetentionLimit"]) == ("new words", 3)
    assert group["AutomaticFailover"] == "enabled"
    assert member["PreferredMaintenanceWindow"] == "mon:03:00-mon:04:00"
    assert member["SecurityGroups"][0]["SecurityGroupId"] == "sg-1"
