"""The comparison finds every difference, and nothing else."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.elasticache import compare, compare_keys
from helpers.elasticache.copying import copy_keys
from helpers.elasticache.pace import FIRST, LEAST, Pace, Waiting
from helpers.elasticache.wire import Wire, scan_from

# `helpers.elasticache.compare` is the function.
compare_module = sys.modules[compare.__module__]
pace_module = sys.modules[Pace.__module__]


def kinds(comparison) -> dict[tuple[int, str], str]:
    return {(row.database, row.key): row.kind for row in comparison.differences.itertuples()}


def quietly(source: redis.Redis, target: redis.Redis, **options):
    return compare(source, target, progress=False, **options)


@pytest.fixture
def twins(source: redis.Redis, target: redis.Redis, fill: Callable, all_keys) -> tuple[redis.Redis, redis.Redis]:
    """Two servers of two engines with the same keys of every type."""
    fill(source)
    copy_keys(source, target, all_keys(source))
    return source, target


def test_equal_servers_of_two_engines_are_equal(twins, all_keys):
    comparison = quietly(*twins)
    assert comparison.equal, comparison
    assert comparison.keys_different == comparison.expired == 0
    assert comparison.keys_compared == len(all_keys(twins[0]))
    assert comparison.keys_per_second > 0
    assert list(comparison.differences.columns) == ["database", "key", "kind"]
    assert list(comparison.table()["database"]) == [0, 1, 5]


def test_values_that_are_read_compare_as_those_that_are_digested(twins, all_keys):
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


def test_keys_on_one_side_alone_are_missing_or_extra_in_any_database(twins, all_keys):
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


def test_text_that_begins_like_a_hyperloglog_is_compared_to_the_last_byte(source, target):
    source.set("text", "HYLL is a name 1 2 3 4 5")
    target.set("text", "HYLL is @ name 1 2 3 4 5")
    assert kinds(quietly(source, target)) == {(0, "text"): "changed"}


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


def test_plain_reads_compare_keys_while_writes_are_paused(twins, all_keys):
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


def test_values_that_may_not_be_read_are_an_error_and_not_equal(source, target, old_server, new_server):
    for client in (source, target):
        client.set("key", 1)
        client.acl_setuser("blind", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-get", "-mget"])
    try:
        with old_server.client(username="blind", password="any") as one:
            with new_server.client(username="blind", password="any") as other:
                with pytest.raises(redis.ResponseError, match="NOPERM|no permissions"):
                    quietly(one, other)
    finally:
        for client in (source, target):
            client.acl_deluser("blind")


def test_one_field_of_one_hash_among_many_keys_is_found(source, target):
    pipe = source.pipeline(transaction=False)
    for number in range(20_000):
        pipe.hset(f"session:{number}", mapping={"user": number, "cart": "x" * (number % 100), "seen": number / 7})
    pipe.execute()
    copy_keys(source, target, [(0, f"session:{number}".encode()) for number in range(20_000)])
    target.hset("session:12345", "seen", 12345 / 7 + 1e-9)
    comparison = quietly(source, target)
    assert kinds(comparison) == {(0, "session:12345"): "changed"}
    assert comparison.keys_compared == 20_000


def test_a_difference_in_another_database_is_found(twins, new_server):
    with new_server.client(db=5) as five:
        five.hset("hash:7", "f3", "x")
        five.persist("hash:8")
    assert kinds(quietly(*twins)) == {(5, "hash:7"): "changed", (5, "hash:8"): "ttl"}


def test_values_that_hold_what_servers_say_are_no_errors(source, target):
    for client in (source, target):
        client.set("key", b"one\r\n-ERR two\r\n$3\r\n")
        client.set("number", b"-1")
    assert quietly(source, target).equal
    target.set("key", b"one\r\n-ERR tw0\r\n$3\r\n")
    assert kinds(quietly(source, target)) == {(0, "key"): "changed"}


def test_large_values_among_small_ones_are_all_compared(source, target):
    for number in range(300):
        source.set(f"text:{number}", bytes([number % 256]) * (number % 10) * 9000)
    copy_keys(source, target, [(0, f"text:{number}".encode()) for number in range(300)])
    assert quietly(source, target).equal
    for number in (3, 7, 299):
        target.setrange(f"text:{number}", 100, b"\x00\x01")
    assert kinds(quietly(source, target)) == {(0, f"text:{number}"): "changed" for number in (3, 7, 299)}


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """A function that breaks a comparison off at the checkpoint given and returns the states up to it."""
    monkeypatch.setattr(compare_module, "CHECKPOINT_S", 0)

    def break_off(source: redis.Redis, target: redis.Redis, checkpoints: int) -> list[dict]:
        states: list[dict] = []

        def keep(state: dict) -> None:
            states.append(json.loads(json.dumps(state)))
            if len(states) == checkpoints:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            quietly(source, target, batch=20, checkpoint=keep)
        return states

    return break_off


@pytest.mark.parametrize("checkpoints", [1, 4, 8])
def test_a_comparison_that_was_interrupted_goes_on_where_it_was(twins, interrupted, all_keys, checkpoints):
    source, target = twins
    for number in range(3000):
        for client in (source, target):
            client.set(f"more:{number}", number)
    for number in range(0, 3000, 300):
        target.set(f"more:{number}", "x")
        target.set(f"extra:{number}", "x")
    whole = quietly(source, target)
    state = interrupted(source, target, checkpoints)[-1]
    rest = quietly(source, target, resume=state)
    assert kinds(rest) == kinds(whole) and len(kinds(rest)) == 20
    assert rest.keys_compared == whole.keys_compared and rest.seconds > state["seconds"]


def test_what_was_compared_before_an_interruption_is_not_compared_again(source, target, interrupted):
    for number in range(3000):
        source.set(f"key:{number}", number)
    copy_keys(source, target, [(0, f"key:{number}".encode()) for number in range(3000)])
    state = interrupted(source, target, 3)[-1]
    assert 500 < state["compared"] < 2500
    for number in range(3000):
        target.set(f"key:{number}", "x")
    assert quietly(source, target, resume=state).keys_different == 3000 - state["compared"]


def test_a_state_of_another_process_starts_a_comparison_anew(source, target, interrupted):
    for client in (source, target):
        for number in range(2000):
            client.set(f"key:{number}", number)
    target.set("key:1", "x")
    state = interrupted(source, target, 2)[-1] | {"processes": ["another", "one"], "found": []}
    again = quietly(source, target, resume=state)
    assert again.keys_compared == 2000 and kinds(again) == {(0, "key:1"): "changed"}


def test_extra_keys_are_found_among_as_many_missing_ones_and_ignored_ones_are_not(source, target):
    for number in range(1000):
        source.set(f"old:{number}", number)
        target.set(f"new:{number}", number)
        target.set(f"ignored:{number}", number)
        for client in (source, target):
            client.set(f"both:{number}", number)
    comparison = quietly(source, target, ignore=["ignored:*"])
    found = kinds(comparison)
    assert {key for (_, key), kind in found.items() if kind == "extra"} == {f"new:{number}" for number in range(1000)}
    assert {key for (_, key), kind in found.items() if kind == "missing"} == {f"old:{number}" for number in range(1000)}
    assert len(found) == 2000 and comparison.keys_compared == 3000


@pytest.mark.parametrize("grown", [False, True])
def test_names_of_the_target_are_asked_for_again_where_sums_differ_and_all_of_them_once_it_has_grown(target, grown):
    for number in range(3000):
        target.set(f"key:{number}", number)
    names = compare_module._Names(lambda keys: keys)
    with Wire(target) as wire:
        replies = list(scan_from(wire, b"0", compare_module.SCAN_COUNT))
        for following, keys in replies:
            names.of_target(following, keys)
            names.of_source([key for key in keys if key != b"key:7"])
        if grown:
            for number in range(20_000):
                target.set(f"later:{number}", number)
        asked: list = []
        ask, wire.ask = wire.ask, lambda commands: asked.append(commands) or ask(commands)
        found = [key for piece in compare_module._suspects(wire, names, Pace([], 5, 256)) for key in piece.keys]
    assert b"key:7" in found
    # Now and then another name shares the sum.
    assert len(asked) < len(replies) / 4


def test_an_extra_key_without_a_name_is_found(source, target):
    target.set("", 1)
    assert kinds(quietly(source, target)) == {(0, ""): "extra"}


def test_a_comparison_that_goes_on_finds_extra_keys_too(source, target, interrupted):
    for client in (source, target):
        for number in range(3000):
            client.set(f"key:{number}", number)
    target.set("extra", 1)
    for state in interrupted(source, target, 4):
        assert kinds(quietly(source, target, resume=state)) == {(0, "extra"): "extra"}


@dataclass
class Busy:
    """A server that lets others wait `seconds_s`."""

    seconds_s: float = 0.0
    asked: bool = True

    def ask(self) -> None:
        self.asked = True

    def seconds(self) -> float:
        self.asked = False
        return self.seconds_s


def test_slow_answers_make_calls_smaller_and_then_rarer(monkeypatch):
    monkeypatch.setattr(pace_module, "ASK_EVERY_S", 0)
    server = Busy(seconds_s=0.02)
    pace = Pace([server, Busy()], latency_ms=10, most=500)
    assert pace.size == FIRST
    for _ in range(12):
        pace.wait()
    assert pace.size == LEAST
    began = time.monotonic()
    pace.wait()
    assert time.monotonic() - began >= 0.02


def test_quick_answers_make_calls_larger_up_to_the_most(monkeypatch):
    monkeypatch.setattr(pace_module, "ASK_EVERY_S", 0)
    pace = Pace([Busy(), Busy()], latency_ms=10, most=150)
    for _ in range(10):
        pace.wait()
    assert pace.size == 150


def test_an_answer_that_is_not_there_yet_is_waited_for_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(pace_module, "ASK_EVERY_S", 0)
    server = Busy(seconds_s=0.005)
    server.seconds = lambda: server.seconds_s
    pace = Pace([server], latency_ms=10, most=500)
    pace.wait()
    assert pace.size == FIRST
    server.seconds_s = 0.011
    pace.wait()
    assert pace.size < FIRST


def test_a_wait_is_told_in_spite_of_another_clock_and_a_late_reading(old_server):
    with old_server.client() as client, Wire(client) as wire:
        receive = wire.receive
        # The server's clock is an hour ahead.
        wire.receive = lambda count: [[int(seconds) + 3600, rest] for seconds, rest in receive(count)]
        waiting = Waiting(wire)
        waiting.ask()
        time.sleep(0.3)
        assert waiting.asked and waiting.seconds() < 0.1
        assert not waiting.asked
        other = threading.Thread(target=client.eval, args=("local n = 0; for i = 1, 30000000 do n = n + i end", 0))
        other.start()
        time.sleep(0.05)
        waiting.ask()
        other.join()
        time.sleep(0.1)
        waited = waiting.seconds()
        assert waited > 0.01 and not waiting.asked


def test_a_comparison_makes_way_for_others_who_keep_a_server_busy(source, target, old_server):
    for client in (source, target):
        pipe = client.pipeline(transaction=False)
        for number in range(2000):
            pipe.set(f"key:{number}", number)
        pipe.execute()
    done = threading.Event()

    def keep_busy() -> None:
        with old_server.client() as client:
            while not done.is_set():
                client.eval("local n = 0; for i = 1, 2000000 do n = n + i end", 0)

    freely = quietly(source, target, latency_ms=60_000)
    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        making_way = quietly(source, target, latency_ms=1)
    finally:
        done.set()
        busy.join()
    assert freely.equal and making_way.equal and making_way.keys_compared == 2000
    assert making_way.seconds > 2 * freely.seconds and making_way.seconds > 0.3


NAMES = st.binary(max_size=3) | st.sampled_from([b"a", b"b", b"\xff", b"\r\n"])
TEXTS = st.binary(max_size=6) | st.just(b"x" * 70)
SCORES = st.floats(allow_nan=False) | st.sampled_from([0.1, 0.1 + 2**-56, 1 / 3, 0.0])
VALUES = st.one_of(
    st.tuples(st.just("string"), TEXTS),
    st.tuples(st.just("list"), st.lists(TEXTS, min_size=1, max_size=5)),
    st.tuples(st.just("set"), st.frozensets(TEXTS, min_size=1, max_size=5)),
    st.tuples(st.just("hash"), st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=5)),
    st.tuples(st.just("zset"), st.dictionaries(TEXTS, SCORES, min_size=1, max_size=5)),
    st.tuples(st.just("stream"), st.lists(st.tuples(st.integers(1, 2), st.booleans()), min_size=1, max_size=4)),
)
DATA = st.dictionaries(st.tuples(st.sampled_from([0, 1, 5]), NAMES), st.tuples(VALUES, st.booleans()), max_size=12)


def write(client: redis.Redis, key: bytes, value: tuple, expiring: bool) -> None:
    kind, content = value
    if kind == "string":
        client.set(key, content)
    elif kind == "list":
        client.rpush(key, *content)
    elif kind == "set":
        client.sadd(key, *sorted(content))
    elif kind == "hash":
        client.hset(key, mapping=content)
    elif kind == "zset":
        client.zadd(key, content)
    else:
        client.xgroup_create(key, "group", "0", mkstream=True)
        for number, (step, read) in enumerate(content, 1):
            client.xadd(key, {"f": step}, id=f"{number}-{step}")
            if read:
                client.xreadgroup("group", f"reader {step}", {key: ">"})
    if expiring:
        client.pexpireat(key, 4_000_000_000_000)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differing keys are looked at again at once, as nothing changes meanwhile."""
    monkeypatch.setattr(compare_module, "LOOK_AGAIN_S", 0)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(one=DATA, other=DATA, shared=DATA)
def test_exactly_the_planted_differences_are_found(source, target, at_once, one, other, shared):
    ours, theirs = one | shared, other | shared
    for client, data in ((source, ours), (target, theirs)):
        with client.pipeline(transaction=False) as pipe:
            pipe.flushall()
            for (database, key), (value, expiring) in data.items():
                pipe.select(database)
                write(pipe, key, value, expiring)
            pipe.select(0)
            pipe.execute()
    expected = {}
    for key in ours.keys() | theirs.keys():
        if key not in theirs or key not in ours:
            expected[key] = "extra" if key not in ours else "missing"
        elif ours[key][0] != theirs[key][0]:
            expected[key] = "changed"
        elif ours[key] != theirs[key]:
            expected[key] = "ttl"
    for comparison in (quietly(source, target), compare_keys(source, target, ours.keys() | theirs.keys())):
        found = zip(comparison.differing, comparison.differences["kind"], strict=True)
        assert dict(found) == expected


def test_comparing_two_empty_servers_compares_nothing_and_is_equal(source, target):
    comparison = quietly(source, target)
    assert comparison.equal and comparison.keys_compared == 0
    assert len(comparison.table()) == 0 and "Equal" in repr(comparison)
    assert compare_keys(source, target, []).equal


def test_keys_that_expire_or_change_on_both_sides_while_comparing_are_no_differences(source, target, all_keys):
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
