"""What the tests of events share: a rule with a target, and what arrived in a queue or a log group."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

PATTERN = {"source": ["shop"]}


@dataclass
class Events:
    """The clients of a cloud that events are about, and what tests ask of them."""

    account: Any
    until: Callable[..., Any]

    def __post_init__(self) -> None:
        self.events = self.account.client("events")
        self.sqs = self.account.client("sqs")
        self.logs = self.account.client("logs")
        self.functions = self.account.client("lambda")
        self.iam = self.account.client("iam")
        self.cloudwatch = self.account.client("cloudwatch")

    def queue(self, name: str, *, allow: str | None = "*") -> str:
        """Return the ARN of a new queue that takes messages of the rules whose ARN is like `allow`."""
        attributes = {}
        if allow:
            arn = f"arn:aws:sqs:{self.account.cloud.region}:{self.account.cloud.account}:{name}"
            statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
            statement["Condition"] = {"ArnLike": {"aws:SourceArn": allow}}
            attributes["Policy"] = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def rule(self, name: str, target: str | None = None, *, bus: str = "default", pattern: Any = PATTERN, **options: Any) -> str:
        """Return the ARN of a new rule, with a target of the id "1" and these options where an ARN is given."""
        arn = self.events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))["RuleArn"]
        if target:
            self.events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "1", "Arn": target, **options}])
        return arn

    def put(self, detail: Any = None, *, source: str = "shop", bus: str = "default", **more: Any) -> dict[str, Any]:
        entry = {"Source": source, "DetailType": "Order", "Detail": json.dumps(detail or {"id": 1}), "EventBusName": bus, **more}
        return self.events.put_events(Entries=[entry])

    def messages(self, arn: str, count: int = 1) -> list[dict[str, Any]]:
        """Return the messages of a queue as soon as there are `count`."""
        url, found = self.sqs.get_queue_url(QueueName=arn.split(":")[-1])["QueueUrl"], []

        def all_there() -> bool:
            answer = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
            found.extend(answer.get("Messages", []))
            return len(found) >= count

        self.until(all_there)
        return found

    def waiting(self, arn: str) -> int:
        """Return how many messages a queue holds."""
        url = self.sqs.get_queue_url(QueueName=arn.split(":")[-1])["QueueUrl"]
        name = "ApproximateNumberOfMessages"
        return int(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def logged(self, group: str, count: int = 1, **options: Any) -> list[str]:
        """Return the texts in a log group as soon as there are `count`."""

        def texts() -> list[str]:
            try:
                return [one["message"] for one in self.logs.filter_log_events(logGroupName=group, **options)["events"]]
            except self.logs.exceptions.ResourceNotFoundException:
                return []

        self.until(lambda: len(texts()) >= count)
        return texts()


@pytest.fixture(scope="module")
def bus(account: Any, until: Callable[..., Any]) -> Events:
    return Events(account, until)


@pytest.fixture
def refusal() -> Callable[..., tuple[str, str]]:
    """Return the code and message with which AWS's client says that a request was refused."""

    def refused(action: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
        with pytest.raises(Exception) as caught:
            action(**arguments)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return refused
