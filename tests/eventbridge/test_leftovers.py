"""The names and expiries of what a debugging run makes."""

from __future__ import annotations

import re

import pytest

from helpers.eventbridge.leftovers import LONGEST, Leftover, debug_name


@pytest.mark.parametrize("run_id", ["r", "20261124-031500-1a2b", "a.b", "a_b", "x" * 100, "x" * 99 + "."])
def test_a_name_fits_every_service(run_id: str) -> None:
    assert re.fullmatch(r"runbook-debug-[A-Za-z0-9_-]+", debug_name(run_id))
    assert len(debug_name(run_id)) <= LONGEST


def test_two_runs_never_share_a_name() -> None:
    ids = ["a.b", "a-b", "a_b", "x" * 100, "x" * 99, "x" * 99 + "."]
    assert len({debug_name(one) for one in ids}) == len(ids)


def test_only_what_is_past_its_expiry_is_expired() -> None:
    assert Leftover("queue", "q", expires="2020-01-01T00:00:00Z").is_expired
    assert not Leftover("queue", "q", expires="2999-01-01T00:00:00Z").is_expired
    assert not Leftover("queue", "q").is_expired
