"""MONITOR is watched within bounds, always ended, and never gives a value away."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from helpers.aws import RunbookError
from helpers.elasticache import monitor

SECRET = "hunter2-correct-horse"


@pytest.fixture(params=["old", "new"])
def server(request, old_server, new_server, source, target):
    return {"old": old_server, "new": new_server}[request.param]


@pytest.fixture
def client(server):
    with server.client(client_name="shop") as client:
        client.ping()
        yield client


@pytest.fixture
def busy(server):
    """A shop that writes secrets all the time."""
    stop = threading.Event()

    def work() -> None:
        with server.client(client_name="busy-shop") as shop:
            shop.xadd("events:1", {"token": SECRET})
            while not stop.is_set():
                shop.set("session:0123456789abcdef0123", SECRET, ex=60)
                shop.hset("cart:1", mapping={SECRET: SECRET})
                shop.eval("return redis.call('GET', KEYS[1])", 1, "cart:2")
                shop.object("encoding", "cart:1")
                shop.execute_command("SET", b"bytes:\xff\"\\\r\n", SECRET)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def monitors(client) -> list[str]:
    return [one["flags"] for one in client.client_list() if "O" in one["flags"]]


def test_a_sample_ends_at_its_number_of_commands(client, busy):
    watched = monitor.watch(client, seconds=20, commands=60)
    assert len(watched.frame) == 60
    assert watched.seconds < 10
    assert watched.ended_by == "commands"
    assert monitors(client) == []


def test_a_sample_ends_in_time_where_nothing_happens(client):
    started = time.monotonic()
    watched = monitor.watch(client, seconds=0.3)
    assert 0.3 <= time.monotonic() - started < 3
    assert (watched.frame.empty, watched.ended_by) == (True, "seconds")
    assert watched.finding.startswith("No command in 0.3 s")
    assert watched.counts().table().empty and watched.counts().figure() is not None


def test_an_interrupt_ends_the_watch_at_the_server_too(client, until):
    # a background job of a shell is started with interrupts ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            monitor.watch(client, seconds=30)
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: monitors(client) == [])


def test_keys_and_commands_are_told_and_no_value_ever(client, busy):
    watched = monitor.watch(client, seconds=5, commands=100)
    everything = watched.table(100).to_string() + watched.counts().table().to_string()
    assert SECRET not in everything and "0123456789abcdef0123" not in everything
    keys = watched.frame.groupby("command")["key"].agg(set)
    assert keys["SET"] == {"session:0123…", 'bytes:\\xff"\\\\x0d\\x0a'}
    assert keys["EVAL"] == {"cart:2"} and keys["OBJECT ENCODING"] == {"cart:1"} and keys["GET"] == {"cart:2"}
    assert set(watched.frame.loc[watched.frame["command"] == "GET", "client"]) == {"a script"}
    assert watched.frame["client"].str.startswith("busy-shop (127.0.0.1:").any()
    counted = watched.counts().table().set_index("name")["commands"]
    assert counted["cart:"] == (watched.frame["key"].str.startswith("cart:")).sum()


def test_commands_nobody_knows_and_log_ins_show_nothing(client, server):
    def talk() -> None:
        time.sleep(0.2)
        with server.client(client_name="odd") as odd:
            for command in ((SECRET, SECRET), ("CONFIG", "SET", "requirepass", ""), ("AUTH", SECRET), ("ECHO", SECRET), ("CLIENT", "SETNAME", "odder")):
                try:
                    odd.execute_command(*command)
                except Exception:
                    pass

    thread = threading.Thread(target=talk)
    thread.start()
    watched = monitor.watch(client, seconds=1.0)
    thread.join()
    assert SECRET not in watched.table(1000).to_string()
    rows = watched.frame.set_index("command")["arguments"]
    assert rows["ECHO"] == f"1 ({len(SECRET)} bytes)"
    assert ("CLIENT SETNAME" in rows) == (server.engine.name == "valkey")  # Redis 6.2 keeps it from those who watch


def test_a_line_is_read_back_to_the_very_bytes():
    raw = b"a \"quoted\" \\ \r\n\t\x00\xff"
    line = b'1700000000.123456 [3 127.0.0.1:5000] "set" "a \\"quoted\\" \\\\ \\r\\n\\t\\x00\\xff" ""'
    assert monitor.parse(line) == (1700000000.123456, 3, "127.0.0.1:5000", [b"set", raw, b""])
    assert monitor.parse(b'1.5 [0 lua] "get" "k"')[2] == "lua"
    with pytest.raises(ValueError, match="no line of MONITOR"):
        monitor.parse(b"OK")


def test_a_user_who_may_not_watch_is_told_so(client, server):
    client.acl_setuser("reader", enabled=True, passwords=["+word"], keys=["*"], commands=["+@all", "-monitor"])
    try:
        with server.client(username="reader", password="word") as reader, pytest.raises(RunbookError, match="refuses MONITOR"):
            monitor.watch(reader, seconds=0.2)
    finally:
        client.acl_deluser("reader")
