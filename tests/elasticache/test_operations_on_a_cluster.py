"""Everyday operations with cluster mode enabled: every shard is looked at, and applications need not know."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from helpers.elasticache import demo, keys, monitor, query_cache, sessions, topology
from helpers.elasticache.access import Access, check_access
from helpers.elasticache.groups import Member, Shard
from helpers.rehearsal import engines
from helpers.rehearsal.servers import Server

SLOTS = ((0, 8191), (8192, 16383))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[list[Server]]:
    """Two primaries, and a replica of the first."""
    servers = []
    try:
        for number in range(3):
            config = {"cluster-enabled": "yes", "cluster-port": str(free_port()), "cluster-node-timeout": "2000", "repl-diskless-sync-delay": "0"}
            servers.append(Server(engines.pair()[1], tmp_path_factory.mktemp(f"node{number}"), config=config))
        first, second, replica = servers
        for server, slots in zip((first, second), SLOTS, strict=True):
            server.command("CLUSTER", "ADDSLOTSRANGE", *map(str, slots))
        for server in (second, replica):
            with server.client() as client:
                bus = client.config_get("cluster-port")["cluster-port"]
            first.command("CLUSTER", "MEET", "127.0.0.1", str(server.port), bus)
        name = first.command("CLUSTER", "MYID").decode()
        settle(lambda: name.encode() in replica.command("CLUSTER", "NODES"))
        replica.command("CLUSTER", "REPLICATE", name)
        settle(lambda: all(b"cluster_state:ok" in server.command("CLUSTER", "INFO") and b"cluster_known_nodes:3" in server.command("CLUSTER", "INFO") for server in servers))
        settle(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
        yield servers
    finally:
        for server in servers:
            server.stop()


def settle(done) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "the cluster did not form"
        time.sleep(0.05)


@pytest.fixture
def access(nodes, access_to) -> Access:
    first, second, replica = (Member(f"c-{shard}-{number}", "", zone, *server.address) for server, (shard, number, zone) in zip(nodes, (("0001", "002", "a"), ("0002", "001", "b"), ("0001", "001", "b")), strict=True))
    # the replica comes first, as after a failover
    shards = (Shard("0001", "0-8191", (replica, first)), Shard("0002", "8192-16383", (second,)))
    for server in nodes[:2]:
        server.command("FLUSHALL")
    return access_to(nodes[0], cluster_mode=True, shards=shards)


def test_roles_are_asked_of_the_nodes(access):
    assert all(check.outcome == "pass" for check in check_access(access))
    picture = topology.describe_topology(access)
    assert picture.finding == "2 shards: 2 primaries and 1 replica in 2 zones"
    assert [picture.role(member) for member in access.group.members] == ["replica", "primary", "primary"]
    assert [client.info("replication")["role"] for client in access.primaries] == ["master", "master"]
    assert access.command_lines()["to reach the"][0] == "configuration endpoint"


def test_keys_of_all_shards_are_listed_sampled_and_measured(access):
    with access.client() as client:
        for number in range(400):
            client.set(f"session:{number}", "x" * 50)
            client.rpush(f"list:{number}", *range(5))
        client.set("big:one", "z" * 200_000)
    found = keys.list_keys(access, "session:*", limit=1000)
    assert (len(set(found.keys)), found.total, {shard for shard, _ in found.keys}) == (400, 801, {0, 1})
    sample, biggest = keys.sample_keys(access, 600), keys.biggest_keys(access, 3)
    assert keys.shown(biggest.frame["key"].iloc[0]) == "big:one"
    assert (sample.keys, biggest.looked_at, len(sample.drawn)) == (801, 801, 2)
    table = sample.by_prefix(biggest).table().set_index("prefix")
    assert table.loc["session:", "keys"] == pytest.approx(400, abs=80)
    assert set(keys.examples(access)["type"]) == {"string", "list"}
    assert keys.keys_command(access).table()["keys"].sum() == 2 * access.primaries[0].dbsize()


def test_a_key_that_is_on_another_shard_is_left_out(access):
    with access.client() as client:
        client.mset_nonatomic({f"k:{number}": 1 for number in range(50)})
    first, second = access.primaries
    with keys.Wire(first) as wire:
        described = keys.describe_keys(wire, [b"k:%d" % number for number in range(50)])
    assert 0 < len(described) == first.dbsize() < 50
    assert first.dbsize() + second.dbsize() == 50


def test_sessions_and_the_query_cache_work_across_shards_and_leave_nothing(access, tmp_path):
    instances = sessions.start_instances(access, 2)
    ids = [instances[0].log_in(f"user{number}") for number in range(20)]
    instances = sessions.release(access, instances)
    assert [instances[1].sessions.user(one) for one in ids] == [f"user{number}" for number in range(20)]
    database = query_cache.sample_database(tmp_path / "x.db", 100)
    cache = query_cache.QueryCache(access.client(), database)
    assert [cache.ask(query_cache.USERS_SQL).source for _ in range(2)] == [query_cache.MISS, query_cache.HIT]
    assert {client.dbsize() > 0 for client in access.primaries} == {True}
    assert demo.remove(cache, instances[0].sessions) == 21
    assert [client.dbsize() for client in access.primaries] == [0, 0]
    database.close()


def test_monitor_sees_the_commands_of_one_shard_only(access):
    stop = threading.Event()

    def write() -> None:
        with access.client() as client:
            while not stop.is_set():
                for number in range(50):
                    client.set(f"k:{number}", 1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        watched = monitor.watch(access.primaries[0], seconds=5, commands=200)
    finally:
        stop.set()
        thread.join()
    seen = set(watched.frame.loc[watched.frame["command"] == "SET", "key"])
    assert seen == {key.decode() for key in access.primaries[0].keys()}
    assert 0 < len(seen) < 50
