"""The accounting of acknowledged writes, without a server."""

from __future__ import annotations

import pytest

from helpers.rehearsal.ledger import Ledger

KEY = "session:a"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(start=1_000)


def wrote(ledger: Ledger, before: int | None, *, delete: bool = False, key: str = KEY) -> int:
    """Let the next write of a key be acknowledged, and return its number."""
    write = ledger.begin(key, delete=delete)
    ledger.acknowledge(write, before)
    return write.sequence


def audited(ledger: Ledger, stored: int | None, key: str = KEY) -> int:
    ledger.judge(ledger.look([key])[0], stored)
    return int(ledger.summary()["acknowledged_writes_lost"])


def three(ledger: Ledger) -> list[int]:
    first = wrote(ledger, None)
    return [first, wrote(ledger, first), wrote(ledger, first + 1)]


def test_a_key_that_holds_its_last_write_has_lost_nothing(ledger: Ledger) -> None:
    assert audited(ledger, three(ledger)[-1]) == 0


def test_writes_after_the_stored_one_are_lost(ledger: Ledger) -> None:
    assert audited(ledger, three(ledger)[0]) == 2


def test_a_missing_key_has_lost_all_its_writes(ledger: Ledger) -> None:
    three(ledger)
    assert audited(ledger, None) == 3
    assert ledger.summary()["sessions_missing"] == 1


def test_a_value_from_before_the_application_counts_as_nothing(ledger: Ledger) -> None:
    three(ledger)
    assert audited(ledger, 17) == 3


def test_a_loss_stays_counted_once_when_the_next_write_hides_it(ledger: Ledger) -> None:
    first = three(ledger)[0]
    assert audited(ledger, first) == 2
    latest = wrote(ledger, first)
    assert audited(ledger, latest) == 2


def test_a_loss_that_no_audit_saw_is_found_by_the_next_write(ledger: Ledger) -> None:
    first = three(ledger)[0]
    latest = wrote(ledger, first)
    assert audited(ledger, latest) == 2


def test_an_audit_that_read_before_a_settling_write_counts_nothing_again(ledger: Ledger) -> None:
    first = three(ledger)[0]
    look = ledger.look([KEY])[0]
    wrote(ledger, first)
    ledger.judge(look, first)
    assert ledger.summary()["acknowledged_writes_lost"] == 2


def test_a_loss_that_comes_back_before_it_is_hidden_is_no_loss(ledger: Ledger) -> None:
    numbers = three(ledger)
    assert audited(ledger, None) == 3
    assert audited(ledger, numbers[-1]) == 0


@pytest.mark.parametrize("stored", [True, False])
def test_a_write_without_an_answer_is_neither_lost_nor_wrong(ledger: Ledger, stored: bool) -> None:
    last = three(ledger)[-1]
    unknown = ledger.begin(KEY)
    ledger.fail(unknown)
    found = unknown.sequence if stored else last
    assert audited(ledger, found) == 0
    assert audited(ledger, wrote(ledger, found)) == 0
    assert ledger.summary()["unacknowledged_writes"] == 1


def test_unanswered_writes_in_the_middle_are_not_counted_as_lost(ledger: Ledger) -> None:
    first = three(ledger)[0]
    for _ in range(5):
        ledger.fail(ledger.begin(KEY))
    latest = wrote(ledger, first + 2)
    assert audited(ledger, first) == 3
    assert audited(ledger, latest) == 0


def test_a_deleted_key_that_comes_back_is_a_loss(ledger: Ledger) -> None:
    numbers = three(ledger)
    wrote(ledger, numbers[-1], delete=True)
    assert audited(ledger, None) == 0
    assert audited(ledger, numbers[-1]) == 1
    assert audited(ledger, numbers[0]) == 3


def test_a_deletion_without_an_answer_explains_a_missing_key(ledger: Ledger) -> None:
    three(ledger)
    ledger.fail(ledger.begin(KEY, delete=True))
    assert audited(ledger, None) == 0


def test_a_deletion_that_finds_nothing_to_delete_shows_the_loss(ledger: Ledger) -> None:
    three(ledger)
    wrote(ledger, None, delete=True)
    assert audited(ledger, None) == 3
    assert ledger.summary()["sessions_missing"] == 1


def test_a_deletion_under_way_during_an_audit_is_no_loss(ledger: Ledger) -> None:
    three(ledger)
    look = ledger.look([KEY])[0]
    ledger.begin(KEY, delete=True)
    assert ledger.judge(look, None) == 0


def test_a_counter_that_fell_back_has_lost_the_difference(ledger: Ledger) -> None:
    for value in range(41, 51):
        ledger.counted("visits:x", value)
    assert audited(ledger, 47, "visits:x") == 3
    ledger.counted("visits:x", 48)
    assert audited(ledger, 48, "visits:x") == 3
    assert audited(ledger, None, "visits:x") == 3 + 8


def test_a_hole_in_a_list_is_a_loss_even_when_it_is_trimmed_later(ledger: Ledger) -> None:
    numbers = three(ledger)
    ledger.judge_list(ledger.look([KEY])[0], [numbers[0], numbers[2]], whole=True)
    ledger.judge_list(ledger.look([KEY])[0], [numbers[2]], whole=False)
    assert ledger.summary()["acknowledged_writes_lost"] == 1


def test_a_forgotten_key_keeps_its_loss(ledger: Ledger) -> None:
    three(ledger)
    audited(ledger, None)
    ledger.forget(KEY)
    assert ledger.summary()["acknowledged_writes_lost"] == 3


def test_outages_do_not_grow_the_ledger(ledger: Ledger) -> None:
    for _ in range(1_000):
        ledger.fail(ledger.begin(KEY))
    assert len(ledger._keys[KEY].uncounted) == 1
