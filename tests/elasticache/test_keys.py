"""Keys are listed, described, sampled and estimated on real servers, within bounds and without touching them."""

from __future__ import annotations

import threading
import time

import pandas as pd
import pytest

from helpers.elasticache import keys
from helpers.elasticache.wire import Wire

BINARY = b"bytes:\xff\x00\r\n"


@pytest.fixture(params=["old", "new"])
def server(request, old_server, new_server, source, target):
    return {"old": old_server, "new": new_server}[request.param]


@pytest.fixture
def access(server, access_to):
    return access_to(server)


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


def test_a_listing_finds_every_key_of_a_pattern_and_a_type(access, client, fill):
    fill(client)
    found = keys.list_keys(access, "hash:*", "hash", limit=1000)
    assert {key for _, key in found.keys} == {b"hash:%d" % number for number in range(40)}
    assert (found.complete, found.total) == (True, client.dbsize())
    assert keys.list_keys(access, "hash:*", "list").keys == ()


def test_a_listing_stops_at_its_bounds(access, client):
    client.mset({f"k:{number}": "" for number in range(5000)})
    few = keys.list_keys(access, limit=10)
    assert (len(few.keys), few.complete, few.calls) == (10, False, 1)
    assert "stopped at the bound" in few.finding
    none = keys.list_keys(access, "nothing:*", seconds=0.0)
    assert (none.keys, none.complete, none.calls) == ((), False, 1)


def test_where_the_server_can_help_it_a_look_at_keys_does_not_make_them_seem_used(new_server, target, access_to):
    access, client = access_to(new_server), target
    client.set("quiet", "x")
    client.rpush("quiet:list", 1)
    time.sleep(1.1)
    keys.examples(access)
    keys.sample_keys(access, 50)
    keys.biggest_keys(access)
    assert min(client.object("idletime", name) for name in ("quiet", "quiet:list")) >= 1


def test_keys_of_every_type_are_described_as_the_server_does(access, client, fill):
    fill(client)
    with Wire(client) as wire:
        frame = keys.describe_keys(wire, [b"big:hash", b"stream", b"text:1", BINARY, b""]).set_index("key")
    assert frame.loc[b"big:hash", "elements"] == 5000
    assert frame.loc[b"stream", "type"] == "stream"
    assert frame.loc[BINARY, "type"] == "string"
    assert frame.loc[b"", "elements"] == len("an empty name")
    for key, row in frame.iterrows():
        assert row["bytes"] == client.memory_usage(key)
        assert row["encoding"].encode() == client.object("encoding", key)
        assert pd.isna(row["ttl_s"]) == (client.ttl(key) == -1)
    assert set(keys.examples(access, 1)["type"]) == set(keys.COUNTING)


def test_a_key_that_vanishes_between_scan_and_type_is_left_out(access, client):
    client.set("stays", 1)
    client.set("gone", 1, px=1)
    time.sleep(0.01)
    with Wire(client) as wire:
        assert list(keys.describe_keys(wire, [b"gone", b"stays", b"never"])["key"]) == [b"stays"]


def test_keys_that_vanish_all_the_time_break_no_look(access, client, server):
    client.mset({f"steady:{number}": "x" for number in range(500)})
    stop = threading.Event()

    def churn() -> None:
        with server.client() as other:
            while not stop.is_set():
                other.mset({f"brief:{number}": "x" for number in range(50)})
                other.delete(*(f"brief:{number}" for number in range(50)))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5):
            sample = keys.sample_keys(access, 600)
            assert set(sample.frame["key"].map(keys.prefix_of)) <= {"steady:", "brief:"}
            assert keys.biggest_keys(access, 5).looked_at >= 500
            assert sample.by_prefix(keys.biggest_keys(access, 5)).figure() is not None
    finally:
        stop.set()
        thread.join()


def test_the_biggest_keys_are_found_in_every_database(access, client, fill, server):
    fill(client)
    biggest = keys.biggest_keys(access, 15)
    truth = {}
    for database in (0, 1, 5):
        with server.client(db=database) as one:
            truth |= {(database, key): one.memory_usage(key) for key in one.scan_iter()}
    best = sorted(truth, key=truth.__getitem__, reverse=True)[:15]
    assert sorted(biggest.frame["bytes"], reverse=True) == [truth[one] for one in best]
    assert {(stratum[1], key) for stratum, key in zip(biggest.frame["stratum"], biggest.frame["key"], strict=True)} <= set(truth)
    assert (biggest.looked_at, biggest.total) == (len(truth), len(truth))
    assert "of all" in biggest.finding and len(biggest.table()) == 15


def test_the_search_for_the_biggest_keys_stops_at_its_bound(access, client):
    client.mset({f"k:{number}": "x" for number in range(3000)})
    some = keys.biggest_keys(access, 3, limit=200)
    assert 200 <= some.looked_at < 400
    assert " of 3,000 keys" in some.finding


def test_estimates_hold_the_truth_in_their_interval(access, client):
    without_keys = keys.sample_keys(access).counted_bytes
    client.mset({f"small:{number}": "x" * (number % 60) for number in range(3000)})
    for number in range(1000):
        client.hset(f"large:{number}", mapping={"a": "y" * (200 + number % 50)})
    for number in range(600):
        client.expire(f"large:{number}", 7200)
    client.set("one:huge", b"z" * 3_000_000)
    truth = {"small:": 0, "large:": 0, "one:": 0}
    for key in client.scan_iter():
        truth[keys.prefix_of(key)] += client.memory_usage(key)
    biggest, kept = keys.biggest_keys(access, 3), 0
    for _ in range(10):
        sample = keys.sample_keys(access, 1500)
        view = sample.by_prefix(biggest).table().set_index("prefix")
        kept += all(abs(view.loc[name, "KiB"] - size / 1024) <= 1.5 * view.loc[name, "± KiB"] + 0.2 for name, size in truth.items())
    assert kept >= 8  # 1.5 intervals hold 99.7 % of the time; RANDOMKEY is a little uneven
    assert view.loc["one:", "KiB"] == pytest.approx(truth["one:"] / 1024, abs=0.1)
    assert abs(sum(view["KiB"]) * 1024 / (sample.counted_bytes - without_keys) - 1) < 0.12
    lives = sample.by_ttl().table().set_index("time to live")["keys"]
    assert lives["< 12 h"] == pytest.approx(600, abs=150) and lives["no TTL"] == pytest.approx(3401, abs=150)
    kinds = sample.by_type().set_index("type")["keys"]
    assert kinds["hash"] == pytest.approx(1000, abs=200)


def test_an_empty_group_has_nothing_to_show_and_nothing_fails(access):
    sample, biggest = keys.sample_keys(access), keys.biggest_keys(access)
    assert (sample.keys, sample.size, biggest.finding) == (0, 0, "There are no keys")
    assert len(sample.by_prefix(biggest).table()) == len(sample.by_type()) == len(biggest.table()) == 0
    assert (sample.by_prefix(biggest).figure(), sample.by_ttl().figure()) != (None, None)
    assert keys.list_keys(access).complete
    assert len(keys.examples(access)) == 0


def test_keys_is_measured_only_below_its_limit_and_holds_the_server_longer_than_any_scan(access, client):
    with client.pipeline(transaction=False) as pipe:
        for start in range(0, 60_000, 5000):
            pipe.mset({f"k:{number:06d}": "" for number in range(start, start + 5000)})
        pipe.execute()
    before = client.info("commandstats")
    refused = keys.keys_command(access, 59_999)
    assert "no: KEYS *" in refused.table()["measured"][0] and refused.figure() is None
    assert client.info("commandstats").get("cmdstat_keys") == before.get("cmdstat_keys")
    measured = keys.keys_command(access, 60_000)
    frame = measured.table().set_index("command")
    server_ms = client.info("commandstats")["cmdstat_keys"]["usec"] / 1000
    assert frame.loc["KEYS *", "longest call (ms)"] >= 0.9 * server_ms / client.info("commandstats")["cmdstat_keys"]["calls"]
    assert frame.loc["SCAN", "calls"] > 400
    assert frame.loc["KEYS *", "another client's longest wait (ms)"] > 0
    assert measured.figure() is not None


@pytest.mark.parametrize(
    ("key", "text", "prefix"),
    [
        (b"user:42", "user:42", "user:"),
        (b"session:f3a9c07e5b1d4e88a2c6", "session:f3a9…", "session:"),
        (b"session:f47ac10b-58cc-4372-a567-0e02b2c3d479:cart", "session:f47a…:cart", "session:"),
        (b"token:QmFzZVNpeHR5Rm91clRva2Vu", "token:QmFz…", "token:"),
        (b"SELECT * FROM users;", "SELECT * FROM users;", "SELECT …"),
        (b"a_key_without_any_colon_in_it", "a_key_without_any_colon_in_it", "(none)"),
        (b"", '""', "(none)"),
        (BINARY, "bytes:\\xff\\x00\\x0d\\x0a", "bytes:"),
        ("name:日本語".encode(), "name:日本語", "name:"),
        (b"tab\there", "tab\\there", "tab …"),
    ],
)
def test_a_key_is_shown_readably_and_its_id_is_not_given_away(key, text, prefix):
    assert (keys.shown(key), keys.prefix_of(key)) == (text, prefix)
