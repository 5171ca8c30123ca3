"""Real servers for the data-plane tests: the rehearsal's old engine and its new one."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from helpers.elasticache.access import Access
from helpers.elasticache.groups import Group, Member, Shard
from helpers.elasticache.wire import Wire, databases, scan
from helpers.rehearsal import engines
from helpers.rehearsal.servers import Server, free_port

PATIENCE_S = 10.0


@pytest.fixture(scope="session")
def old_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The engine that is left: Redis 6.2 where it has a wheel, publishing every key event."""
    with Server(engines.pair()[0], tmp_path_factory.mktemp("old"), config=_CONFIG) as server:
        yield server


@pytest.fixture(scope="session")
def new_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The engine that is moved to: Valkey 8.1 where it has a wheel."""
    with Server(engines.pair()[1], tmp_path_factory.mktemp("new"), config=_CONFIG) as server:
        yield server


@pytest.fixture(scope="session", params=engines.available()[1:], ids=str)
def shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, ...]]:
    """Two nodes of the old engine that share the slots, and two of a newer one that share them alike."""
    with ExitStack() as opened:
        yield tuple(
            node for engine in (engines.pair()[0], request.param) for node in _cluster(engine, tmp_path_factory, opened)
        )


def _cluster(engine: engines.Engine, directories: pytest.TempPathFactory, opened: ExitStack) -> list[Server]:
    """Two nodes, of which each has half of the slots."""
    config = {**_CONFIG, "cluster-enabled": "yes"}
    nodes = [
        opened.enter_context(Server(engine, directories.mktemp("node"), port=_port_of_node(), config=config))
        for _ in range(2)
    ]
    for node, slots in zip(nodes, (range(8192), range(8192, 16384)), strict=True):
        node.command("CLUSTER", "ADDSLOTS", *map(str, slots))
    nodes[0].command("CLUSTER", "MEET", *map(str, nodes[1].address))
    deadline = time.monotonic() + 3 * PATIENCE_S
    while not all(_is_up(node) for node in nodes):
        assert time.monotonic() < deadline, "the cluster did not come up"
        time.sleep(0.02)
    return nodes


def _is_up(node: Server) -> bool:
    about = node.command("CLUSTER", "INFO")
    return b"cluster_state:ok" in about and b"cluster_slots_assigned:16384" in about


def _port_of_node() -> int:
    """A free port to which 10,000 can be added, where nodes talk to each other."""
    while (port := free_port()) > 55_000:
        pass
    return port


_CONFIG = {"notify-keyspace-events": "AE", "repl-diskless-sync-delay": "0"}


@pytest.fixture
def source(old_server: Server) -> Iterator[redis.Redis]:
    """A client of the old server, which is empty."""
    with old_server.client() as client:
        _empty(client)
        yield client
        _empty(client)


@pytest.fixture
def target(new_server: Server) -> Iterator[redis.Redis]:
    """A client of the new server, which is empty."""
    with new_server.client() as client:
        _empty(client)
        yield client
        _empty(client)


@pytest.fixture
def cluster_pairs(shards: tuple[Server, ...]) -> Iterator[list[tuple[redis.Redis, redis.Redis]]]:
    """Clients of the nodes, which are empty: the old and the new one of each shard."""
    clients = [server.client() for server in shards]
    for client in clients:
        _empty(client)
    yield [(clients[0], clients[2]), (clients[1], clients[3])]
    for client in clients:
        _empty(client)
        client.close()


def _empty(client: redis.Redis) -> None:
    client.execute_command("CLIENT", "UNPAUSE")
    client.flushall()


@pytest.fixture
def all_keys() -> Callable[[redis.Redis], set[tuple[int, bytes]]]:
    """A function that returns all keys of a server, as pairs of database and name."""

    def names(client: redis.Redis) -> set[tuple[int, bytes]]:
        with Wire(client) as wire:
            found = set()
            for number in databases(client):
                wire.select(number)
                found |= {(number, key) for keys in scan(wire) for key in keys}
            return found

    return names


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """A function that waits until its argument returns something true, and fails after ten seconds."""

    def wait(done: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, "it did not happen in ten seconds"
            time.sleep(0.005)

    return wait


@pytest.fixture
def fill() -> Callable[[redis.Redis], None]:
    """A function that gives a server keys of every type, with and without a TTL, in three databases."""
    return _fill


def _fill(client: redis.Redis) -> None:
    for database in (0, 1, 5):
        with client.pipeline(transaction=False) as pipe:
            pipe.select(database)
            _fill_database(pipe, random.Random(database))
            pipe.select(0)
            pipe.execute()


def _fill_database(client: redis.Redis, chance: random.Random) -> None:
    for number in range(40):
        client.set(f"text:{number}", chance.randbytes(chance.randrange(200)), ex=chance.choice([None, 5000]))
        client.rpush(f"list:{number}", *(chance.randbytes(8) for _ in range(chance.randrange(1, 20))))
        client.sadd(f"set:{number}", *(chance.randrange(10**9) for _ in range(chance.randrange(1, 20))))
        client.sadd(f"words:{number}", *(chance.randbytes(9) for _ in range(chance.randrange(1, 20))))
        client.hset(f"hash:{number}", mapping={f"f{n}": chance.randbytes(90) for n in range(9)})
        client.zadd(f"scores:{number}", {f"m{n}": chance.random() for n in range(9)})
        client.expire(f"hash:{number}", 9000)
    client.set(b"bytes:\xff\x00\r\n", b"\x00\xff\r\n")
    client.set("", "an empty name")
    client.set("empty", "")
    client.set("big:text", chance.randbytes(700_000))
    client.rpush("big:list", *(chance.randbytes(30) for _ in range(5000)))
    client.sadd("big:set", *(chance.randbytes(30) for _ in range(5000)))
    client.hset("big:hash", mapping={chance.randbytes(20): chance.randbytes(20) for _ in range(5000)})
    client.zadd("big:scores", {chance.randbytes(20): chance.random() for _ in range(5000)})
    client.zadd("odd:scores", {"a": 0.1, "b": float("inf"), "c": float("-inf"), "d": 1e300, "e": 2**53, "f": -1.5})
    client.pfadd("visitors", *range(1000))
    client.pfcount("visitors")
    client.setbit("bits", 100_000, 1)
    client.geoadd("places", [13.36, 38.11, "Palermo"])
    _fill_streams(client)


def _fill_streams(client: redis.Redis) -> None:
    client.xgroup_create("stream:new", "nobody", mkstream=True)
    for number in range(700):
        client.xadd("stream", {"n": number}, id=f"{number + 1}-1")
    client.xgroup_create("stream", "workers", "0")
    client.xgroup_create("stream", "idle", "$")
    client.xreadgroup("workers", "anna", {"stream": ">"}, count=20)
    client.xreadgroup("workers", "bert", {"stream": ">"}, count=5)
    client.xack("stream", "workers", "1-1", "22-1")
    client.xdel("stream", "3-1", "700-1")
    client.xadd("stream:trimmed", {"a": 1}, id="5-5")
    client.xtrim("stream:trimmed", maxlen=0)


@pytest.fixture
def access_to() -> Callable[..., Access]:
    """A function that gives the way into a group of the servers named: the first is the primary of one shard."""
    return _access_to


def _access_to(*servers: Server, **facts: object) -> Access:
    members = tuple(Member(f"g-{number:03d}", "primary" if number == 1 else "replica", f"zone-{number}", *server.address) for number, server in enumerate(servers, 1))
    shards = (Shard("0001", "", members),)
    told = {"host": servers[0].address[0], "port": servers[0].port, "engine": "valkey", "engine_version": "8.1.0", "node_type": "cache.r6g.large", "automatic_failover": "enabled", "status": "available"}
    told |= {"id": "g", "shards": shards, "cluster_mode": False, "in_transit_encryption": False, "auth_token": False, "user_groups": (), **facts}
    rest = {one.name: "" for one in dataclasses.fields(Group) if one.name not in told}
    return Access(Group(**rest, **told))
