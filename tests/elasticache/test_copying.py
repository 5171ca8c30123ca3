"""Copies are exact: forward by payload, back to an older engine by type."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest
import redis

from helpers.aws.errors import RunbookError
from helpers.elasticache import compare, compare_keys
from helpers.elasticache.changes import Capture
from helpers.elasticache.copying import CopyError, catch_up, copy_keys, copy_rest, copy_streams, resync


def equal(source: redis.Redis, target: redis.Redis) -> None:
    comparison = compare(source, target, progress=False, ttl_tolerance_ms=20)
    assert comparison.equal, comparison


def test_every_type_in_every_database_arrives_with_its_expiry_to_the_millisecond(source, target, fill, all_keys):
    fill(source)
    keys = all_keys(source)
    copied = copy_keys(source, target, keys)
    assert (copied.keys, copied.written, copied.deleted, copied.typed) == (len(keys), len(keys), 0, 0)
    assert copied.bytes > 700_000 and copied.seconds > 0 and copied.keys_per_second > 0
    equal(source, target)


def test_a_copy_replaces_what_was_there_and_deletes_what_the_source_has_not(source, target):
    source.rpush("changed", 1, 2)
    target.set("changed", 1, ex=100)
    target.set("gone", 1)
    copied = copy_keys(source, target, [(0, b"changed"), (0, b"gone"), (0, b"never was")])
    assert (copied.keys, copied.written, copied.deleted) == (3, 1, 1)
    equal(source, target)


def test_a_lost_and_a_renewed_expiry_are_copied(source, target, all_keys):
    for client in (source, target):
        client.set("persistent", 1, ex=100)
        client.set("renewed", 1, ex=100)
    source.persist("persistent")
    source.expire("renewed", 5000)
    copy_keys(source, target, all_keys(source))
    assert target.pttl("persistent") == -1 and target.ttl("renewed") > 4900


def test_nothing_to_copy_is_no_work(source, target):
    assert copy_keys(source, target, []).keys == 0


def test_an_older_engine_is_given_every_type_exactly_by_reading_and_writing(source, target, fill, all_keys):
    fill(target)
    keys = all_keys(target)
    copied = copy_keys(target, source, keys)
    assert copied.written == copied.typed == len(keys)
    equal(target, source)
    assert not [key for _, key in all_keys(source) if key.startswith(b"runbook")]


def test_pending_entries_keep_their_age_and_deliveries_on_the_way_back(source, target):
    target.xadd("stream", {"a": 1}, id="1-1")
    target.xadd("stream", {"a": 2}, id="2-1")
    target.xgroup_create("stream", "group", "0")
    target.xreadgroup("group", "anna", {"stream": ">"})
    target.xclaim("stream", "group", "bert", 0, ["1-1"], idle=60_000, retrycount=7)
    target.xdel("stream", "1-1")
    copy_keys(target, source, [(0, b"stream")])
    first, second = source.xpending_range("stream", "group", "-", "+", 10)
    assert (first["message_id"], first["consumer"], first["times_delivered"]) == (b"1-1", b"bert", 7)
    assert 60_000 <= first["time_since_delivered"] < 75_000
    assert (second["message_id"], second["consumer"], second["times_delivered"]) == (b"2-1", b"anna", 1)
    equal(target, source)


def test_keys_are_copied_from_a_source_whose_writes_are_paused(source, target, fill, all_keys):
    fill(source)
    keys = all_keys(source)
    source.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
    copy_keys(source, target, keys)
    assert compare_keys(source, target, keys).equal


def test_a_target_without_memory_is_told_of_with_a_remedy(source, target):
    source.set("key", "x" * 1000)
    target.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(CopyError, match="refused key 'key'.*OOM.*larger node type"):
            copy_keys(source, target, [(0, b"key")])
    finally:
        target.config_set("maxmemory", "0")
    assert issubclass(CopyError, RunbookError)


def test_a_replica_is_refused_as_a_target(source, target, new_server):
    source.set("key", 1)
    target.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(CopyError, match="primary endpoint"):
            copy_keys(source, target, [(0, b"key")])
    finally:
        target.replicaof("NO", "ONE")


def test_resync_repairs_every_difference_and_says_how_many(source, target, fill, all_keys):
    fill(source)
    copy_keys(source, target, all_keys(source))
    source.delete("text:1")
    source.set("new", 1)
    source.xreadgroup("workers", "carl", {"stream": ">"}, count=3)
    target.flushdb()
    target.set("extra", 1)
    done = resync(source, target, progress=False)
    assert done.keys == done.comparison.keys_different > 200
    equal(source, target)


def test_catching_up_ends_with_few_changes_left_and_the_rest_is_exact(source, target, fill, all_keys):
    with Capture(source).start() as capture:
        fill(source)
        seen = []
        caught = catch_up(capture, source, target, until_pending=0, on_round=seen.append)
        assert caught.reached and caught.pending == 0 and caught.lag_seconds < 5
        assert list(caught.rounds) == seen and caught.keys >= len(all_keys(source))
        assert list(caught.table().columns) == ["round", "keys", "written", "deleted", "seconds", "pending"]
        source.delete("text:1")
        source.xack("stream", "workers", "2-1")
        source.xreadgroup("workers", "carl", {"stream": ">"}, count=3)
        source.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
        copied, keys = copy_rest(capture, source, target)
        assert {(0, b"text:1"), (0, b"stream")} <= keys and copied.deleted == 1
        assert compare_keys(source, target, keys).equal
        source.execute_command("CLIENT", "UNPAUSE")
        equal(source, target)


def test_a_stream_that_grows_while_it_is_copied_to_an_older_engine_never_fails_the_copy_and_is_equal_afterwards(source, target):
    ended = threading.Event()

    def write() -> None:
        for number in itertools.count(1):
            target.xadd("busy", {"number": number})
            if number % 10 == 0:
                target.xreadgroup("workers", "anna", {"busy": ">"}, count=20)
                target.xdel("busy", *(entry for entry, _ in target.xrevrange("busy", count=2)))
            if ended.is_set() or number == 100_000:
                return

    target.xgroup_create("busy", "workers", "0", mkstream=True)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(copy_keys(target, source, [(0, b"busy")]).written == 1 for _ in range(20))
    finally:
        ended.set()
        writer.join()
    copy_keys(target, source, [(0, b"busy")])
    assert source.xinfo_stream("busy")["length"] > 100
    equal(target, source)


def test_streams_that_are_as_they_were_are_left_out_of_the_last_copy(source, target, fill, all_keys):
    fill(source)
    with Capture(source).start() as capture:
        copy_keys(source, target, all_keys(source))
        known = copy_streams(source, target, capture.streams)
        assert set(known) == capture.streams and len(known) == 9
        source.xack("stream", "workers", "2-1")
        _, keys = copy_rest(capture, source, target, known=known)
        assert keys == {(0, b"stream")}
    equal(source, target)


def test_a_round_that_fails_keeps_its_keys_captured(source, target):
    with Capture(source).start() as capture:
        source.set("key", "x" * 1000)
        target.config_set("maxmemory", "1mb")
        try:
            with pytest.raises(CopyError):
                catch_up(capture, source, target)
            with pytest.raises(CopyError):
                copy_rest(capture, source, target)
        finally:
            target.config_set("maxmemory", "0")
        assert capture.peek() == {(0, b"key")}


def test_an_application_that_writes_too_fast_is_reported_not_waited_for(source, target, old_server):
    with Capture(source).start() as capture:
        source.set("key", 1)

        def write_again(_: object) -> None:
            source.incr("key")
            capture.barrier()

        began = time.monotonic()
        busy = _Busy(target, write_again)
        caught = catch_up(capture, source, busy, until_pending=0, rounds=3)
        assert len(caught.rounds) <= 3 and time.monotonic() - began < 10


class _Busy(redis.Redis):
    """A target before each copy to which something happens on the source."""

    def __init__(self, target: redis.Redis, before: Callable[[object], None]) -> None:
        super().__init__(connection_pool=target.connection_pool)
        self.before = before
