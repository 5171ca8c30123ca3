"""A rule's pattern exchanged for the corrected one, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from helpers.aws import Aws, RunbookError, effect, planning
from helpers.eventbridge.matching import matches
from helpers.eventbridge.rules import Rule, describe_rule, put_pattern

TESTED = 10  # matching events, and as many others, that TestEventPattern is asked about


@dataclass(frozen=True)
class Corrected:
    """A rule's pattern before and now, how many of the events it matches, and on how many of those tested AWS's own TestEventPattern says the same."""

    rule: str
    before: str
    now: str
    matched: int
    of: int
    tested: int
    agreed: int

    def table(self) -> pd.DataFrame:
        """Before, now, the matches, and AWS's word on it."""
        said = "not asked in a plan" if planning() else f"says the same of {self.agreed} of {self.tested} events"
        rows = [
            ("pattern before", self.before),
            ("pattern now", self.now),
            ("matches", f"{self.matched} of {self.of} events"),
            ("TestEventPattern", said),
        ]
        return pd.DataFrame(rows, columns=["", self.rule])


def undo_correct(aws: Aws, rule: Rule, pattern: str) -> None:
    """Give the rule its old pattern back."""
    now = describe_rule(aws, rule.bus, rule.name).pattern
    if now == pattern:
        put_pattern(aws, rule, rule.pattern)
    elif now != rule.pattern and not planning():
        raise _changed_meanwhile(rule, now)


@effect(undo=undo_correct)
def correct(aws: Aws, rule: Rule, pattern: str, events: Sequence[str]) -> Corrected:
    """Give the rule the corrected pattern, unless somebody changed it meanwhile, and ask AWS's own TestEventPattern about it."""
    now = describe_rule(aws, rule.bus, rule.name).pattern
    if now not in (rule.pattern, pattern):
        raise _changed_meanwhile(rule, now)
    if now != pattern:
        put_pattern(aws, rule, pattern)
    told = [matches(pattern, event) for event in events]
    asked = [] if planning() else [place for answer in (True, False) for place in _places(told, answer)]
    agreed = sum(
        aws.client("events").test_event_pattern(EventPattern=pattern, Event=events[place])["Result"] == told[place]
        for place in asked
    )
    return Corrected(rule.name, rule.pattern, pattern, sum(told), len(events), len(asked), agreed)


def _places(told: list[bool], answer: bool) -> list[int]:
    """Where the first few events of one answer are."""
    return [place for place, one in enumerate(told) if one is answer][:TESTED]


def _changed_meanwhile(rule: Rule, now: str) -> RunbookError:
    return RunbookError(
        f"The pattern of {rule.name} is {now}: somebody changed it meanwhile, so it is left alone.",
        "Look who did, and start a new run.",
    )
