"""Nodes of clusters are captured, copied and compared shard by shard, with no command on keys of several slots."""

from __future__ import annotations

import sys

import pytest
import redis
from redis.crc import key_slot

from helpers.elasticache import compare_keys
from helpers.elasticache.changes import Capture
from helpers.elasticache.compare import combined, compare, compare_shards
from helpers.elasticache.connections import in_parallel
from helpers.elasticache.copying import catch_up, copy_keys, copy_rest, copy_streams, resync
from helpers.elasticache.wire import Wire

Pairs = list[tuple[redis.Redis, redis.Redis]]


def shard(pairs: Pairs, key: str) -> tuple[redis.Redis, redis.Redis]:
    """The nodes that have a key's slot."""
    return pairs[key_slot(key.encode()) // 8192]


def fill(pairs: Pairs) -> int:
    """Give the old nodes keys of every type in all slots; return how many."""
    for number in range(300):
        (node, _) = shard(pairs, f"text:{number}")
        node.set(f"text:{number}", number, ex=5000 if number % 2 else None)
        (node, _) = shard(pairs, f"hash:{number}")
        node.hset(f"hash:{number}", mapping={"a": number, "b": "x" * 99, "c": 1 / 3})
        (node, _) = shard(pairs, f"set:{number}")
        node.sadd(f"set:{number}", *range(number, number + 5), "x")
        (node, _) = shard(pairs, f"scores:{number}")
        node.zadd(f"scores:{number}", {"m": number / 7, "n": 0.1})
    for number in range(10):
        (node, _) = shard(pairs, f"stream:{number}")
        node.xadd(f"stream:{number}", {"n": 1}, id="1-1")
        node.xgroup_create(f"stream:{number}", "group", "0")
        node.xreadgroup("group", "anna", {f"stream:{number}": ">"})
    return 4 * 300 + 10


def kinds(comparison) -> dict[str, str]:
    return dict(zip(comparison.differences["key"], comparison.differences["kind"], strict=True))


def test_nodes_know_that_they_are_nodes(cluster_pairs, source):
    assert Wire(cluster_pairs[0][0]).cluster and Wire(cluster_pairs[0][1]).cluster
    assert not Wire(source).cluster


def test_shards_are_copied_and_compared_exactly(cluster_pairs, all_keys):
    keys = fill(cluster_pairs)
    for source, target in cluster_pairs:
        assert resync(source, target, progress=False).copied.written == len(all_keys(source))
    comparison = compare_shards(cluster_pairs, progress=False)
    assert comparison.equal and comparison.keys_compared == keys, comparison
    planted = {"text:7": "missing", "hash:3": "changed", "scores:9": "changed", "new": "extra", "stream:1": "changed"}
    shard(cluster_pairs, "text:7")[1].delete("text:7")
    shard(cluster_pairs, "hash:3")[1].hset("hash:3", "b", "y")
    shard(cluster_pairs, "scores:9")[1].zadd("scores:9", {"n": 0.1 + 2**-56})
    shard(cluster_pairs, "new")[1].set("new", 1)
    shard(cluster_pairs, "stream:1")[1].xclaim("stream:1", "group", "bert", 0, ["1-1"])
    assert kinds(compare_shards(cluster_pairs, progress=False)) == planted
    assert kinds(combined([compare(*pair, progress=False) for pair in cluster_pairs])) == planted
    assert kinds(combined([compare_keys(*pair, all_keys(pair[0]) | all_keys(pair[1])) for pair in cluster_pairs])) == planted


def test_shards_go_on_where_they_were(cluster_pairs, monkeypatch):
    monkeypatch.setattr(sys.modules[compare.__module__], "CHECKPOINT_S", 0)
    fill(cluster_pairs)
    for pair in cluster_pairs:
        resync(*pair, progress=False)
    shard(cluster_pairs, "text:7")[1].set("text:7", "x")
    states: list[list[dict]] = []

    def keep(state: list[dict]) -> None:
        states.append(state)
        if len(states) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        compare_shards(cluster_pairs, batch=20, progress=False, checkpoint=keep)
    comparison = compare_shards(cluster_pairs, progress=False, resume=states[-1])
    assert sum(each["compared"] for each in states[-1]) > 0
    assert kinds(comparison) == {"text:7": "changed"} and comparison.keys_compared == 1210


def test_a_shard_that_fails_fails_the_comparison(cluster_pairs, source, new_server):
    fill(cluster_pairs)
    nobody = redis.Redis(port=1)
    with pytest.raises(redis.ConnectionError):
        compare_shards([cluster_pairs[0], (cluster_pairs[1][0], nobody)], progress=False)


def test_changes_of_nodes_are_captured_and_caught_up_with(cluster_pairs):
    captures = [Capture(source).start() for source, _ in cluster_pairs]
    try:
        fill(cluster_pairs)
        caught = in_parallel(lambda capture, pair: catch_up(capture, *pair, until_pending=0), captures, cluster_pairs)
        assert all(each.reached for each in caught) and sum(each.keys for each in caught) >= 1210
        known = [copy_streams(*pair, capture.streams) for capture, pair in zip(captures, cluster_pairs, strict=True)]
        for number in range(100):
            shard(cluster_pairs, f"text:{number}")[0].delete(f"text:{number}")
        shard(cluster_pairs, "stream:2")[0].xack("stream:2", "group", "1-1")
        for capture, pair, streams in zip(captures, cluster_pairs, known, strict=True):
            copied, keys = copy_rest(capture, *pair, known=streams)
            assert copied.deleted > 20 and compare_keys(*pair, keys).equal
        assert compare_shards(cluster_pairs, progress=False).equal
    finally:
        for capture in captures:
            capture.stop()


def test_a_node_is_verified_and_caught_up_with_alone(cluster_pairs):
    source, target = cluster_pairs[1]
    with Capture(source).start() as capture:
        shard(cluster_pairs, "text:1")  # keys of either shard may come
        for number in range(200):
            if shard(cluster_pairs, f"key:{number}")[0] is source:
                source.rpush(f"key:{number}", number)
        capture.verify()
        assert catch_up(capture, source, target, until_pending=0).reached
    assert compare(source, target, progress=False).equal


def test_an_older_node_is_given_keys_by_type(cluster_pairs, all_keys):
    fill([(new, old) for old, new in cluster_pairs])
    for old, new in cluster_pairs:
        copied = copy_keys(new, old, all_keys(new) | {(0, key) for key in (b"text:1", b"text:2", b"text:3") if shard(cluster_pairs, key.decode())[0] is old})
        assert copied.typed == copied.written == len(all_keys(new))
    assert compare_shards([(new, old) for old, new in cluster_pairs], progress=False).equal
