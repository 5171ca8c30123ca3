"""Groups with cluster mode enabled are real clusters: described, led to, saved, seeded, upgraded as AWS does it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from helpers.rehearsal import engines
from helpers.rehearsal.elasticache import shards
from helpers.rehearsal.servers import Server

OLD, NEW = engines.pair()
KEYS = 300
THIRDS = ["0-5461", "5462-10922", "10923-16383"]


def create(account: Any, name: str, *, wait: str = "available", **options: Any) -> dict[str, Any]:
    request = {
        "ReplicationGroupDescription": "a test", "Engine": OLD.name, "EngineVersion": OLD.minor,
        "CacheNodeType": "cache.r6g.large", "NumNodeGroups": 2, "ReplicasPerNodeGroup": 1,
        "AutomaticFailoverEnabled": True, **options,
    }  # fmt: skip
    account.elasticache.create_replication_group(ReplicationGroupId=name, **request)
    return dict(account.reaches(name, wait))


def refused(account: Any, **options: Any) -> tuple[str, str]:
    code = account.refusal(create, account, "refused", **options)
    said = account.last_message if code else ""
    assert account.refusal(account.group, "refused") == "ReplicationGroupNotFoundFault"
    return code, said


def client(account: Any, name: str) -> RedisCluster:
    endpoint = account.group(name)["ConfigurationEndpoint"]
    return RedisCluster(host=endpoint["Address"], port=endpoint["Port"], decode_responses=True)


def addresses(account: Any, name: str) -> dict[str, dict[str, Any]]:
    return {
        member: account.member(member)["CacheNodes"][0]["Endpoint"] for member in account.group(name)["MemberClusters"]
    }


def fill(cluster: RedisCluster, count: int = KEYS) -> None:
    for number in range(count):
        cluster.set(f"key:{number}", number, ex=3600 if number % 2 else None)


def holds(cluster: RedisCluster, count: int = KEYS) -> bool:
    values = [cluster.get(f"key:{number}") == str(number) for number in range(count)]
    lives = [cluster.ttl(f"key:{number}") for number in range(count)]
    return all(values) and all((0 < life <= 3600) if n % 2 else life == -1 for n, life in enumerate(lives))


@pytest.fixture(scope="module")
def sessions(account: Any) -> Any:
    create(account, "sessions")
    fill(client(account, "sessions"))
    account.bucket()
    account.snapshot("nightly", "sessions")
    account.elasticache.copy_snapshot(
        SourceSnapshotName="nightly", TargetSnapshotName="moved", TargetBucket="sessions-backup"
    )
    account.snapshot_available("nightly")
    return account


def arns(*names: str) -> list[str]:
    return [f"arn:aws:s3:::sessions-backup/{name}.rdb" for name in names]


def layout(*slots: str, **more: Any) -> list[dict[str, Any]]:
    return [{"NodeGroupId": f"{n:04d}", "Slots": text, "ReplicaCount": 0, **more} for n, text in enumerate(slots, 1)]


def test_a_cluster_is_described_with_its_shards_and_one_configuration_endpoint(sessions: Any) -> None:
    group = sessions.group("sessions")
    assert (group["ClusterEnabled"], group["ClusterMode"]) == (True, "enabled")
    assert group["MemberClusters"] == [
        "sessions-0001-001", "sessions-0001-002", "sessions-0002-001", "sessions-0002-002",
    ]  # fmt: skip
    assert [(one["NodeGroupId"], one["Slots"]) for one in group["NodeGroups"]] == [
        ("0001", "0-8191"), ("0002", "8192-16383"),
    ]  # fmt: skip
    assert group["NodeGroups"][0]["NodeGroupMembers"] == [
        {"CacheClusterId": "sessions-0001-001", "CacheNodeId": "0001", "PreferredAvailabilityZone": "ap-northeast-1a"},
        {"CacheClusterId": "sessions-0001-002", "CacheNodeId": "0001", "PreferredAvailabilityZone": "ap-northeast-1c"},
    ]
    assert "PrimaryEndpoint" not in group["NodeGroups"][0]
    shown = sessions.member("sessions-0002-001")["CacheParameterGroup"]
    assert shown["CacheParameterGroupName"] == f"default.{OLD.family}.cluster.on"


def test_three_shards_have_the_slots_that_aws_gives_them() -> None:
    assert shards.even(3) == THIRDS
    assert shards.slots_as_text(shards.slots_in("5,7-9,6,20")) == "5-9,20"


def test_every_node_leads_a_cluster_client_to_the_addresses_that_the_service_tells(sessions: Any) -> None:
    told = {endpoint["Port"] for endpoint in addresses(sessions, "sessions").values()}
    for member in addresses(sessions, "sessions"):
        slots = sessions.node(member).execute_command("CLUSTER SLOTS")
        assert {place[1] for served in slots for place in served[2:]} == told
    wrong = sessions.node("sessions-0001-001")
    with pytest.raises(redis.exceptions.MovedError) as moved:
        wrong.get(next(f"k{n}" for n in range(99) if shards.slot_of(f"k{n}".encode()) > 8191))
    assert moved.value.port == sessions.member("sessions-0002-001")["CacheNodes"][0]["Endpoint"]["Port"]


def test_keys_are_spread_over_the_shards_and_copied_to_the_replicas(sessions: Any, until: Any) -> None:
    assert holds(client(sessions, "sessions"))
    sizes = [sessions.node(f"sessions-000{shard}-001").dbsize() for shard in (1, 2)]
    assert sum(sizes) == KEYS and min(sizes) > KEYS / 4
    until(lambda: sessions.node("sessions-0001-002").dbsize() == sizes[0])


def test_a_cluster_has_database_0_only(sessions: Any) -> None:
    with pytest.raises(redis.ResponseError, match="cluster mode|out of range"):
        sessions.node("sessions-0001-001").execute_command("SELECT", 1)


@pytest.mark.parametrize(
    "command",
    ["ADDSLOTS 1", "DELSLOTS 1", "FAILOVER", "FLUSHSLOTS", "FORGET abc", "MEET 127.0.0.1 6379", "REPLICATE abc",
     "RESET", "SETSLOT 1 STABLE", "BUMPEPOCH", "SAVECONFIG", "SET-CONFIG-EPOCH 9"],
)  # fmt: skip
def test_an_application_cannot_change_the_topology(sessions: Any, command: str) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        sessions.node("sessions-0001-001").execute_command("CLUSTER", *command.split())


def test_an_application_can_look_at_the_topology(sessions: Any) -> None:
    node = sessions.node("sessions-0001-001")
    for command in ("INFO", "NODES", "SLOTS", "MYID", "KEYSLOT key", "COUNTKEYSINSLOT 7", "GETKEYSINSLOT 7 1"):
        assert node.execute_command("CLUSTER", *command.split()) is not None


@pytest.mark.parametrize("engine", engines.available()[1:], ids=str)
def test_every_engine_forms_a_cluster_of_shards_configured_one_by_one(account: Any, engine: engines.Engine) -> None:
    name = f"formed{engine.version.replace('.', '-')}"
    shown = create(
        account, name, Engine=engine.name, EngineVersion=engine.minor, NumNodeGroups=3,
        CacheParameterGroupName=f"default.{engine.family}.cluster.on",
        NodeGroupConfiguration=[
            {"NodeGroupId": "7", "Slots": "0-99,16000-16383", "ReplicaCount": 0},
            {"Slots": "100-9999", "ReplicaCount": 1, "PrimaryAvailabilityZone": "ap-northeast-1d",
             "ReplicaAvailabilityZones": ["ap-northeast-1a"]},
            {"Slots": "10000-15999", "ReplicaCount": 0},
        ],
    )  # fmt: skip
    assert [(one["NodeGroupId"], one["Slots"], len(one["NodeGroupMembers"])) for one in shown["NodeGroups"]] == [
        ("0007", "0-99,16000-16383", 1), ("0002", "100-9999", 2), ("0003", "10000-15999", 1),
    ]  # fmt: skip
    zones = [m["PreferredAvailabilityZone"] for m in shown["NodeGroups"][1]["NodeGroupMembers"]]
    assert zones == ["ap-northeast-1d", "ap-northeast-1a"]
    fill(client(account, name))
    assert holds(client(account, name))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a mode between both": ({"ClusterMode": "compatible"}, "not offered"),
    "no failover": ({"AutomaticFailoverEnabled": False}, "automatic failover"),
    "zones without replicas": ({"MultiAZEnabled": True, "ReplicasPerNodeGroup": 0}, "one replica in each shard"),
    "a parameter group without cluster mode": (
        {"CacheParameterGroupName": f"default.{OLD.family}"}, "cluster-enabled set to yes"),
    "shards but the mode disabled": ({"ClusterMode": "disabled"}, "ClusterMode is disabled"),
    "slots with a gap": ({"NodeGroupConfiguration": layout("0-99", "200-16383")}, "without a gap or an overlap"),
    "slots that overlap": ({"NodeGroupConfiguration": layout("0-99", "99-16383")}, "without a gap or an overlap"),
    "slots of some shards only": (
        {"NodeGroupConfiguration": [{"Slots": "0-16383"}, {"ReplicaCount": 1}]}, "of every shard, or of none"),
    "no range of slots": ({"NodeGroupConfiguration": layout("0-x", "1-16383")}, "is not a range"),
    "more shards than configured": ({"NodeGroupConfiguration": layout("0-16383")}, "1 shards for 2"),
    "a shard twice": ({"NodeGroupConfiguration": [{"NodeGroupId": "1"}, {"NodeGroupId": "0001"}]}, "once only"),
    "nodes counted as without shards": ({"NumCacheClusters": 2}, "ReplicasPerNodeGroup"),
    "six replicas": ({"ReplicasPerNodeGroup": 6}, "0 to 5"),
    "more nodes than fit here": ({"NumNodeGroups": 20}, "at most 36 nodes"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_creation_is_refused_with(account: Any, what: str) -> None:
    options, words = REFUSED[what]
    code, said = refused(account, **options)
    assert code in ("InvalidParameterCombination", "InvalidParameterValue") and words in said


def test_a_parameter_group_of_ones_own_enables_cluster_mode(account: Any) -> None:
    account.elasticache.create_cache_parameter_group(
        CacheParameterGroupName="own", CacheParameterGroupFamily=OLD.family, Description="x"
    )

    def change(**values: str) -> None:
        pairs = [{"ParameterName": k.replace("_", "-"), "ParameterValue": v} for k, v in values.items()]
        account.elasticache.modify_cache_parameter_group(CacheParameterGroupName="own", ParameterNameValues=pairs)

    change(cluster_enabled="yes")
    group = create(account, "own", CacheParameterGroupName="own", NumNodeGroups=1, ReplicasPerNodeGroup=0)
    assert group["ClusterEnabled"] and group["NodeGroups"][0]["Slots"] == "0-16383"
    assert account.refusal(change, cluster_enabled="no") == "InvalidCacheParameterGroupState"
    assert account.refusal(account.create, "off", CacheParameterGroupName="own") == "InvalidParameterCombination"


def test_parameters_reach_every_node_and_resharding_is_refused(sessions: Any, until: Any) -> None:
    sessions.elasticache.create_cache_parameter_group(
        CacheParameterGroupName="told", CacheParameterGroupFamily=OLD.family, Description="x"
    )
    for name, value in (("cluster-enabled", "yes"), ("notify-keyspace-events", "KEA")):
        sessions.elasticache.modify_cache_parameter_group(
            CacheParameterGroupName="told", ParameterNameValues=[{"ParameterName": name, "ParameterValue": value}]
        )
    sessions.modify("sessions", CacheParameterGroupName="told")
    for member in ("sessions-0001-001", "sessions-0002-001"):
        node = sessions.node(member)
        listening = node.pubsub(ignore_subscribe_messages=True)
        listening.psubscribe("__keyspace@0__:*")
        listening.get_message(timeout=1)
        key = next(f"n{n}" for n in range(99) if (shards.slot_of(f"n{n}".encode()) > 8191) == ("-0002-" in member))
        node.set(key, 1)
        until(lambda one=listening: one.get_message(timeout=0.1))
    refusal = sessions.refusal(
        sessions.elasticache.modify_replication_group_shard_configuration,
        ReplicationGroupId="sessions", NodeGroupCount=3, ApplyImmediately=True,
    )  # fmt: skip
    assert refusal == "InvalidParameterCombination" and "Resharding" in sessions.last_message


# -- backups ---------------------------------------------------------------------------------------------


def test_a_snapshot_has_one_file_a_shard(sessions: Any) -> None:
    found = sessions.elasticache.describe_snapshots(SnapshotName="nightly", ShowNodeGroupConfig=True)["Snapshots"][0]
    assert found["NumNodeGroups"] == 2
    assert [
        (n["NodeGroupId"], n["CacheClusterId"], n["NodeGroupConfiguration"]["Slots"]) for n in found["NodeSnapshots"]
    ] == [("0001", "sessions-0001-002", "0-8191"), ("0002", "sessions-0002-002", "8192-16383")]
    keys = sessions.s3.list_objects_v2(Bucket="sessions-backup", Prefix="moved-")["Contents"]
    assert [one["Key"] for one in keys] == ["moved-0001.rdb", "moved-0002.rdb"]


def test_backups_seed_clusters_of_the_same_shards_and_of_others(sessions: Any) -> None:
    files = arns("moved-0001", "moved-0002")
    wanted = {
        "by-name": {"SnapshotName": "nightly", "Engine": NEW.name, "EngineVersion": NEW.minor, "ReplicasPerNodeGroup": 0},
        "by-files": {"SnapshotArns": files, "NodeGroupConfiguration": layout("0-8191", "8192-16383", ReplicaCount=1)},
        "crossed": {"SnapshotArns": files[::-1], "NodeGroupConfiguration": layout("0-8191", "8192-16383")},
        "spread": {"SnapshotArns": files, "NumNodeGroups": 3, "NodeGroupConfiguration": layout(*THIRDS),
                   "Engine": NEW.name, "EngineVersion": NEW.minor},
    }  # fmt: skip
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(create, sessions, name, **options) for name, options in wanted.items()]:
            assert done.result()["Status"] == "available"
    for name in wanted:
        assert holds(client(sessions, name)), name
        assert len(sessions.group(name)["NodeGroups"]) == (3 if name == "spread" else 2)
        sizes = [sessions.node(f"{name}-000{shard}-001").dbsize() for shard in (1, 2)]
        assert min(sizes) > 0 and (name == "spread" or sum(sizes) == KEYS)
        sessions.elasticache.delete_replication_group(ReplicationGroupId=name)


def test_a_backup_without_cluster_mode_is_spread_over_a_cluster(sessions: Any) -> None:
    sessions.create("plain", Engine=OLD.name, EngineVersion=OLD.minor)
    data = sessions.data("plain")
    for number in range(KEYS):
        data.set(f"key:{number}", number, ex=3600 if number % 2 else None)
    sessions.snapshot("plain", "plain")
    create(sessions, "from-plain", SnapshotName="plain", Engine=NEW.name, EngineVersion=NEW.minor)
    assert holds(client(sessions, "from-plain"))
    redis.Redis(port=sessions.group("plain")["NodeGroups"][0]["PrimaryEndpoint"]["Port"], db=3).set("key", 1)
    sessions.snapshot("several", "plain")
    create(sessions, "from-several", SnapshotName="several", wait="create-failed")
    assert "cluster mode has database 0 only" in sessions.events("from-several")[0]


def test_seeds_that_cannot_be_a_cluster_are_refused(sessions: Any) -> None:
    code, said = refused(sessions, SnapshotName="nightly", CacheParameterGroupName=f"default.{OLD.family}")
    assert code == "InvalidParameterCombination" and "cluster mode disabled" in said
    plain = {"ReplicationGroupId": "refused", "ReplicationGroupDescription": "x"}
    calls = sessions.elasticache.create_replication_group
    assert sessions.refusal(calls, **plain, SnapshotName="nightly", ClusterMode="disabled")
    assert "cannot be restored to one with cluster mode disabled" in sessions.last_message
    assert sessions.refusal(calls, **plain, SnapshotArns=arns("moved-0001", "moved-0002"))
    assert "need cluster mode enabled" in sessions.last_message
    code, said = refused(sessions, SnapshotArns=arns("moved-0001", "moved-0002"))
    assert code == "InvalidParameterCombination" and "each shard's Slots" in said
    assert sessions.refusal(
        sessions.elasticache.create_snapshot, SnapshotName="one", CacheClusterId="sessions-0001-001"
    ) == "InvalidParameterCombination"  # fmt: skip


def test_a_truncated_file_of_one_shard_fails_the_whole_restore(sessions: Any) -> None:
    whole = sessions.s3.get_object(Bucket="sessions-backup", Key="moved-0002.rdb")["Body"].read()
    sessions.s3.put_object(Bucket="sessions-backup", Key="cut.rdb", Body=whole[: len(whole) // 2])
    slots = layout("0-8191", "8192-16383")
    create(sessions, "cut", wait="create-failed", SnapshotArns=arns("moved-0001", "cut"), NodeGroupConfiguration=slots)
    assert "EOF" in sessions.events("cut")[0]
    assert sessions.member("cut-0001-001")["CacheClusterStatus"] == "restore-failed"
    sessions.elasticache.delete_replication_group(ReplicationGroupId="cut")
    sessions.gone("cut")


def test_a_final_snapshot_of_a_cluster_has_all_its_shards(account: Any) -> None:
    create(account, "leaving", ReplicasPerNodeGroup=0)
    fill(client(account, "leaving"))
    ports = [endpoint["Port"] for endpoint in addresses(account, "leaving").values()]
    account.elasticache.delete_replication_group(ReplicationGroupId="leaving", FinalSnapshotIdentifier="farewell")
    account.gone("leaving")
    for port in ports:
        with pytest.raises(redis.ConnectionError):
            redis.Redis(port=port, retry=Retry(NoBackoff(), 0)).ping()
    create(account, "returned", SnapshotName="farewell", ReplicasPerNodeGroup=0)
    assert holds(client(account, "returned"))


def test_data_larger_than_a_node_is_no_restore_with_keys_evicted(sessions: Any, tmp_path: Path) -> None:
    with Server(engines.available()[0], tmp_path) as server:
        for number in range(4):
            # Zeros: many MiB in memory, little in the file.
            server.client().setrange(f"large:{number}", 8 * 2**20 - 1, b"\0")
            server.client().expire(f"large:{number}", 3600)
        server.client().save()
    sessions.s3.put_object(Bucket="sessions-backup", Key="large.rdb", Body=server.rdb_path.read_bytes())
    sessions.elasticache.create_cache_parameter_group(
        CacheParameterGroupName="tight", CacheParameterGroupFamily=OLD.family, Description="x"
    )
    for name, value in (("reserved-memory-percent", "98"), ("cluster-enabled", "yes")):
        sessions.elasticache.modify_cache_parameter_group(
            CacheParameterGroupName="tight", ParameterNameValues=[{"ParameterName": name, "ParameterValue": value}]
        )
    create(
        sessions, "tight", wait="create-failed", CacheNodeType="cache.t3.micro", CacheParameterGroupName="tight",
        SnapshotArns=arns("large"), NodeGroupConfiguration=layout("0-8191", "8192-16383"),
    )  # fmt: skip
    assert "a cache.t3.micro gives 10737418 bytes to data" in sessions.events("tight")[0]


# -- changes ---------------------------------------------------------------------------------------------


class Writer:
    """An application that writes and remembers what was acknowledged; `prefix` begins its keys."""

    def __init__(self, set_: Any, prefix: str) -> None:
        self.acknowledged: list[int] = []
        self.failed = 0
        self.longest_s = 0.0
        self._set = set_
        self._prefix = prefix
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
        while not self._stop.wait(0.002):
            number += 1
            try:
                self._set(f"{self._prefix}{number}", number)
            except (redis.RedisError, redis.exceptions.RedisClusterException):
                self.failed += 1
                continue
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now
            self.acknowledged.append(number)

    def lost(self, cluster: RedisCluster) -> list[int]:
        return [number for number in self.acknowledged if cluster.get(f"{self._prefix}{number}") != str(number)]


@pytest.mark.parametrize("replicas", [1, 0])
def test_a_rolling_upgrade_of_a_cluster_loses_no_acknowledged_write_and_keeps_every_address(
    account: Any, until: Any, record_property: Any, replicas: int
) -> None:
    name = f"rolling{replicas}"
    group = create(account, name, ReplicasPerNodeGroup=replicas)
    before, cluster = addresses(account, name), client(account, name)
    fill(cluster)
    # One client follows the cluster; the other knows one node only, and repeats nothing.
    tag = next(f"{{{n}}}" for n in range(99) if shards.slot_of(str(n).encode()) < 8192)
    alone = redis.Redis(port=before[f"{name}-0001-001"]["Port"], retry=Retry(NoBackoff(), 0), socket_timeout=5)
    with Writer(cluster.set, "written:") as writer, Writer(alone.set, tag) as plain:
        until(lambda: min(len(writer.acknowledged), len(plain.acknowledged)) > 50)
        after = account.modify(name, Engine=NEW.name, EngineVersion=NEW.minor)
        counts = len(writer.acknowledged), len(plain.acknowledged)
        until(lambda: len(writer.acknowledged) > counts[0] + 50 and len(plain.acknowledged) > counts[1] + 50)
    for what, one in (("cluster client", writer), ("plain client", plain)):
        record_property(what, f"{len(one.acknowledged)} acknowledged, {one.failed} failed, {one.longest_s:.3f} s at most")
    fresh = client(account, name)
    assert writer.lost(fresh) == [] and plain.lost(fresh) == [] and holds(fresh)
    assert addresses(account, name) == before
    assert after["ConfigurationEndpoint"] == group["ConfigurationEndpoint"]
    assert {account.member(one)["EngineVersion"] for one in before} == {NEW.version}
    shown = account.member(f"{name}-0001-001")["CacheParameterGroup"]["CacheParameterGroupName"]
    assert shown == f"default.{NEW.family}.cluster.on"
    # Measured 0.1 s; the bound leaves room for a busy machine.
    assert writer.longest_s < 5 and plain.longest_s < 5


def test_replicas_are_added_to_and_taken_from_shards(account: Any, until: Any) -> None:
    create(account, "scaled", ReplicasPerNodeGroup=0)
    fill(client(account, "scaled"))
    change = {"ReplicationGroupId": "scaled", "ApplyImmediately": True}
    account.elasticache.increase_replica_count(NewReplicaCount=1, **change)
    assert account.reaches("scaled", "available")["MemberClusters"] == [
        "scaled-0001-001", "scaled-0001-002", "scaled-0002-001", "scaled-0002-002",
    ]  # fmt: skip
    size = account.node("scaled-0002-001").dbsize()
    assert account.node("scaled-0002-002").dbsize() == size
    configuration = [{"NodeGroupId": "0002", "NewReplicaCount": 2, "PreferredAvailabilityZones": 3 * ["ap-northeast-1d"]}]
    account.elasticache.increase_replica_count(ReplicaConfiguration=configuration, **change)
    assert account.reaches("scaled", "available")["MemberClusters"][-1] == "scaled-0002-003"
    assert account.member("scaled-0002-003")["PreferredAvailabilityZone"] == "ap-northeast-1d"
    account.elasticache.decrease_replica_count(ReplicaConfiguration=[{"NodeGroupId": "2", "NewReplicaCount": 0}], **change)
    members = account.reaches("scaled", "available")["MemberClusters"]
    assert members == ["scaled-0001-001", "scaled-0001-002", "scaled-0002-001"]
    known = account.node("scaled-0001-001").execute_command("CLUSTER NODES")
    assert len(known) == 3
    for wrong in ({"NewReplicaCount": 1}, {"ReplicaConfiguration": [{"NodeGroupId": "0009", "NewReplicaCount": 1}]}):
        assert account.refusal(account.elasticache.decrease_replica_count, **change, **wrong)
    assert holds(client(account, "scaled"))
