"""What goes wrong in the middle of an upgrade: each ends in a sentence, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis


pytestmark = pytest.mark.timeout(300)

CATCH_UP = "Catch up"


def primary(house: Any, **options: Any) -> redis.Redis:
    """A client of the old group's primary endpoint, named as a runbook's connection so that it is not taken for the application's."""
    host, port = house.entry("sessions").split(":")
    return redis.Redis(host=host, port=int(port), client_name="runbook-test", **options)


def test_a_capture_that_is_cut_is_reported_and_the_resumed_run_loses_nothing(house: Any) -> None:
    running = house.started("c")
    house.await_step("c", "3 Upgrade the new group")
    with primary(house) as client:
        captures = [one for one in client.client_list() if one["name"].startswith("runbook-capture")]
        assert [client.client_kill_filter(_id=one["id"]) for one in captures].count(1) == len(captures) > 0
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "capture" in errors.lower()
    done = house.runbook("resume", "c", "--approve", "switch,delete")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    house.assert_moved("c")


def test_a_flush_during_catch_up_is_refused_and_the_old_group_left_untouched(house: Any) -> None:
    before = house.endpoint()
    running = house.started("f")
    house.await_step("f", "3 Upgrade the new group")
    with primary(house, db=5) as client:
        client.set("soon", "gone")
        client.flushdb()
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "FLUSHDB" in errors
    assert house.endpoint() == before
    assert "sessions" in house.groups()
    assert house.audited()["acknowledged_writes_lost"] == 0
    writes = [call["operation"] for call in house.result("f")["calls"] if call["write"] and call["sent"]]
    assert not {"PutParameter", "CLIENT PAUSE WRITE"} & set(writes)


@contextmanager
def lingering(house: Any, name: str) -> Iterator[None]:
    """A client that stays on the old endpoint and comes back whenever it is disconnected."""
    host, port = house.entry("sessions").split(":")
    ended = threading.Event()

    def stay() -> None:
        while not ended.is_set():
            try:
                with redis.Redis(host=host, port=int(port), client_name=name) as client:
                    while not ended.wait(0.05):
                        client.ping()
            except redis.RedisError:
                ended.wait(0.05)

    thread = threading.Thread(target=stay, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)


def test_a_client_still_on_the_old_endpoint_is_named_and_the_group_is_not_deleted(house: Any) -> None:
    assert house.apply("l", approve="switch").returncode == 3
    with lingering(house, "billing"):
        done = house.apply("l")
        assert done.returncode == 1
        assert "still used, so it is not deleted" in done.stderr
        assert "billing" in done.stderr
        assert "sessions" in house.groups()
    done = house.apply("l")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    house.assert_moved("l")


def test_a_new_group_that_fails_ends_the_run_at_once_and_a_resumed_run_makes_it_again(house: Any) -> None:
    for order, said in (("create-failed", "Creation failed"), ("restore-failed", "Restore from")):
        house.cloud.fail_next(order)
        done = house.apply("n")
        assert done.returncode == 1
        assert "ended as 'create-failed'. The service says: " in done.stderr
        assert said in done.stderr
        waited = next(one["duration_s"] for one in reversed(house.result("n")["steps"]) if one["title"] == "2 Import into a new group")
        assert waited < 30
    done = house.apply("n")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    house.assert_moved("n")
