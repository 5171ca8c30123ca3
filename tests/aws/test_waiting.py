"""Waiting: bounded, ended at once by a failed state, with the service's own words."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from helpers.aws import WaitFailed, calls, wait, waiting
from helpers.aws.planned import PlannedWorld


@pytest.fixture
def states() -> Iterator[str]:
    return iter(["creating", "creating", "available", "deleting"])


def test_it_returns_the_state_that_was_awaited(states: Iterator[str]) -> None:
    assert wait("group", lambda: next(states)) == "available"
    assert next(states) == "deleting"


def test_when_it_is_over_nothing_is_left_of_its_bar(states: Iterator[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(waiting, "SHOWN_AFTER", 0.1)
    wait("group", lambda: next(states))
    shown = capsys.readouterr().out.split("\r")
    assert any("group: available" in one for one in shown) and not shown[-1].strip()


def test_a_failed_state_ends_it_at_once_with_the_events_of_the_service() -> None:
    began = time.monotonic()
    with pytest.raises(WaitFailed, match="ended as 'create-failed'.*The service says: no room"):
        wait("group", lambda: "create-failed", fail=("create-failed",), timeout=60, events=lambda: ["no room"])
    assert time.monotonic() - began < 5


def test_it_is_bounded_and_says_how_far_it_came() -> None:
    with pytest.raises(WaitFailed, match="still 'creating' after 0 s"):
        wait("group", lambda: "creating", timeout=0.2)


def test_in_a_plan_nothing_is_awaited() -> None:
    calls.watch(calls.Watch(lambda call: None, plan=PlannedWorld()))
    try:
        assert wait("group", lambda: "creating", timeout=60) == "creating"
    finally:
        calls.watch(None)


def test_an_error_of_the_probe_is_not_swallowed() -> None:
    def state() -> str:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        wait("group", state)
