"""Seed a local cloud with what runbooks/eventbridge_debug.ipynb is rehearsed on: two rules that do not deliver, and an archive.

Two Amplify apps, foo and bar, shall tell a Slack channel how their deployments end; the rule says `details` for
`detail`. A second rule matches everything of Amplify, but its queue lets nobody in. An archive has a day of events.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from helpers.eventbridge import amplify_message
from helpers.rehearsal.eventbridge.amplify import APPS, BRANCHES, DETAIL_TYPE, event_of
from helpers.rehearsal.eventbridge.permissions import PRINCIPAL

if TYPE_CHECKING:
    from helpers.rehearsal.cloud import Cloud
    from helpers.rehearsal.scenario import Access

FAULTY_PATTERN = {
    "source": ["aws.amplify"],
    "detail-type": [DETAIL_TYPE],
    "details": {"appId": ["foo", "bar"], "jobStatus": ["SUCCEED", "FAILED"]},
}
AUDIT_RULE, AUDIT_QUEUE = "amplify-to-audit", "audit"
DEPLOY_EVERY_S = 20.0
# Deployments in the archive, one every 22 minutes of the past day.
DEPLOYMENTS = 65
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Plan:
    """What is to be seeded: the names of a run."""

    event_bus: str = "default"
    rule: str = "amplify-to-slack"
    archive: str = "amplify-archive"
    slack_queue: str = "slack-outbox"


@dataclass(frozen=True)
class EventScenario:
    """What a cloud holds for the debugging of a rule; `notes` are sentences about what differs from the default."""

    rule_arn: str
    archive_arn: str
    slack_queue_arn: str
    notes: tuple[str, ...] = ()


def ensure(cloud: Cloud, *, fresh: bool = False, **options: Any) -> EventScenario:
    """Make what is not there; `fresh` says that a new run begins, for which the rule gets its faulty pattern back.

    `options` are the fields of `Plan`. Amplify deploys by itself from then on.
    """
    from helpers.rehearsal.scenario import Access

    access, plan = Access(cloud.environment()), Plan(**options)
    events = access.client("events")
    if plan.event_bus not in [bus["Name"] for bus in events.list_event_buses()["EventBuses"]]:
        events.create_event_bus(Name=plan.event_bus)
    archive = _ensure_archive(cloud, access, plan)
    there = [rule["Name"] for rule in events.list_rules(EventBusName=plan.event_bus)["Rules"]]
    if fresh or plan.rule not in there:
        _make_slack_rule(access, plan)
    if AUDIT_RULE not in there:
        _make_audit_rule(access, plan)
        # So that the health of the rules has something to show.
        deployments = [*_deployment("foo", "main", "901", "SUCCEED"), *_deployment("bar", "main", "902", "FAILED")]
        cloud.emit(deployments, bus=plan.event_bus)
    cloud.settings(deploy_every_s=DEPLOY_EVERY_S)
    rule = events.describe_rule(Name=plan.rule, EventBusName=plan.event_bus)["Arn"]
    return EventScenario(rule, archive, arn_of(access, "sqs", plan.slack_queue), _notes(plan))


def history(now: datetime) -> list[dict[str, Any]]:
    """Return the events of the day before `now`: deployments of all apps, and what other services emitted."""
    found: list[dict[str, Any]] = []
    turns = itertools.cycle((app, branch) for branch in BRANCHES for app in APPS)
    for number, (app, branch) in zip(range(DEPLOYMENTS), turns, strict=False):
        started = now - DAY + number * DAY / DEPLOYMENTS
        last = "FAILED" if branch == "broken" else "SUCCEED"
        for minutes, event in enumerate(_deployment(app, branch, str(100 + number), last)):
            found.append({**event, "time": _iso(started + timedelta(minutes=minutes))})
        found.append({**_noise(number), "time": _iso(started + timedelta(minutes=5))})
    return found


def arn_of(access: Access, service: str, resource: str) -> str:
    """Return the ARN of a resource in the cloud's region and account."""
    account = access.client("sts").get_caller_identity()["Account"]
    return f"arn:aws:{service}:{access.region}:{account}:{resource}"


def _deployment(app: str, branch: str, job: str, last: str) -> Iterator[dict[str, Any]]:
    return (event_of(app, branch, job, status) for status in ("STARTED", "RUNNING", last))


def _noise(number: int) -> dict[str, Any]:
    """Return an event of another service."""
    if number % 2:
        upload = {"key": f"{number}.png", "size": 1000 * number}
        detail: dict[str, Any] = {"version": "0", "bucket": {"name": "uploads"}, "object": upload}
        return {"source": "aws.s3", "detail-type": "Object Created", "resources": ["arn:aws:s3:::uploads"], "detail": detail}
    detail = {"instance-id": f"i-{number:017x}", "state": "running"}
    return {"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "resources": [], "detail": detail}


def _iso(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ensure_archive(cloud: Cloud, access: Access, plan: Plan) -> str:
    """Make the archive, with the past day in it, where there is none; return its ARN."""
    events = access.client("events")
    found = events.list_archives(NamePrefix=plan.archive)["Archives"]
    if plan.archive not in [archive["ArchiveName"] for archive in found]:
        bus = events.describe_event_bus(Name=plan.event_bus)["Arn"]
        events.create_archive(ArchiveName=plan.archive, EventSourceArn=bus, RetentionDays=7)
        cloud.emit(history(datetime.now(UTC)), bus=plan.event_bus, past=True)
    return str(events.describe_archive(ArchiveName=plan.archive)["ArchiveArn"])


def _make_slack_rule(access: Access, plan: Plan) -> None:
    """Make the rule with the faulty pattern, and the queue that stands for Slack's API destination."""
    events = access.client("events")
    paths, template = amplify_message("foo")
    pattern = json.dumps(FAULTY_PATTERN)
    rule = events.put_rule(Name=plan.rule, EventBusName=plan.event_bus, EventPattern=pattern, State="ENABLED")["RuleArn"]
    target = {
        "Id": "slack",
        "Arn": _ensure_queue(access, plan.slack_queue, allow=rule),
        "InputTransformer": {"InputPathsMap": paths, "InputTemplate": template},
        "DeadLetterConfig": {"Arn": _ensure_queue(access, f"{plan.rule}-dlq", allow=rule)},
    }
    events.put_targets(Rule=plan.rule, EventBusName=plan.event_bus, Targets=[target])


def _make_audit_rule(access: Access, plan: Plan) -> None:
    """Make the rule whose queue lets nobody in, so that its events end in a dead-letter queue."""
    events = access.client("events")
    pattern = json.dumps({"source": ["aws.amplify"]})
    rule = events.put_rule(Name=AUDIT_RULE, EventBusName=plan.event_bus, EventPattern=pattern, State="ENABLED")["RuleArn"]
    buried = _ensure_queue(access, f"{AUDIT_RULE}-dlq", allow=rule)
    target = {"Id": "audit", "Arn": _ensure_queue(access, AUDIT_QUEUE), "DeadLetterConfig": {"Arn": buried}}
    events.put_targets(Rule=AUDIT_RULE, EventBusName=plan.event_bus, Targets=[target])


def _ensure_queue(access: Access, name: str, *, allow: str = "") -> str:
    """Make a queue that a rule may send to, or nobody; return its ARN."""
    sqs, arn = access.client("sqs"), arn_of(access, "sqs", name)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    if allow:
        statement = {"Effect": "Allow", "Principal": {"Service": PRINCIPAL}, "Action": "sqs:SendMessage", "Resource": arn}
        statement["Condition"] = {"ArnEquals": {"aws:SourceArn": allow}}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return arn


def _notes(plan: Plan) -> tuple[str, ...]:
    if plan.event_bus == "default":
        return ()
    return (f"Amplify's own deployments arrive on the bus default, as on AWS; {plan.event_bus} has the archive's events only.",)
