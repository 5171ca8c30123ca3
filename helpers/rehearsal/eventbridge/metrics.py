"""Count in CloudWatch, namespace AWS/Events, what became of events."""

from __future__ import annotations

import time
from typing import Any

NAMESPACE = "AWS/Events"


def count(rule: dict[str, Any], *names: str) -> None:
    """Add one to metrics of a rule; as on AWS, a metric that was never counted is not there.

    A rule of the default bus has the dimension RuleName, one of another bus EventBusName too.
    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
    """
    from ministack.services import cloudwatch

    dimensions = {"RuleName": rule["Name"]}
    if rule["EventBusName"] != "default":
        dimensions["EventBusName"] = rule["EventBusName"]
    for name in names:
        cloudwatch._store_datum(NAMESPACE, name, dimensions, time.time(), "Count", 1, None, None, None)
