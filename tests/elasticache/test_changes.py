"""A capture misses no change, or says that it may have."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.aws.errors import RunbookError
from helpers.elasticache import compare, compare_keys
from helpers.elasticache.changes import Capture, CaptureError, CaptureLost
from helpers.elasticache.clients import pause_writes, resume_writes
from helpers.elasticache.copying import catch_up, copy_keys, copy_rest, resync
from helpers.rehearsal.servers import Server


@pytest.fixture
def capture(source) -> Iterator[Capture]:
    with Capture(source).start() as capture:
        yield capture


def changed(capture: Capture) -> set[tuple[int, bytes]]:
    capture.barrier()
    return capture.take()


def test_a_start_leaves_no_trace(capture, source):
    assert capture.pending == 0 and capture.peek() == set() and capture.streams == set()
    assert source.dbsize() == 0


def test_every_way_to_change_a_key_is_captured_in_its_database(capture, source, old_server):
    source.set("a", 1)
    source.rename("a", "b")
    source.copy("b", "c")
    source.move("c", 4)
    with old_server.client(db=2) as two:
        two.eval("redis.call('hset', 'scripted', 'f', '1')", 0)
        two.pipeline(transaction=True).sadd("x", 1).zadd("y", {"m": 1}).execute()
    source.restore("restored", 0, source.dump("b"))
    source.rpush("numbers", 3, 1, 2)
    source.sort("numbers", store="sorted")
    source.pfadd("visitors", 1)
    source.delete("b")
    assert changed(capture) == {
        *((0, key) for key in (b"a", b"b", b"c", b"restored", b"numbers", b"sorted", b"visitors")),
        *((2, key) for key in (b"scripted", b"x", b"y")),
        (4, b"c"),
    }
    assert capture.pending == 0


def test_an_expired_key_is_captured_and_reads_are_not(capture, source, until):
    source.set("going", 1, px=1)
    source.set("staying", 1)
    assert changed(capture) >= {(0, b"going"), (0, b"staying")}
    until(lambda: not source.exists("going"))
    source.get("staying")
    source.ttl("nothing")
    assert changed(capture) <= {(0, b"going")}


def test_keys_that_are_no_text_are_captured(capture, source):
    source.set(b"\xff\x00\r\n", 1)
    source.set("", 1)
    assert changed(capture) == {(0, b"\xff\x00\r\n"), (0, b"")}


def test_keys_put_back_are_taken_again(capture, source):
    source.set("key", 1)
    keys = changed(capture)
    source.set("other", 1)
    capture.put_back(keys)
    assert changed(capture) == {(0, b"key"), (0, b"other")}


def test_streams_are_known_however_they_came_about(source, old_server):
    source.xadd("before", {"a": 1})
    with old_server.client(db=3) as three, Capture(source).start() as capture:
        source.xadd("added", {"a": 1})
        three.xgroup_create("grouped", "group", mkstream=True)
        source.rename("before", "renamed")
        source.copy("added", "copied")
        source.set("text", 1)
        source.rename("text", "no stream")
        capture.barrier()
        streams = {(0, b"before"), (0, b"added"), (3, b"grouped"), (0, b"renamed"), (0, b"copied")}
        assert streams <= capture.streams
        capture.settle_streams()
        assert {(0, b"added"), (3, b"grouped"), (0, b"renamed"), (0, b"copied")} <= capture.streams
        assert (0, b"no stream") not in capture.streams


def test_a_barrier_passes_while_writes_are_paused(capture, source):
    source.set("key", 1)
    source.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
    capture.barrier(timeout=5)
    assert capture.take() == {(0, b"key")}


def test_a_barrier_waits_for_what_was_executed_before_it(capture, source):
    for number in range(20):
        pipe = source.pipeline(transaction=False)
        for key in range(500):
            pipe.set(f"{number}:{key}", 1)
        pipe.execute()
        assert len(changed(capture)) == 500


def test_a_server_without_notifications_is_refused_with_the_remedy(target):
    target.config_set("notify-keyspace-events", "")
    try:
        with pytest.raises(CaptureError, match='publishes no keyspace notifications.*notify-keyspace-events to "AE"'):
            Capture(target).start(timeout=2)
    finally:
        target.config_set("notify-keyspace-events", "AE")
    assert target.dbsize() == 0 and issubclass(CaptureError, RunbookError)


def test_notifications_of_some_kinds_only_are_refused_by_name(target):
    target.config_set("notify-keyspace-events", "E$gx")
    try:
        with pytest.raises(CaptureError, match=r"no notifications of l \(lists\).*t \(streams\)"):
            Capture(target).start(timeout=2)
    finally:
        target.config_set("notify-keyspace-events", "AE")


def test_notifications_turned_off_meanwhile_are_noticed(target):
    with Capture(target).start() as capture:
        capture.verify()
        target.config_set("notify-keyspace-events", "")
        try:
            with pytest.raises(CaptureError):
                capture.verify(timeout=2)
        finally:
            target.config_set("notify-keyspace-events", "AE")


def test_a_replica_is_no_place_to_capture(tmp_path, old_server):
    with Server(old_server.engine, tmp_path, replica_of=old_server) as replica:
        with pytest.raises(CaptureError, match="primary endpoint"):
            Capture(replica.client()).start()


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"])
def test_commands_that_publish_nothing_lose_the_capture(capture, source, command):
    capture.check()
    source.execute_command(*command.split())
    with pytest.raises(CaptureLost, match=f"{command.split()[0]} was executed.*resync"):
        capture.check()


def test_a_lost_connection_loses_the_capture(capture, source, until):
    source.set("key", 1)
    source.client_kill_filter(_type="pubsub")
    until(lambda: not capture.health()["alive"])
    for use in (capture.check, capture.take, capture.peek, capture.barrier):
        with pytest.raises(CaptureLost, match="connection"):
            use()


def test_a_reader_that_is_too_slow_loses_the_capture(target, until):
    with Capture(target).start() as capture:
        target.config_set("client-output-buffer-limit", "pubsub 64kb 0 0")
        try:
            with capture._state:  # the reader stands still
                for _ in range(200):
                    pipe = target.pipeline(transaction=False)
                    for number in range(200):
                        pipe.set("x" * 1000 + str(number), 1)
                    pipe.execute()
            until(lambda: not capture.health()["alive"])
        finally:
            target.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")
        with pytest.raises(CaptureLost):
            capture.take()


def test_a_restart_loses_the_capture(tmp_path, old_server, until):
    with Server(old_server.engine, tmp_path, config={"notify-keyspace-events": "AE"}) as server:
        capture = Capture(server.client()).start()
    until(lambda: not capture.health()["alive"])
    with pytest.raises(CaptureLost), Server(old_server.engine, tmp_path, port=server.port):
        capture.check()
    capture.stop()


def test_a_failover_loses_the_capture(tmp_path, old_server, source):
    with Server(old_server.engine, tmp_path, config={"notify-keyspace-events": "AE"}) as server:
        with Capture(server.client()).start() as capture:
            server.admin().replicaof(*old_server.address)
            with pytest.raises(CaptureLost, match="failover"):
                capture.check()


def test_a_stopped_capture_says_so(source):
    capture = Capture(source).start()
    capture.stop()
    capture.stop()
    with pytest.raises(CaptureLost, match="stopped"):
        capture.take()
    with pytest.raises(CaptureError, match="before"):
        capture.start()


def test_the_health_of_a_capture_tells_its_speed_and_lag(capture, source):
    pipe = source.pipeline(transaction=False)
    for number in range(20_000):
        pipe.set(f"key:{number % 5000}", number)
    pipe.execute()
    capture.barrier()
    health = capture.health()
    assert health["alive"] and health["events"] >= 20_000 and health["pending"] == 5000
    assert health["lag_seconds"] < 5 and health["age_seconds"] < 5 and health["events_per_second"] > 0


# What an application may do, on a handful of names so that commands meet keys of their type.
SEEDS = ["SET a 1", "RPUSH b 1 2", "HSET c f 1", "SADD d 1 x", "ZADD e 1 m", "XADD f 1-1 n 1", "XADD f 2-1 n 2"]
SEEDS += ["XGROUP CREATE f g 0", "XREADGROUP GROUP g c COUNT 1 STREAMS f >"]
NAMES = [b"a", b"b", b"c", b"d", b"e", b"f", b"f", b"\xff\x00"]
COMMANDS = [
    *("SET {} 1", "SET {} 2 PX 100000", "SETEX {} 500 x", "APPEND {} z", "INCR {}", "GETDEL {}", "GETEX {} EX 99"),
    *("SETRANGE {} 3 q", "SETBIT {} 9 1", "GETSET {} v", "MSET {} 1 {} 2", "BITOP NOT {} {}", "INCRBYFLOAT {} 0.5"),
    *("DEL {}", "UNLINK {}", "EXPIRE {} 1000", "PEXPIRE {} 1", "EXPIREAT {} 1", "PERSIST {}"),
    *("RENAME {} {}", "RENAMENX {} {}", "COPY {} {} REPLACE", "COPY {} {} DB 1 REPLACE", "MOVE {} 1"),
    *("LPUSH {} 1 2", "RPOP {}", "LMOVE {} {} LEFT RIGHT", "LTRIM {} 0 1", "LSET {} 0 x", "LINSERT {} BEFORE 1 0"),
    *("SADD {} 1 x", "SPOP {}", "SMOVE {} {} x", "SUNIONSTORE {} {} {}", "SINTERSTORE {} {} {}", "SREM {} 1"),
    *("HSET {} f 1", "HINCRBYFLOAT {} f 0.1", "HDEL {} f", "HSETNX {} g 1", "SORT {} BY nosort STORE {}"),
    *("ZADD {} 0.1 m 2 n", "ZINCRBY {} 0.3 m", "ZPOPMIN {}", "ZUNIONSTORE {} 1 {}", "ZRANGESTORE {} {} 0 -1"),
    *("ZREMRANGEBYRANK {} 0 0", "GEOADD {} 13 38 p", "GEOSEARCHSTORE {} {} FROMLONLAT 13 38 BYRADIUS 9 km ASC"),
    *("PFADD {} 1 2 3", "PFMERGE {} {}", "PFCOUNT {}"),
    *("XADD {} * f v", "XADD {} MAXLEN 2 * f w", "XTRIM {} MAXLEN 1", "XGROUP CREATE {} g 0 MKSTREAM"),
    *("XGROUP CREATE {} g $", "XGROUP DESTROY {} g", "XGROUP SETID {} g 0", "XGROUP CREATECONSUMER {} g c"),
    *("XREADGROUP GROUP g c STREAMS {} >", "XREADGROUP GROUP g d COUNT 1 NOACK STREAMS {} >"),
    *("XAUTOCLAIM {} g e 0 0", "XACK {} g 1-1", "XCLAIM {} g d 0 1-1", "XDEL {} 1-1", "XGROUP DELCONSUMER {} g c", "XSETID {} 99999999999999-9"),
]


def words(command: str, names: list[bytes]) -> list[bytes | str]:
    left = iter(names)
    return [next(left) if word == "{}" else word for word in command.split()]


STEP = st.tuples(
    st.sampled_from([0, 1]),
    st.sampled_from(["plain", "script", "transaction"]),
    st.sampled_from(COMMANDS),
    st.lists(st.sampled_from(NAMES), min_size=3, max_size=3),
)


def execute(clients: dict[int, redis.Redis], step: tuple) -> None:
    """Do one step; most commands that meet a key of another type are refused, as they should."""
    database, way, command, names = step
    args = words(command, names)
    try:
        # INCRBYFLOAT in a script corrupts the memory of a Redis 6.2 that is built without jemalloc, as ours.
        if way == "script" and args[0] != "INCRBYFLOAT":
            clients[database].eval("return redis.pcall(unpack(ARGV))", 0, *args)
        elif way == "transaction":
            pipe = clients[database].pipeline(transaction=True)
            pipe.execute_command(*args)
            pipe.execute(raise_on_error=False)
        else:
            clients[database].execute_command(*args)
    except (redis.ResponseError, redis.DataError, TypeError, IndexError, ValueError):
        pass


EVERYTHING = {(database, name) for database in (0, 1) for name in NAMES}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=st.lists(STEP, max_size=10), during=st.lists(STEP, max_size=25), after=st.lists(STEP, max_size=10))
def test_any_commands_captured_and_copied_leave_equal_servers(source, target, old_server, before, during, after):
    source.flushall()
    target.flushall()
    with old_server.client() as zero, old_server.client(db=1) as one:
        clients = {0: zero, 1: one}
        for command in SEEDS:
            zero.execute_command(*command.split())
        for step in before:
            execute(clients, step)
        with Capture(source).start() as capture:
            copy_keys(source, target, EVERYTHING)
            for step in during:
                execute(clients, step)
            catch_up(capture, source, target)
            for step in after:
                execute(clients, step)
            pause_writes(source, 30_000)
            try:
                copy_rest(capture, source, target)
                capture.check()
                comparison = compare_keys(source, target, EVERYTHING)
            finally:
                resume_writes(source)
        assert comparison.equal, comparison


@contextmanager
def writers(server: Server, count: int) -> Iterator[list[int]]:
    """Threads that write all the time, as an application does, until the block ends."""
    done, written = threading.Event(), [0] * count

    def write(number: int) -> None:
        chance = random.Random(number)
        with server.client() as zero, server.client(db=1) as one:
            while not done.is_set():
                names = [f"{chance.randrange(300)}".encode() for _ in range(3)]
                way = chance.choice(["plain", "plain", "script", "transaction"])
                execute({0: zero, 1: one}, (chance.randrange(2), way, chance.choice(COMMANDS), names))
                written[number] += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield written
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_nothing_is_missed_under_load_by_writers_of_every_command(source, target, old_server, until):
    with Capture(source).start() as capture, writers(old_server, 3) as written:
        until(lambda: sum(written) > 500)
        resync(source, target, progress=False)
        catch_up(capture, source, target, until_pending=50, rounds=5)
        source.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
        try:
            copied, keys = copy_rest(capture, source, target)
            capture.check()
            frozen = compare_keys(source, target, keys | {(db, str(n).encode()) for n in range(300) for db in (0, 1)})
        finally:
            source.execute_command("CLIENT", "UNPAUSE")
    assert sum(written) > 500 and frozen.equal, frozen


def test_a_copy_of_what_was_captured_is_exact_after_a_flood(source, target):
    with Capture(source).start() as capture:
        pipe = source.pipeline(transaction=False)
        for number in range(30_000):
            pipe.set(f"key:{number % 10_000}", number)
        pipe.execute()
        capture.barrier()
        copy_keys(source, target, capture.take())
    assert compare(source, target, progress=False).equal
