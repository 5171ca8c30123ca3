"""The connection to a cluster, on real servers: every command once, to the node that has the key's slot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.rehearsal import dataset, engines
from helpers.rehearsal.cluster_wire import ClusterWire, slot_of
from helpers.rehearsal.ledger import Ledger
from helpers.rehearsal.servers import Server
from helpers.rehearsal.wire import Refused, WireError
from helpers.rehearsal.workload import Workload
from tests.rehearsal.clusters import RealCluster


@pytest.fixture(scope="module", params=[engines.available()[0], engines.pair()[1]], ids=str)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with RealCluster(request.param, tmp_path_factory.mktemp("cluster"), replicas=True) as found:
        yield found


@pytest.fixture
def wire(cluster: RealCluster) -> Iterator[ClusterWire]:
    with ClusterWire(cluster.endpoint) as found:
        yield found
        found.each("FLUSHALL")


def keys_of(wire: ClusterWire, count: int = 3) -> dict[str, list[str]]:
    """Return some keys of each shard."""
    keys: dict[str, list[str]] = {name: [] for name in wire.shards}
    for number in range(200):
        keys[wire.shard_of(f"key:{number}")].append(f"key:{number}")
    return {name: some[:count] for name, some in keys.items()}


@pytest.mark.parametrize("key", ["", "a", "{user:1}:cart", "{}x", "{x", "a{b}{c}", "日本語", "SELECT * FROM users;", b"\xff{\x00}"])
def test_a_key_has_the_slot_that_the_server_says(key: str | bytes, cluster: RealCluster) -> None:
    with cluster.primaries[0].client() as client:
        assert slot_of(key) == client.execute_command("CLUSTER", "KEYSLOT", key)


def test_each_key_goes_to_its_shard_and_many_at_once_are_asked_of_all(cluster: RealCluster, wire: ClusterWire) -> None:
    assert wire.shards == ("0", "8192")
    wire.bulk(("SET", f"key:{number}", number) for number in range(5_000))
    counts = wire.each("DBSIZE")
    assert sum(counts) == 5_000 and min(counts) > 2_000
    names = [name for some in keys_of(wire).values() for name in some]
    assert wire.one("MGET", *names) == [name.split(":")[1].encode() for name in names]
    assert wire.one("EXISTS", *names, "absent") == len(names)
    assert wire.ask(*(("GET", name) for name in names), ("GET", "absent"), ("LPUSH", names[0], "x"))[-2] is None


def test_a_slot_that_has_moved_is_found_at_its_new_owner_and_the_layout_learnt(cluster: RealCluster, wire: ClusterWire) -> None:
    first, second = cluster.primaries
    slot = slot_of("moved")
    owner, other = (first, second) if slot < 8192 else (second, first)
    cluster.move_slot(slot, other)
    try:
        assert wire.shard_of("moved") == ("0" if owner is first else "8192")
        assert wire.transaction(("GET", "moved"), ("SET", "moved", "here"))[0] is None
        assert other.command("GET", "moved") == b"here"
        assert wire.one("GET", "moved") == b"here"
        redirected = _calls(owner, "get")
        assert wire.ask(("GET", "moved"), ("GET", "moved")) == [b"here", b"here"]
        assert _calls(owner, "get") == redirected, "asked at once where it is now"
    finally:
        other.command("DEL", "moved")
        cluster.move_slot(slot, owner)


def test_a_key_on_its_way_to_another_node_is_asked_for_there(cluster: RealCluster, wire: ClusterWire) -> None:
    slot = slot_of("on its way")
    source, target = cluster.primaries if slot < 8192 else cluster.primaries[::-1]
    target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", cluster.id_of(source))
    source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", cluster.id_of(target))
    try:
        shards = wire.shards
        assert wire.transaction(("GET", "on its way"), ("SET", "on its way", "1"), ("INCR", "on its way"))[2] == 2
        assert wire.one("INCR", "on its way") == 3
        assert wire.shards == shards, "the slot has not moved yet"
        with pytest.raises(Refused, match="^ASK"):
            source.command("GET", "on its way")
    finally:
        for server in (source, target):
            server.command("CLUSTER", "SETSLOT", str(slot), "STABLE")


def test_an_error_is_the_servers_own_and_not_sent_again(cluster: RealCluster, wire: ClusterWire) -> None:
    wire.one("SET", "text", "x")
    before = sum(_calls(server, "incr") for server in cluster.primaries)
    with pytest.raises(Refused, match="not an integer"):
        wire.one("INCR", "text")
    assert sum(_calls(server, "incr") for server in cluster.primaries) == before + 1


def _calls(server: Server, command: str) -> int:
    """Return how often a server was sent a command, whether it carried it out or refused it."""
    stats = server.admin().info("commandstats").get(f"cmdstat_{command}", {})
    return stats.get("calls", 0) + stats.get("rejected_calls", 0)


def test_the_data_set_of_a_cluster_is_in_database_0_of_all_its_shards(cluster: RealCluster) -> None:
    assert dataset.fill(cluster.endpoint, 3_000, cluster=True) == 3_000
    assert dataset.fill(cluster.endpoint, 3_000, cluster=True) == 0
    with ClusterWire(cluster.endpoint) as wire:
        sizes = wire.each("DBSIZE")
        assert sum(sizes) == 3_000 and min(sizes) > 1_200
        assert wire.one("GET", "counter:edge") == str(2**63 - 1).encode()
        wire.each("FLUSHALL")


def lost(work: Workload, wire: ClusterWire) -> int:
    assert work.audit(wire, lambda: True)
    return int(work.ledger.summary()["acknowledged_writes_lost"])


def test_the_shards_take_turns_and_a_write_lost_in_one_of_them_is_counted(cluster: RealCluster, wire: ClusterWire) -> None:
    work = Workload(Ledger(start=1_000), sessions=30)
    written = {name: 0 for name in wire.shards}
    done = 0
    while done < 1_500:
        done += work.write(wire)
        written[wire.shard_of(work.key)] += 1
    assert min(written.values()) > 0.45 * sum(written.values())
    assert lost(work, wire) == 0
    assert work.ledger.summary()["acknowledged_writes"] == done
    for server in cluster.primaries:
        key = min(server.client().keys("visits:*"))
        value = int(server.client().get(key))
        before = lost(work, wire)
        server.client().set(key, value - 1)
        assert lost(work, wire) == before + 1
    # The next writes hide it, and it stays counted.
    for _ in range(1_500):
        work.write(wire)
    assert lost(work, wire) == 2


def test_a_failover_of_one_shard_loses_nothing_that_its_replica_has(cluster: RealCluster) -> None:
    work = Workload(Ledger(start=1_000), sessions=30)
    with ClusterWire(cluster.endpoint) as wire:
        for _ in range(500):
            work.write(wire)
        cluster.replicas[1].command("CLUSTER", "FAILOVER")
        cluster.until(lambda: b"role:master" in cluster.replicas[1].command("INFO", "replication"))
        # The old primary says MOVED, so not a single write is refused or unknown.
        for _ in range(500):
            work.write(wire)
        assert wire.shards == ("0", "8192")
        assert lost(work, wire) == 0
        assert work.ledger.summary()["unacknowledged_writes"] == 0
        assert cluster.replicas[1].client().keys("visits:*")
        wire.each("FLUSHALL")
    cluster.primaries[1], cluster.replicas[1] = cluster.replicas[1], cluster.primaries[1]


def test_a_shard_that_is_gone_is_an_error_of_its_keys_alone(tmp_path: Path) -> None:
    with RealCluster(engines.available()[0], tmp_path, **{"cluster-require-full-coverage": "no"}) as cluster:
        with ClusterWire(cluster.endpoint, timeout_s=1) as wire:
            some = keys_of(wire, 1)
            cluster.primaries[1].kill()
            assert wire.one("SET", some["0"][0], "x") == b"OK"
            with pytest.raises(WireError):
                wire.one("SET", some["8192"][0], "x")


def test_a_server_without_cluster_mode_says_so(tmp_path: Path) -> None:
    with Server(engines.available()[0], tmp_path) as server, pytest.raises(Refused, match="cluster support disabled"):
        ClusterWire(f"127.0.0.1:{server.port}")
