"""RDB files as real engines write them: every type, what their own commands say of each key, and files that are none."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis

from helpers.aws.errors import RunbookError
from helpers.elasticache.rdb import Facts, read_entries
from helpers.elasticache.wire import databases
from helpers.rehearsal import engines
from helpers.rehearsal.servers import Server

COUNTS = {"string": "STRLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN"}


@pytest.fixture(scope="module", params=engines.available(), ids=str)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(request.param, tmp_path_factory.mktemp("rdb")) as one:
        yield one


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as one:
        one.flushall()
        yield one


def saved(server: Server, client: redis.Redis) -> bytes:
    client.save()
    return server.rdb_path.read_bytes()


def test_every_key_has_the_type_elements_and_end_that_the_server_says(server: Server, client: redis.Redis, fill: Callable[[redis.Redis], None]) -> None:
    fill(client)
    facts = Facts()
    entries = list(read_entries(io.BytesIO(saved(server, client)), facts))
    assert facts.server == str(server.engine)
    assert Counter(one.database for one in entries) == databases(client)
    for number in databases(client):
        client.select(number)
        mine = [one for one in entries if one.database == number]
        pipe = client.pipeline(transaction=False)
        for one in mine:
            pipe.type(one.key)
            pipe.execute_command(COUNTS[one.kind], one.key)
            pipe.execute_command("PTTL", one.key)
        told = pipe.execute()
        now = sum(part * factor for part, factor in zip(client.time(), (1000, 0.001), strict=True))
        for one, kind, count, left in zip(mine, told[::3], told[1::3], told[2::3], strict=True):
            assert (one.kind, one.elements) == (kind.decode(), count), one
            assert one.expires_ms is None if left == -1 else abs(one.expires_ms - now - left) < 2000, one
    client.select(0)


def test_the_sizes_of_all_keys_are_the_whole_file(server: Server, client: redis.Redis, fill: Callable[[redis.Redis], None]) -> None:
    fill(client)
    data = saved(server, client)
    assert 0.99 * len(data) - 500 < sum(one.size for one in read_entries(io.BytesIO(data), Facts())) < len(data)


def _many(client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(600):
        pipe.set(f"session:{number:032x}", bytes(number * 2), ex=5000)
        pipe.hset(f"user:{number}", mapping={f"field-{n}": "v" * (n * 3 + 1) for n in range(8)})
    for number in range(8):
        pipe.hset(f"big-hash:{number}", mapping={f"field-{n}": "v" * (n % 110 + 1) for n in range(800)})
        pipe.sadd(f"big-set:{number}", *(f"member-{n}-{number}" for n in range(800)))
        pipe.zadd(f"big-scores:{number}", {f"member-{n}": n * 1.1 for n in range(800)})
        pipe.rpush(f"big-list:{number}", *("e" * (n % 150 + 1) for n in range(800)))
        for n in range(200):  # one below another in time, as on a busy machine: longer ids, and pieces that fill sooner
            pipe.xadd(f"log:{number}", {"n": n, "text": "x" * (n % 40 + 20)}, id=f"{1_700_000_000_000 + n * number * 40}-{n + 1}")
        for n in range(3):
            pipe.xadd(f"short-log:{number}", {"n": n})
    pipe.execute()


def test_memory_is_what_memory_usage_says_to_a_tenth_in_all_and_a_fifth_by_prefix(server: Server, client: redis.Redis) -> None:
    _many(client)
    estimated, true = Counter(), Counter()
    entries = list(read_entries(io.BytesIO(saved(server, client)), Facts()))
    pipe = client.pipeline(transaction=False)
    for one in entries:
        estimated[one.key.split(b":")[0]] += one.memory
        pipe.execute_command("MEMORY", "USAGE", one.key, "SAMPLES", 0)
    for one, size in zip(entries, pipe.execute(), strict=True):
        true[one.key.split(b":")[0]] += size
    assert {name: size for name, size in true.items() if abs(estimated[name] / size - 1) > 0.2} == {}
    assert sum(estimated.values()) == pytest.approx(sum(true.values()), rel=0.1)


def test_fields_that_end_are_counted(server: Server, client: redis.Redis) -> None:
    if server.engine.name != "valkey" or server.engine.number < (9,):
        pytest.skip("fields have ends of their own since Valkey 9")
    client.hset("h", mapping={f"f{n}": "v" * 20 for n in range(30)})
    client.execute_command("HEXPIRE", "h", 1000, "FIELDS", 2, "f1", "f2")
    client.set("after", "x")
    found = {one.key: one for one in read_entries(io.BytesIO(saved(server, client)), Facts())}
    assert (found[b"h"].kind, found[b"h"].elements, found[b"after"].elements) == ("hash", 30, 1)


def test_functions_and_scripts_are_passed_over(server: Server, client: redis.Redis) -> None:
    if server.engine.number < (7,):
        pytest.skip("functions came with 7.0")
    client.execute_command("FUNCTION", "LOAD", "REPLACE", "#!lua name=mine\nredis.register_function('f', function() return 1 end)")
    client.set("key", "x")
    assert [one.key for one in read_entries(io.BytesIO(saved(server, client)), Facts())] == [b"key"]
    client.execute_command("FUNCTION", "FLUSH")


def test_compressed_names_are_read_in_full(server: Server, client: redis.Redis) -> None:
    names = {b"a" * 300, b"page:" + b"0123456789" * 90, bytes(range(256)) * 3, b"session:" + b"0" * 64 + b"1"}
    for name in names:
        client.set(name, "x")
    assert {one.key for one in read_entries(io.BytesIO(saved(server, client)), Facts())} == names


class Dripping:
    """Gives a few bytes at a time, as a network does, and remembers the most that it was asked for."""

    def __init__(self, data: bytes) -> None:
        self._inner, self.most = io.BytesIO(data), 0

    def read(self, size: int) -> bytes:
        self.most = max(self.most, size)
        return self._inner.read(min(size, 777))


def test_a_big_value_is_passed_over_without_being_held(server: Server, client: redis.Redis) -> None:
    client.config_set("rdbcompression", "no")
    client.set("big", bytes(9_000_000))
    client.set("small", "x")
    data = Dripping(saved(server, client))
    client.config_set("rdbcompression", "yes")
    assert {one.key: one.elements for one in read_entries(data, Facts())} == {b"big": 9_000_000, b"small": 1}
    assert data.most <= 1 << 20


def test_a_file_that_is_cut_off_is_refused_wherever_the_cut_is(server: Server, client: redis.Redis, fill: Callable[[redis.Redis], None]) -> None:
    fill(client)
    data = saved(server, client)
    for part in range(1, 12):
        with pytest.raises(RunbookError, match="ends early|is no RDB file"):
            list(read_entries(io.BytesIO(data[: part * (len(data) - 1) // 12]), Facts(), "backup.rdb"))
    with pytest.raises(RunbookError, match=r"backup\.rdb ends early"):
        list(read_entries(io.BytesIO(data[:-1]), Facts(), "backup.rdb"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"not an RDB file at all", "is no RDB file"),
        (b"", "ends early"),
        (b"REDIS0012" + bytes(20), "format REDIS0012"),
        (b"VALKEY099" + bytes(20), "format VALKEY099"),
        (b"REDIS0011\x63\x01k", "a value of type 99"),
        (b"REDIS0011\xf3\x01k", "a part of type 243"),
    ],
)
def test_what_is_no_known_rdb_file_is_refused_in_a_sentence(data: bytes, told: str) -> None:
    with pytest.raises(RunbookError, match=told) as caught:
        list(read_entries(io.BytesIO(data), Facts(), "x.rdb"))
    assert caught.value.remedy
