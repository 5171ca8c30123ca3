"""Every store alike: the switch and its way back, other writers, lost answers, killed processes, plans."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from helpers.aws import UNKNOWN, Aws, RunbookError, calls
from helpers.aws.planned import PlannedWorld
from helpers.elasticache import adapters
from helpers.elasticache.adapters import Setting, changed_meanwhile, compare_and_set, form_of, is_at, read_setting, setting_checks
from helpers.elasticache.policy import POLICY
from helpers.runbook import saved_plan

OLD, NEW, THEIRS, SECRET = "old.example.com:6379", "new.example.com:6379", "theirs.example.com:6379", "hunter2-hunter2"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def seen() -> Iterator[list[calls.Call]]:
    """The calls that are made, as a run records them."""
    recorded: list[calls.Call] = []
    calls.watch(calls.Watch(recorded.append))
    yield recorded
    calls.watch(None)


def switch(aws: Aws, store: Any, expected: str = OLD, value: str = NEW) -> None:
    compare_and_set(aws, read_setting(aws, store.where), expected, value)


def written(store: Any) -> Any:
    """What the setting holds once somebody else has written it."""
    store.write(THEIRS)
    return store.everything()[0]


def test_a_setting_is_read_switched_and_switched_back_with_nothing_else_changed(aws: Aws, store: Any) -> None:
    before, there = read_setting(aws, store.where), store.everything()
    assert before.value == form_of(store.where, OLD) and is_at(before, OLD)
    switch(aws, store)
    after = read_setting(aws, store.where)
    assert is_at(after, NEW) and not is_at(after, OLD)
    assert json.dumps(store.everything(), default=sorted).replace("new.", "old.") == json.dumps(there, default=sorted)
    switch(aws, store, NEW, OLD)
    assert store.everything() == there


def test_the_checks_pass_and_name_the_endpoint(aws: Aws, store: Any) -> None:
    checks = setting_checks(aws, store.where, ("other:1", OLD), tls=False)
    assert form_of(store.where, OLD) in checks[0].found
    assert {check.outcome for check in checks} <= {"pass", "warn"}
    assert len(checks) >= 2


def test_a_setting_of_another_group_fails_the_checks(aws: Aws, store: Any) -> None:
    store.write(THEIRS)
    (check,) = setting_checks(aws, store.where, (OLD,), tls=False)
    assert check.outcome == "fail" and form_of(store.where, THEIRS) in check.found and form_of(store.where, OLD) in check.found


def test_what_was_changed_since_it_was_read_stays(aws: Aws, store: Any) -> None:
    before = read_setting(aws, store.where)
    store.write(THEIRS)
    there = store.everything()
    with pytest.raises(RunbookError, match="somebody changed it meanwhile"):
        compare_and_set(aws, before, OLD, NEW)
    assert store.everything() == there
    with pytest.raises(RunbookError, match="somebody changed it meanwhile"):
        compare_and_set(aws, read_setting(aws, store.where), OLD, NEW)
    assert store.everything() == there


def test_what_is_changed_just_before_the_decisive_call_stays(aws: Aws, store: Any, before_call: Callable) -> None:
    before, there = read_setting(aws, store.where), []
    before_call(store, store.decisive, lambda: there.append(written(store)))
    with pytest.raises(RunbookError, match="somebody changed it meanwhile"):
        compare_and_set(aws, before, OLD, NEW)
    assert store.everything()[0] == there[0]
    assert "runbook" not in repr(store.everything())
    assert is_at(read_setting(aws, store.where), THEIRS)


def test_what_is_changed_before_the_first_write_stays(aws: Aws, store: Any, before_call: Callable) -> None:
    before, there = read_setting(aws, store.where), []
    before_call(store, store.writes[0], lambda: there.append(written(store)))
    with pytest.raises(RunbookError, match="somebody changed it meanwhile"):
        compare_and_set(aws, before, OLD, NEW)
    assert store.everything()[0] == there[0]


def test_each_call_whose_answer_is_lost_and_that_is_sent_again_counts_once(aws: Aws, store: Any) -> None:
    client, sent = aws.client(store.service), []

    def lose_the_answer(request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        if event_name in sent:
            return None
        sent.append(event_name)
        client._endpoint.http_session.send(request)
        return AWSResponse(request.url, 500, {}, _Body())

    for operation in set(store.writes):
        client.meta.events.register(f"before-send.{store.service}.{operation}", lose_the_answer)
    try:
        switch(aws, store)
    finally:
        for operation in set(store.writes):
            client.meta.events.unregister(f"before-send.{store.service}.{operation}", lose_the_answer)
    assert len(sent) == len(set(store.writes))
    assert is_at(read_setting(aws, store.where), NEW)


class _Body:
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield b"{}"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_killed_after_any_write_and_resumed_it_ends_as_if_it_had_not_been(aws: Aws, store: Any, number: int) -> None:
    events, left = aws.client(store.service).meta.events, [*store.writes][: number + 1]

    def kill(model: Any, **_: Any) -> None:
        if model.name in store.writes and left:
            left.pop()
            if not left:
                raise Killed

    there = store.everything()
    events.register(f"after-call.{store.service}", kill)
    try:
        with pytest.raises(Killed):
            switch(aws, store)
            raise Killed  # it has fewer writes
    finally:
        events.unregister(f"after-call.{store.service}", kill)
    if not is_at(read_setting(aws, store.where), NEW):
        switch(aws, store)
    assert is_at(read_setting(aws, store.where), NEW)
    switch(aws, store, NEW, OLD)
    assert store.everything() == there


def test_a_plan_lists_what_the_apply_then_sends_and_later_reads_see_the_planned_value(aws: Aws, store: Any, seen: list[calls.Call]) -> None:
    unknown, there, planned = f"{UNKNOWN}:{UNKNOWN}", store.everything(), []
    calls.watch(calls.Watch(planned.append, plan=PlannedWorld()))
    if store.service == "route53":
        assert read_setting(aws, store.where).value == "old.example.com"
    switch(aws, store, OLD, unknown)
    after = read_setting(aws, store.where)
    calls.watch(calls.Watch(seen.append))
    assert store.everything() == there
    assert is_at(after, unknown)
    switch(aws, store)
    listed, sent = ([call for call in each if call.write] for each in (planned, seen))
    assert [call.identity for call in listed] == [call.identity for call in sent]
    assert tuple(call.operation for call in sent) == store.writes
    assert not any(call.sent for call in listed)
    assert all(saved_plan.same(asdict(was), asdict(now)) for was, now in zip(listed, sent, strict=True))


def test_no_other_content_of_the_store_is_ever_shown(aws: Aws, store: Any, seen: list[calls.Call]) -> None:
    before = read_setting(aws, store.where)
    switch(aws, store)
    store.write(THEIRS) if store.service != "appconfig" else None  # its deployment bakes
    with pytest.raises(RunbookError) as refused:
        compare_and_set(aws, before, OLD, NEW)
    checks = setting_checks(aws, store.where, (OLD,), tls=True)
    told = [repr(before), json.dumps(asdict(before)), str(refused.value), repr(checks), *(json.dumps(asdict(call), default=str) for call in seen)]
    assert not [text for text in told if SECRET in text]


def test_the_policy_allows_every_call(aws: Aws, store: Any, seen: list[calls.Call]) -> None:
    setting_checks(aws, store.where, (OLD,), tls=False)
    switch(aws, store)
    allowed = {action for one in POLICY["Statement"] for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])}
    made = {f"{call.service.replace('appconfigdata', 'appconfig')}:{call.operation}" for call in seen}
    assert made - allowed == set()


def test_a_setting_that_does_not_exist_is_told_by_the_checks(aws: Aws, store: Any) -> None:
    where = store.where.replace(store.name, "nobody")
    if store.service == "route53":
        where = f"{store.where}.nobody"
    found = read_setting(aws, where)
    assert found.value == "" and found.version in ("", 0)
    (check,) = setting_checks(aws, where, (OLD,), tls=False)
    assert check.outcome == "fail" and check.found == f"there is no {adapters._store(where).NOUN} {where}"
    with pytest.raises(RunbookError, match="holds ''"):
        compare_and_set(aws, found, OLD, NEW)


def test_a_refused_permission_is_told_with_the_action_and_a_remedy(aws: Aws, store: Any) -> None:
    client = aws.client(store.service)
    code, message = "AccessDeniedException", f"User: arn:aws:iam::123456789012:user/o is not authorized to perform: {store.service}:Something"

    def refuse(**_: Any) -> tuple[AWSResponse, dict]:
        return AWSResponse("", 400, {}, None), {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400, "RequestId": "r-1"}}

    for way in (lambda: read_setting(aws, store.where), lambda: switch(aws, store)):
        client.meta.events.register(f"before-call.{store.service}", refuse)
        try:
            with pytest.raises(RunbookError, match=f"not authorized to perform: {store.service}:Something.*Add the action"):
                way()
            (check,) = setting_checks(aws, store.where, (OLD,), tls=False)
        finally:
            client.meta.events.unregister(f"before-call.{store.service}", refuse)
        assert check.outcome == "fail" and message in check.found and "Add the action" in check.remedy


def test_a_write_that_is_refused_leaves_everything_as_it_was(aws: Aws, store: Any, before_call: Callable) -> None:
    there, refusal = store.everything(), {"Error": {"Code": "AccessDeniedException", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    before_call(store, store.decisive, lambda: (AWSResponse("", 400, {}, None), refusal))
    with pytest.raises(RunbookError, match=f"{store.decisive} was refused with AccessDenied"):
        switch(aws, store)
    assert store.everything() == there


@pytest.mark.parametrize("where", ["", "name", "secretsmanager:", "secretsmanager:a#", "appconfig:a/b", "appconfig:a/b/c/d", "route53:Z1", "route53:z/a b", "ssm:/a", "/a b", "kubernetes:x"])
def test_a_text_of_no_known_form_is_refused_with_the_forms(aws: Aws, where: str) -> None:
    with pytest.raises(RunbookError, match=r"names no setting.*/name.*secretsmanager:ID#key.*appconfig:.*route53:ZONE_ID/record.name"):
        read_setting(aws, where)
    (check,) = setting_checks(aws, where, (OLD,), tls=False)
    assert (check.outcome, "names no setting" in check.found) == ("fail", True)


def test_a_change_of_the_same_value_is_told_apart() -> None:
    assert "holds 'a:1', not 'b:1': somebody changed it" in str(changed_meanwhile("/p", "a:1", "b:1"))
    assert "holds 'b:1' again: somebody changed it" in str(changed_meanwhile("/p", "b:1", "b:1"))


def test_host_names_are_compared_without_case() -> None:
    assert is_at(Setting("route53:Z1/a", "Old.Example.com", "CNAME 1 x"), OLD)
