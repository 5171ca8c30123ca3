"""What rules make of events, and the pattern that a rule should have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.aws import RunbookError
from helpers.eventbridge.amplify import deployment_events
from helpers.eventbridge.debug_rule import Debug
from helpers.eventbridge.matching import matches
from helpers.eventbridge.rules import Rule
from helpers.eventbridge.verdicts import corrected, nearest, traps, verdicts

EVENTS = deployment_events("123456789012", "ap-northeast-1")
OTHERS = [
    event.replace('"foo"', '"baz"').replace("SUCCEED", status)
    for event in EVENTS[:1]
    for status in ("STARTED", "RUNNING", "SUCCEED")
]
ABOUT = {"source": ["aws.amplify"], "detail-type": ["Amplify Deployment Status Change"]}
FAULTY = json.dumps({**ABOUT, "details": {"appId": ["foo", "bar"], "jobStatus": ["SUCCEED", "FAILED"]}})
RIGHT = {**ABOUT, "detail": {"appId": ["foo", "bar"], "jobStatus": ["SUCCEED", "FAILED"]}}


def rule(pattern: str) -> Rule:
    return Rule(
        "to-slack", "default", "arn:aws:events:ap-northeast-1:123456789012:rule/to-slack", pattern, "", "ENABLED"
    )


def debug(**changes: Any) -> Debug:
    asked = {
        "run_id": "r",
        "created": 0.0,
        "bus": "default",
        "rule": "to-slack",
        "source": "aws.amplify",
        "sink": "sqs",
        "cause": "copy",
        "debug_pattern": "",
        "event": "",
    }
    more = {
        "archive": "",
        "replay_from": "",
        "replay_to": "",
        "log_group": "",
        "correction": "",
        "events_wanted": 1,
        "wait_seconds": 1.0,
        "keep_hours": 1.0,
    }
    return Debug(**{**asked, **more, **changes})


@pytest.mark.parametrize(
    "detail",
    [
        {"jobStatus": ["succeed", "failed"]},
        {"appId": ["foo"]},
        {"jobStatus": ["SUCCEED"], "appId": ["bar"]},
        {"jobstatus": ["FAILED"]},
    ],
)
def test_every_copy_matches_the_corrected_pattern(detail: dict[str, list[str]]) -> None:
    pattern = corrected(debug(), rule(json.dumps({**ABOUT, "detail": detail})), EVENTS)
    assert all(matches(pattern, event) for event in EVENTS)


def test_of_replayed_events_only_the_nearest_is_let_in_and_only_where_none_matches() -> None:
    replayed = [*OTHERS, *EVENTS]
    assert json.loads(corrected(debug(cause="replay"), rule(FAULTY), replayed)) == RIGHT
    right = json.dumps(RIGHT)
    assert corrected(debug(cause="replay"), rule(right), replayed) == right


def test_a_pattern_that_matches_every_copy_stays_as_it_is_written() -> None:
    text = '{ "source" : ["aws.amplify"] }'
    assert corrected(debug(), rule(text), EVENTS) == text


def test_the_correction_that_is_given_is_taken_and_none_leaves_the_rule_alone() -> None:
    assert corrected(debug(correction='{"source": ["aws.s3"]}'), rule(FAULTY), EVENTS) == '{"source": ["aws.s3"]}'
    assert corrected(debug(correction="none"), rule(FAULTY), EVENTS) == FAULTY


def test_a_correction_that_is_too_long_for_a_rule_is_refused_with_what_to_do() -> None:
    with pytest.raises(RunbookError, match="5,016 characters.*Remedy: Split it"):
        corrected(debug(correction=json.dumps({"source": ["x" * 5000]})), rule(FAULTY), EVENTS)


def test_a_verdict_counts_the_matches_and_tells_what_keeps_the_nearest_event_out() -> None:
    told = verdicts([rule(FAULTY), rule(json.dumps(RIGHT)), rule("")], [*EVENTS, *OTHERS])
    assert list(told["matches"]) == ["0 of 7", "4 of 7"]
    assert "the event has no details.appId; it has detail.appId" in told.iloc[0, 3]
    assert told.iloc[1, 3] == 'detail.appId: "baz" is not in the list'


def test_where_no_event_is_known_that_is_said() -> None:
    assert nearest(FAULTY, []) == "no event is known before the apply"
    assert list(verdicts([rule(FAULTY)], [])["matches"]) == [""]


def test_the_traps_of_each_rule_are_named_with_it() -> None:
    found = traps([rule(json.dumps(RIGHT)), rule('{"source": ["AWS.Amplify"]}')])
    assert ("to-slack", "source") in list(zip(found["rule"], found["path"], strict=True))
    assert list(traps([rule(json.dumps(RIGHT))])["trap"]) == ["none found"]
