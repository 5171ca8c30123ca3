"""What the application measures of itself."""

from __future__ import annotations

import pytest

from helpers.rehearsal import meter
from helpers.rehearsal.meter import Meter


class Clock:
    """A clock that tests set, in Unix milliseconds."""

    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "now_ms", clock)
    return clock


@pytest.fixture
def measured(clock: Clock) -> Meter:
    """Two seconds of a write every 4 ms to one endpoint."""
    measured = Meter(every_ms=4)
    measured.moved("a:1")
    writes(measured, clock, 500)
    return measured


def writes(measured: Meter, clock: Clock, count: int, endpoint: str = "a:1") -> None:
    for _ in range(count):
        clock.now += 4
        measured.wrote(1, endpoint)


def test_without_a_change_the_gap_is_the_longest_of_all(measured: Meter, clock: Clock) -> None:
    last = clock.now
    clock.now += 250
    writes(measured, clock, 3_000)
    found = measured.summary()
    assert (found["write_gap_ms"], found["gap_started"], found["longest_write_gap_ms"]) == (254, last, 254)


def test_the_gap_of_a_change_is_the_longest_within_five_seconds_of_it(measured: Meter, clock: Clock) -> None:
    clock.now += 900
    writes(measured, clock, 2_000)
    last = clock.now
    clock.now += 60
    measured.moved("b:2")
    clock.now += 30
    writes(measured, clock, 2_000, "b:2")
    clock.now += 700
    writes(measured, clock, 10, "b:2")
    found = measured.summary()
    assert (found["write_gap_ms"], found["gap_started"]) == (94, last)
    assert found["longest_write_gap_ms"] == 904
    assert [size for _, size in found["gaps"]] == [904, 704, 94]
    change = found["endpoints"][1]
    assert change["first_acknowledged_write"] - change["since"] == 34


def test_a_change_that_hinders_nothing_has_the_usual_time_between_writes_as_its_gap(measured: Meter, clock: Clock) -> None:
    measured.moved("b:2")
    writes(measured, clock, 10, "b:2")
    assert measured.summary()["write_gap_ms"] == 4


def test_a_gap_that_is_still_open_counts_until_the_application_ends(measured: Meter, clock: Clock) -> None:
    clock.now += 80
    assert measured.summary()["write_gap_ms"] == 80
    writes(measured, clock, 1)
    measured.end()
    clock.now += 5_000
    assert measured.summary()["write_gap_ms"] == 84


def test_the_time_line_spans_five_seconds_to_each_side_of_the_change(measured: Meter, clock: Clock) -> None:
    writes(measured, clock, 3_000)
    measured.moved("b:2")
    change = clock.now
    writes(measured, clock, 20_000, "b:2")
    timeline = measured.summary()["timeline"]
    assert timeline[0][0] == pytest.approx(change - 5_000, abs=10)
    assert timeline[-1][0] == pytest.approx(change + 5_000, abs=10)
    assert [at for at, _ in timeline] == list(range(timeline[0][0], timeline[-1][0] + 1, 10))
    assert sum(n for _, n in timeline) == pytest.approx(2_500, abs=5)


def test_a_last_answer_of_the_old_endpoint_is_not_the_first_of_the_new_one(measured: Meter, clock: Clock) -> None:
    measured.moved("b:2")
    writes(measured, clock, 1, "a:1")
    assert measured.summary()["endpoints"][1]["first_acknowledged_write"] is None


def test_errors_are_counted_by_their_text_without_numbers(measured: Meter) -> None:
    for port in range(100):
        measured.failed(OSError(f"no answer from port {port}"))
    assert measured.summary()["errors"] == {"no answer from port N": 100}


def test_hours_of_measuring_take_no_more_memory(measured: Meter, clock: Clock) -> None:
    for number in range(300):
        clock.now += 60
        writes(measured, clock, 100)
        measured.moved(f"c:{number}")
        measured.failed(OSError("x" * number))
    assert len(measured._steps) <= 2_001
    assert len(measured._kept) <= 1_001
    found = measured.summary()
    assert len(found["endpoints"]) == 20
    assert len(found["errors"]) <= 31
