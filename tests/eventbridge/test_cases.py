"""Every case of the pattern language that AWS, or the engine that AWS runs, has decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.eventbridge.events import InvalidEvent
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern

Cases = Callable[[str], list[dict[str, Any]]]


def answer(case: dict[str, Any]) -> tuple[Any, str | None]:
    try:
        return matches(case["pattern"], case["event"]), None
    except InvalidPattern as error:
        return "invalid", error.what
    except InvalidEvent:
        return "event-error", None


def wrong(cases: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (case["pattern"], case["event"], answer(case))
        for case in cases
        if answer(case) != (case["expected"], case.get("error"))
    ]


def test_every_case_of_ours_is_answered_as_the_engine_answers_it(own: Cases) -> None:
    cases = own("patterns")
    assert len(cases) == 772
    assert wrong(cases) == []


def test_every_recorded_case_is_answered_as_recorded(recorded: Cases) -> None:
    cases = recorded("patterns")
    assert len(cases) > 1_000
    assert wrong(cases) == []


@pytest.mark.parametrize("kind", [True, False, "invalid", "event-error"])
def test_the_cases_hold_every_kind_of_answer(own: Cases, kind: Any) -> None:
    assert any(case["expected"] == kind for case in own("patterns"))
