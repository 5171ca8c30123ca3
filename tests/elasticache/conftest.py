"""Real servers for the data-plane tests: the rehearsal's old engine and its new one."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from helpers.elasticache.access import Access
from helpers.elasticache.groups import Group, Member, Shard
from helpers.rehearsal import engines
from helpers.rehearsal.servers import Server

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


def _empty(client: redis.Redis) -> None:
    client.execute_command("CLIENT", "UNPAUSE")
    client.flushall()


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
