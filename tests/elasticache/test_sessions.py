"""Sessions in Redis outlive the instances that made them, slide, and leave nothing behind."""

from __future__ import annotations

import time

import pytest

from helpers.aws import UNKNOWN, calls
from helpers.aws.planned import PlannedWorld
from helpers.elasticache import demo, sessions


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


@pytest.fixture
def plan():
    """A plan: the writes that it listed."""
    listed: list[calls.Call] = []
    calls.watch(calls.Watch(listed.append, plan=PlannedWorld()))
    yield listed
    calls.watch(None)


def test_a_user_is_known_to_every_instance_and_after_a_release(access):
    instances = sessions.start_instances(access, 2)
    alice = instances[0].log_in("alice")
    assert [one.sessions.user(alice) for one in instances] == ["alice", "alice"]
    assert [one.own.user(alice) for one in instances] == ["alice", None]
    instances = sessions.release(access, instances)
    table = sessions.who(alice, instances)
    assert list(table["sessions in Redis say"]) == ["alice", "alice"]
    assert list(table["sessions in the process say"]) == [sessions.LOGGED_OUT] * 2
    assert alice not in table.to_string()


def test_who_logs_out_on_one_instance_is_logged_out_on_all(access):
    one, two = sessions.start_instances(access, 2)
    alice = one.log_in("alice")
    two.sessions.log_out(alice)
    assert one.sessions.user(alice) is None
    assert one.sessions.user("made up") is None


def test_a_request_gives_the_session_its_time_again_and_silence_ends_it(access, server):
    store = sessions.Sessions(access.client(), ttl_s=0.5)
    session = store.log_in("bob")
    for _ in range(4):
        time.sleep(0.2)
        assert store.user(session) == "bob"
        assert 0.3 < store.ttl(session) <= 0.5
    time.sleep(0.6)
    assert (store.user(session), store.ttl(session)) == (None, 0)


def test_the_demonstration_of_expiry_shows_the_sliding_and_the_end(access, client):
    sliding = sessions.watch_expiry(access, ttl_s=0.6, requests=3, every_s=0.2)
    table = sliding.table()
    assert len(table) == 4
    assert all(table["TTL after (s)"][:3] > table["TTL before (s)"][:3])
    assert sliding.ended - sliding.requests[-1] == pytest.approx(0.6, abs=0.2)
    assert sliding.figure() is not None
    assert list(client.scan_iter()) == []


def test_ids_cannot_be_guessed_and_demonstration_keys_end_by_themselves(access, client):
    store = sessions.Sessions(access.client())
    ids = {store.log_in("alice") for _ in range(100)}
    assert (len(ids), min(map(len, ids))) == (100, 32)
    assert all(key.startswith(demo.PREFIX.encode()) and 0 < client.ttl(key) <= demo.TTL_S for key in client.scan_iter())


def test_only_the_demonstration_s_own_keys_are_removed(access, client):
    client.set("runbook:demo:session:somebody else's", 1)
    store = sessions.Sessions(access.client())
    store.log_in("alice"), store.log_in("bob")
    assert demo.remove(store) == 2
    assert list(client.scan_iter()) == [b"runbook:demo:session:somebody else's"]
    assert demo.remove(store) == 0


def test_a_plan_lists_the_writes_without_ids_and_makes_none(access, client, plan):
    one, two = sessions.start_instances(access, 2)
    alice = one.log_in("alice")
    assert two.sessions.user(alice) == UNKNOWN
    assert sessions.watch_expiry(access, requests=2).table()["measured"][0] == "by the apply"
    demo.remove(one.sessions)
    assert client.dbsize() == 0
    assert [call.operation for call in plan] == ["SET", "PEXPIRE", "SET", "PEXPIRE", "PEXPIRE", "DEL", "DEL"]
    assert not any(call.sent for call in plan) and alice not in str(plan)
