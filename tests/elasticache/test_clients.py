"""Clients are seen, frozen and disconnected; writes are counted exactly."""

from __future__ import annotations

import threading

import pytest
import redis

from helpers.elasticache.clients import (
    PauseRefused,
    ServerReplaced,
    connect,
    connected_clients,
    disconnect_clients,
    pause_allowed,
    pause_writes,
    resume_writes,
    server_facts,
    write_mark,
    writes_since,
)
from helpers.rehearsal.servers import Server


@pytest.fixture(params=["old", "new"])
def server(request, old_server, new_server, source, target) -> Server:
    return {"old": old_server, "new": new_server}[request.param]


@pytest.fixture
def ours(server):
    with connect("127.0.0.1", server.port) as client:
        yield client


def test_connected_clients_are_those_that_are_not_ours(server, ours):
    with server.client(client_name="shop-7", db=3) as shop, server.client(client_name="runbook:capture") as other:
        shop.get("key")
        other.ping()
        connected = connected_clients(ours).set_index("name")
        assert "shop-7" in connected.index and not any(connected.index.str.startswith("runbook"))
        row = connected.loc["shop-7"]
        assert (row["db"], row["last_command"], row["user"]) == (3, "get", "default")
        assert row["address"].startswith("127.0.0.1:") and row["idle_seconds"] >= 0 and row["age_seconds"] >= 0
        connected_clients(ours, ours=("runbook", "shop"))["name"].tolist().count("shop-7") == 0
    assert connected_clients(ours, ours="").columns.tolist() == [
        *("id", "address", "name", "age_seconds", "idle_seconds", "db", "last_command", "user"),
    ]


def test_nobody_connected_is_an_empty_table(server, ours, until):
    disconnect_clients(ours)
    until(lambda: connected_clients(ours).empty)
    assert "address" in connected_clients(ours).columns


def test_a_pause_holds_writes_lets_reads_pass_and_ends(server, ours, until):
    pause_writes(ours, 30_000)
    with server.client(socket_timeout=10) as shop:
        assert shop.get("key") is None
        writing = threading.Thread(target=shop.set, args=("key", "1"))
        writing.start()
        until(lambda: "set" in connected_clients(ours)["last_command"].tolist())
        assert ours.get("key") is None
        resume_writes(ours)
        writing.join()
        assert ours.get("key") == b"1"


def test_a_forgotten_pause_cannot_last_long(ours):
    with pytest.raises(ValueError, match="900000"):
        pause_writes(ours, 20 * 60_000)


def test_whether_a_pause_is_allowed_is_found_out_without_pausing(server, ours):
    assert pause_allowed(ours)
    ours.set("key", 1)
    assert not [line for line in (ours.info("clients").get("paused_reason"),) if line not in (None, "none")]


def test_a_refused_pause_is_known_beforehand_and_told_with_a_remedy(server, ours):
    ours.acl_setuser("plain", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-client", "+client|list"])
    try:
        with server.client(username="plain", password="any") as plain:
            assert not pause_allowed(plain)
            with pytest.raises(PauseRefused, match="application"):
                pause_writes(plain, 1000)
    finally:
        ours.acl_deluser("plain")


def test_disconnecting_drops_the_writes_that_wait_for_the_end_of_a_pause(server, ours, until):
    pause_writes(ours, 30_000)
    failed = []

    def write() -> None:
        with server.client(socket_timeout=20) as shop:
            try:
                shop.incr("counter")
            except redis.ConnectionError as error:
                failed.append(error)

    writing = [threading.Thread(target=write) for _ in range(5)]
    for thread in writing:
        thread.start()
    until(lambda: connected_clients(ours)["last_command"].tolist().count("incrby") == 5)
    assert disconnect_clients(ours) >= 5
    for thread in writing:
        thread.join()
    resume_writes(ours)
    assert len(failed) == 5 and ours.get("counter") is None


def test_replicas_are_not_disconnected(server, ours, tmp_path, until):
    with Server(server.engine, tmp_path, replica_of=server):
        until(lambda: server_facts(ours).replicas == 1)
        before = ours.client_list(_type="replica")
        disconnect_clients(ours)
        assert [each["id"] for each in ours.client_list(_type="replica")] == [each["id"] for each in before]


WRITES = {
    "a write": lambda to: to.set("key", 1),
    "a write in a script": lambda to: to.eval("return redis.call('set', 'key', '1')", 0),
    "a write in a transaction": lambda to: to.pipeline(transaction=True).set("key", 1).execute(),
    "a subcommand": lambda to: to.xgroup_create("stream", "group", mkstream=True),
    "a restore": lambda to: to.restore("copy", 0, to.dump("seed"), replace=True),
    "a flush": lambda to: to.flushdb(),
}


def test_every_way_to_write_is_counted(ours):
    for name, write in WRITES.items():
        ours.set("seed", 1)
        mark = write_mark(ours)
        write(ours)
        assert writes_since(ours, mark) == 1, name


def test_reads_expiry_and_snapshots_are_not_writes(server, ours, until):
    ours.set("key", 1)
    ours.set("going", 1, px=1)
    mark = write_mark(ours)
    ours.get("key")
    ours.eval("return redis.call('get', 'key')", 0)
    until(lambda: not ours.exists("going"))
    assert writes_since(ours, mark) == 0


def test_writes_cannot_be_counted_across_a_restart(tmp_path, old_server):
    with Server(old_server.engine, tmp_path / "one") as server:
        mark = write_mark(server.client())
    with Server(old_server.engine, tmp_path / "two") as server, pytest.raises(ServerReplaced, match="new mark"):
        writes_since(server.client(), mark)


def test_the_facts_of_a_server_name_its_engine_version_and_keys(server, ours):
    ours.set("key", 1)
    with server.client(db=4) as four:
        four.set("key", 1)
    facts = server_facts(ours)
    assert (facts.engine, facts.version) == (server.engine.name, server.engine.version)
    assert (facts.role, facts.keys, facts.databases, facts.replicas) == ("master", 2, {0: 1, 4: 1}, 0)
    assert facts.used_memory > 0 and facts.maxmemory == 0 and len(facts.run_id) == 40


def test_our_connection_has_a_name_and_hides_no_outage(server):
    with connect("127.0.0.1", server.port, name="runbook-test", db=2, timeout=3) as client:
        assert client.client_getname() in ("runbook-test", b"runbook-test")
        assert client.client_info()["db"] == 2
        assert client.get_connection_kwargs()["retry"].get_retries() == 0
    with pytest.raises(redis.ConnectionError), connect("127.0.0.1", 1) as nobody:
        nobody.ping()
