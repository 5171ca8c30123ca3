"""How a fleet is run: canary, waves, thresholds, throttling, Ctrl-C; with runs that take no time."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from helpers.aws.errors import RunbookError
from helpers.fleet import record, throttling
from helpers.fleet.limits import Limits, checked
from helpers.fleet.run import Ended, Fleet
from helpers.fleet.targets import Target

DONE = Ended("done", 0)
FAILED = Ended("failed", 1, "It broke. Remedy: Mend it.")
THROTTLED = Ended("failed", 1, "DescribeFileSystems was refused with ThrottlingException: Rate exceeded")


class Silent:
    def update(self, fleet):
        pass

    def ended(self, fleet, target, ended, duration_s):
        pass

    def said(self, sentence):
        pass


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """Run a fleet of `count` targets whose runs end as `outcome(number)` says; returns it and the order of the runs."""
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))

    def make(count: int, outcome, limits: Limits, targets=None, **options):
        kept = record.create("f1", "fleet.yaml", "apply", [Target(n, n, "tiny", Path("tiny.ipynb"), {"name": f"n{n}"}, f"n{n}") for n in range(1, count + 1)]) if targets is None else record.load("f1")
        order: list[int] = []

        def launch(target: Target, run_id: str) -> Ended:
            order.append(target.number)
            return outcome(target.number)

        kept.journal.write("started", mode="apply", who="me", targets=count, limits={})
        made = Fleet(kept, "apply", limits, launch, Silent(), **options)
        made.run([one for one in kept.targets if targets is None or one.number in targets])
        kept.close()
        return made, order

    return make


def statuses(made: Fleet) -> list[str]:
    return [one.status for one in made.record.outcomes()]


def test_shares_are_rounded_down_and_a_canary_is_at_least_one():
    limits = Limits("10%", "10%", "1%", ("20%", "1"))
    assert limits.at_once(5) == 1 and limits.at_once(50) == 5 and limits.errors_of(19) == 1 and limits.errors_of(5) == 0
    assert [(name, len(part)) for name, part in limits.split(range(10))] == [("canary", 1), ("wave 1", 2), ("wave 2", 1), ("wave 3", 6)]
    assert [name for name, _ in Limits("1", "0").split("ab")] == ["all"]
    for wrong in (Limits("0", "0"), Limits("1", "-1"), Limits("1", "101%"), Limits("1", "0", "x"), Limits("1", "0", "0", ("a",))):
        with pytest.raises(RunbookError):
            checked(wrong)


def test_a_wave_begins_when_the_one_before_has_ended(fleet):
    now, most, begun = set(), [], []
    lock = threading.Lock()

    def outcome(number: int) -> Ended:
        with lock:
            now.add(number)
            begun.append(number)
            most.append(set(now))
        time.sleep(0.05)
        with lock:
            now.discard(number)
        return DONE

    made, _ = fleet(10, outcome, Limits("3", "0", "2", ("3",)))
    assert statuses(made) == ["done"] * 10 and max(map(len, most)) == 3
    assert all(max(together) <= 2 or min(together) > 2 for together in most) and all(max(together) <= 5 or min(together) > 5 for together in most)


def test_a_canary_that_fails_ends_the_fleet_whatever_may_fail(fleet):
    made, order = fleet(10, lambda number: FAILED, Limits("5", "100%", "1"))
    assert order == [1] and made.stopped == "the canary failed" and statuses(made) == ["failed"] + ["not run"] * 9
    assert record.exit_code(made.record.outcomes()) == 4


def test_nothing_more_is_begun_when_too_many_have_failed_and_what_runs_is_waited_for(fleet):
    made, order = fleet(20, lambda number: FAILED if number in (2, 4, 6) else DONE, Limits("1", "2"))
    assert order == [1, 2, 3, 4, 5, 6] and made.stopped == "3 failed, and 2 may" and made.counts == {"done": 3, "failed": 3}
    assert record.exit_code(made.record.outcomes()) == 4


def test_as_many_failures_as_may_be_do_not_stop_it(fleet):
    made, order = fleet(4, lambda number: FAILED if number <= 2 else DONE, Limits("1", "50%"))
    assert order == [1, 2, 3, 4] and not made.stopped


def test_throttling_is_tried_again_and_a_failure_is_not(fleet, monkeypatch):
    monkeypatch.setattr(throttling, "pause_s", lambda tries: 0.01)
    told = {1: iter([THROTTLED, THROTTLED, DONE]), 2: iter([FAILED]), 3: iter([THROTTLED] * 9)}
    made, order = fleet(3, lambda number: next(told[number]), Limits("2", "100%"))
    assert [order.count(number) for number in (1, 2, 3)] == [3, 1, throttling.TRIES]
    assert statuses(made) == ["done", "failed", "failed"] and len(made.record.journal.of_type("throttled")) == 5


def test_pauses_grow_and_are_drawn():
    assert [throttling.pause_s(tries, lambda low, high: high) for tries in (1, 2, 3, 9)] == [5, 10, 20, 60]
    assert throttling.throttled(THROTTLED.error) and not throttling.throttled("X was refused with AccessDenied: Throttling") and not throttling.throttled("")


def test_an_error_before_a_run_begins_is_how_it_ended(fleet):
    def outcome(number: int) -> Ended:
        raise RunbookError("The local cloud did not start.", "Install it.") if number == 1 else KeyError("x")

    made, _ = fleet(2, outcome, Limits("1", "100%"))
    assert [one.error for one in made.record.outcomes()] == ["The local cloud did not start. Remedy: Install it.", "KeyError: 'x'"]
    assert record.exit_code(made.record.outcomes()) == 1


def test_ctrl_c_begins_nothing_more_interrupts_what_runs_and_the_second_ends_it(fleet):
    pressed: list[bool] = []

    def interrupt(hard: bool) -> None:
        pressed.append(hard)
        if not hard:
            os.kill(os.getpid(), signal.SIGINT)

    def outcome(number: int) -> Ended:
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
            while len(pressed) < 2:
                time.sleep(0.01)
            return Ended("failed", 1, "The step was interrupted.")
        return DONE

    made, order = fleet(5, outcome, Limits("1", "100%"), interrupt=interrupt)
    assert order == [1, 2] and pressed == [False, True]
    assert statuses(made) == ["done", "interrupted"] + ["not run"] * 3
    again, order = fleet(5, lambda number: DONE, Limits("2", "0"), targets=[2, 3, 4, 5])
    assert sorted(order) == [2, 3, 4, 5] and statuses(again) == ["done"] * 5 and record.exit_code(again.record.outcomes()) == 0


def test_two_processes_do_not_run_one_fleet(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    kept = record.create("f1", "fleet.yaml", "plan", [])
    with pytest.raises(RunbookError, match="is being run by another process"):
        record.load("f1")
    with pytest.raises(RunbookError, match="There is a run f1 already"):
        record.create("f1", "fleet.yaml", "plan", [])
    kept.close()


@pytest.mark.parametrize(
    ("codes", "expected"), [([0, 0], 0), ([2, 0], 2), ([2, 2], 2), ([1, 1], 1), ([0, 1], 4), ([2, 1], 4), ([None, 0], 4), ([5, 5], 5), ([3, 0], 4), ([None, 1], 4)]
)
def test_one_exit_code_for_all(codes, expected):
    target = Target(1, 1, "tiny", Path("x"), {})
    assert record.exit_code([record.Outcome(target, exit_code=code) for code in codes]) == expected
