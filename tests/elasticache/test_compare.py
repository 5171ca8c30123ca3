"""The comparison finds every difference, and nothing else."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from helpers.elasticache import compare, compare_keys
from helpers.elasticache.copying import copy_keys
from helpers.elasticache.wire import Wire, databases, scan


def all_keys(client: redis.Redis) -> set[tuple[int, bytes]]:
    with Wire(client) as wire:
        found = set()
        for number in databases(client):
            wire.select(number)
            found |= {(number, key) for keys in scan(wire) for key in keys}
        return found


def kinds(comparison) -> dict[tuple[int, str], str]:
    return {(row.database, row.key): row.kind for row in comparison.differences.itertuples()}


def quietly(source: redis.Redis, target: redis.Redis, **options):
    return compare(source, target, progress=False, **options)


@pytest.fixture
def twins(source: redis.Redis, target: redis.Redis, fill: Callable) -> tuple[redis.Redis, redis.Redis]:
    """Two servers of two engines with the same keys of every type."""
    fill(source)
    copy_keys(source, target, all_keys(source))
    return source, target


def test_equal_servers_of_two_engines_are_equal(twins):
    comparison = quietly(*twins)
    assert comparison.equal, comparison
    assert comparison.keys_different == comparison.expired == 0
    assert comparison.keys_compared == len(all_keys(twins[0]))
    assert comparison.keys_per_second > 0
    assert list(comparison.differences.columns) == ["database", "key", "kind"]
    assert list(comparison.table()["database"]) == [0, 1, 5]


def test_values_that_are_read_compare_as_those_that_are_digested(twins):
    comparison = compare_keys(*twins, all_keys(twins[0]))
    assert comparison.equal, comparison
    assert comparison.keys_compared == len(all_keys(twins[0]))


PLANTED = {
    "text:1": lambda to: to.append("text:1", "x"),
    "text:2": lambda to: to.setrange("text:2", 0, b"\x01\x02\x03\x04\x05\x06\x07\x08"),
    "empty": lambda to: to.set("empty", " "),
    "bits": lambda to: to.setbit("bits", 99_999, 1),
    "list:1": lambda to: to.lpush("list:1", "x"),
    "set:1": lambda to: to.sadd("set:1", "x"),
    "words:1": lambda to: to.spop("words:1") and to.sadd("words:1", "instead"),
    "hash:1": lambda to: to.hset("hash:1", "f1", "x"),
    "hash:2": lambda to: to.hdel("hash:2", "f1"),
    "scores:1": lambda to: to.zincrby("scores:1", 1e-15, "m1"),
    "odd:scores": lambda to: to.zadd("odd:scores", {"b": 1e308}),
    "places": lambda to: to.geoadd("places", [13.37, 38.11, "Palermo"]),
    "visitors": lambda to: to.pfadd("visitors", "one more", "two", "three", "four"),
    "big:text": lambda to: to.setrange("big:text", 650_000, b"\x01\x02\x03\x04\x05\x06\x07\x08"),
    "big:list": lambda to: to.lset("big:list", 4321, "x"),
    "big:set": lambda to: to.spop("big:set") and to.sadd("big:set", "instead"),
    "big:hash": lambda to: to.hset("big:hash", to.hrandfield("big:hash"), "x"),
    "big:scores": lambda to: to.zincrby("big:scores", 1e-12, to.zrange("big:scores", 2500, 2500)[0]),
    "stream:new": lambda to: to.xgroup_createconsumer("stream:new", "nobody", "somebody"),
    "stream:trimmed": lambda to: to.xadd("stream:trimmed", {"a": 1}),
}


def test_every_planted_change_is_found_and_nothing_else(twins):
    for change in PLANTED.values():
        change(twins[1])
    found = kinds(quietly(*twins))
    assert found == {(0, key): "changed" for key in PLANTED}


def test_a_reordered_list_differs_and_a_reordered_set_or_hash_does_not(source, target):
    members = [f"member {number}" for number in range(20)]
    source.rpush("list", *members)
    target.rpush("list", *reversed(members))
    for key, write in (("set", lambda to, some: to.sadd("set", *some)), ("hash", _hash)):
        write(source, members)
        write(target, members[::-1])
    assert kinds(quietly(source, target)) == {(0, "list"): "changed"}


def _hash(to: redis.Redis, fields: list[str]) -> None:
    for field in fields:
        to.hset("hash", field, "1")


@pytest.mark.parametrize(
    "change",
    [
        lambda to: to.xack("stream", "workers", "2-1"),
        lambda to: to.xreadgroup("workers", "anna", {"stream": ">"}, count=1),
        lambda to: to.xclaim("stream", "workers", "bert", 0, ["2-1"]),
        lambda to: to.xgroup_setid("stream", "idle", "1-1"),
        lambda to: to.xgroup_destroy("stream", "idle"),
        lambda to: to.xdel("stream", "500-1"),
        lambda to: to.execute_command("XSETID", "stream", "900-1"),
    ],
    ids=["acknowledged", "read", "claimed", "moved", "without a group", "deleted", "last id"],
)
def test_a_stream_differs_by_its_groups_and_pending_entries_too(twins, change):
    change(twins[1])
    assert kinds(compare_keys(*twins, {(0, b"stream"), (1, b"stream")})) == {(0, "stream"): "changed"}


def test_keys_on_one_side_alone_are_missing_or_extra_in_any_database(twins):
    source, target = twins
    source.set(b"only \xff here", 1)
    target.set("only there", 1)
    target.delete("text:1")
    with redis.Redis(port=target.connection_pool.connection_kwargs["port"], db=9) as nine:
        nine.set("far away", 1)
    comparison = quietly(source, target)
    assert kinds(comparison) == {
        (0, r"only \xff here"): "missing",
        (0, "text:1"): "missing",
        (0, "only there"): "extra",
        (9, "far away"): "extra",
    }
    assert comparison.keys() == {(0, b"only \xff here"), (0, b"text:1"), (0, b"only there"), (9, b"far away")}
    assert comparison.without({(9, b"far away")}).keys_different == 3
    assert comparison.keys_compared == len(all_keys(source) | all_keys(target))
    assert "missing" in repr(comparison) and "<table" in comparison._repr_html_()
    assert comparison.table().set_index("database").loc[9, "extra"] == 1


def test_another_type_under_the_same_name_is_a_change(source, target):
    source.set("key", "1")
    target.rpush("key", "1")
    assert kinds(quietly(source, target)) == {(0, "key"): "changed"}


def test_scores_are_compared_as_numbers_to_the_last_digit(source, target):
    source.zadd("same", {"a": 0.1, "b": 1 / 3, "c": 1e21, "d": float("inf"), "e": 5e-324, "f": 123456789012345680})
    target.zadd("same", {"a": 0.1, "b": 1 / 3, "c": 1e21, "d": float("inf"), "e": 5e-324, "f": 123456789012345680})
    source.zadd("last digit", {"a": 0.1})
    target.zadd("last digit", {"a": 0.1 + 2**-56})
    assert kinds(quietly(source, target)) == {(0, "last digit"): "changed"}


def test_an_estimate_that_was_cached_is_no_change_of_a_hyperloglog(source, target):
    source.pfadd("visitors", *range(100))
    copy_keys(source, target, [(0, b"visitors")])
    source.pfcount("visitors")
    assert source.get("visitors") != target.get("visitors")
    assert quietly(source, target).equal


def test_expiries_are_compared_as_points_in_time_within_the_tolerance(source, target):
    for client, moved in ((source, 0), (target, 1500)):
        client.set("near", 1, px=600_000 + moved)
        client.set("far", 1, px=600_000 + 4 * moved)
    source.set("only here", 1, ex=600)
    target.set("only here", 1)
    source.set("only there", 1)
    target.set("only there", 1, ex=600)
    assert kinds(quietly(source, target)) == {(0, key): "ttl" for key in ("far", "only here", "only there")}
    assert (0, "near") in kinds(quietly(source, target, ttl_tolerance_ms=500))


def test_a_key_that_expires_on_one_side_first_is_no_difference(source, target):
    source.set("going", 1, px=1500)
    comparison = quietly(source, target)
    assert comparison.equal and comparison.expired == 1


def test_ignored_patterns_are_left_out_on_both_sides(source, target):
    source.set("job:1", 1)
    target.set("job:2", 1)
    source.set("session:ü", 1)
    assert kinds(quietly(source, target, ignore=["job:*"])) == {(0, "session:ü"): "missing"}
    assert quietly(source, target, ignore=[b"job:?", "session:ü"]).equal


def test_decoding_clients_may_be_compared(twins, old_server, new_server):
    with old_server.client(decode_responses=True) as one, new_server.client(decode_responses=True, db=3) as other:
        assert quietly(one, other).equal


def test_plain_reads_compare_keys_while_writes_are_paused(twins):
    source, target = twins
    target.set("text:1", "x")
    target.delete("list:1")
    source.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
    comparison = compare_keys(source, target, all_keys(source) | {(0, b"neither has it")})
    assert kinds(comparison) == {(0, "text:1"): "changed", (0, "list:1"): "missing"}


def test_a_user_who_may_not_run_scripts_gets_the_same_answer(twins, old_server):
    source, target = twins
    target.set("text:1", "x")
    source.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-eval", "-@scripting"])
    try:
        with old_server.client(username="reader", password="any") as reader:
            assert kinds(quietly(reader, target)) == {(0, "text:1"): "changed"}
    finally:
        source.acl_deluser("reader")


def test_comparing_two_empty_servers_compares_nothing_and_is_equal(source, target):
    comparison = quietly(source, target)
    assert comparison.equal and comparison.keys_compared == 0
    assert len(comparison.table()) == 0 and "Equal" in repr(comparison)
    assert compare_keys(source, target, []).equal


def test_keys_that_expire_or_change_on_both_sides_while_comparing_are_no_differences(source, target):
    pipe = source.pipeline(transaction=False)
    for number in range(20_000):
        pipe.set(f"session:{number}", "x" * 100, px=200 + number // 10)
    pipe.execute()
    copy_keys(source, target, all_keys(source))
    with _written_alike(source, target):
        for _ in range(3):
            differing = quietly(source, target).keys()
            assert not {key for key in differing if not key[1].startswith(b"busy")}


@contextmanager
def _written_alike(*clients: redis.Redis) -> Iterator[None]:
    """Write to all clients while the block runs."""
    done, number = threading.Event(), itertools.count()

    def write() -> None:
        while not done.is_set():
            for client in clients:
                client.set(f"busy:{next(number)}", "1", px=100)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
