"""What debugging runs made and left behind: found by name and tags, removed, and proven gone by listing again.

Everything is named `runbook-debug-...` and tagged with the run's id and an expiry when it is created, so that a run that
was killed at any moment leaves nothing that cannot be found.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.aws import Aws, planning, wait
from helpers.aws.errors import is_not_found
from helpers.eventbridge.rules import DEFAULT_BUS
from helpers.eventbridge.sinks import ROLE_PATH, arn_of

PREFIX = "runbook-debug-"
LONGEST = 64  # characters: a rule's, a role's and a function's name
ORDER = ("rule", "function", "role", "queue", "log group")  # as they are removed: nothing writes to what is gone
TARGET = "debug"
GONE_TIMEOUT = 90.0  # seconds; a deleted queue is listed for up to 60


@dataclass(frozen=True)
class Leftover:
    """One thing of a debugging run: its kind (see ORDER), name, bus of a rule, the run's id and the expiry of its tags."""

    kind: str
    name: str
    bus: str = ""
    run_id: str = ""
    expires: str = ""

    @property
    def is_expired(self) -> bool:
        """True where the expiry is past; a thing without one was not made by a runbook."""
        return bool(self.expires) and self.expires < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def debug_name(run_id: str) -> str:
    """The name of everything that a run makes, such as runbook-debug-20261124-031500-1a2b; where the run id does not fit, it is cut and hashed."""
    name = PREFIX + re.sub(r"[^A-Za-z0-9_-]", "-", run_id)
    if name == PREFIX + run_id and len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def find_leftovers(aws: Aws, prefix: str = PREFIX) -> list[Leftover]:
    """Everything of debugging runs whose name begins with `prefix` in the session's region, in the order it is removed."""
    found = [
        *_rules(aws, prefix),
        *_functions(aws, prefix),
        *_roles(aws, prefix),
        *_queues(aws, prefix),
        *_log_groups(aws, prefix),
    ]
    return sorted(found, key=lambda one: (ORDER.index(one.kind), one.name))


def leftovers_table(found: Iterable[Leftover]) -> pd.DataFrame:
    """Leftovers as a table: kind, name, run, expiry."""
    return pd.DataFrame(
        [(one.kind, one.name, one.run_id, one.expires) for one in found], columns=["kind", "name", "run", "expires"]
    )


def of_run(aws: Aws, run_id: str) -> list[Leftover]:
    """Everything that one run made."""
    name = debug_name(run_id)
    return [one for one in find_leftovers(aws, name) if one.name.rpartition("/")[2] == name]


def left_behind(aws: Aws, run_id: str = "") -> list[Leftover]:
    """What one run made, expired or not; without a run, what is past its expiry, of any run."""
    return of_run(aws, run_id) if run_id else [one for one in find_leftovers(aws) if one.is_expired]


def remove_all(aws: Aws, found: Iterable[Leftover]) -> None:
    """Remove things and wait until a listing has none of them. Raises `WaitFailed`."""
    found = list(found)
    for one in found:
        _remove(aws, one)
    if found and not planning():
        names = {(one.kind, one.name) for one in found}
        wait(
            f"{len(found)} things removed",
            lambda: _still_listed(aws, names) or "gone",
            until=("gone",),
            timeout=GONE_TIMEOUT,
        )


def _still_listed(aws: Aws, names: set[tuple[str, str]]) -> str:
    return ", ".join(f"{one.kind} {one.name}" for one in find_leftovers(aws) if (one.kind, one.name) in names)


def _remove(aws: Aws, one: Leftover) -> None:
    """Remove one thing; what is gone already stays gone."""
    for delete in _DELETES[one.kind](aws, one):
        try:
            delete()
        except Exception as error:
            if not is_not_found(error):
                raise


def _delete_rule(aws: Aws, one: Leftover) -> list[Any]:
    events = aws.client("events")
    return [
        lambda: events.remove_targets(Rule=one.name, EventBusName=one.bus, Ids=[TARGET]),
        lambda: events.delete_rule(Name=one.name, EventBusName=one.bus),
    ]


def _delete_role(aws: Aws, one: Leftover) -> list[Any]:
    iam = aws.client("iam")
    return [
        lambda: iam.delete_role_policy(RoleName=one.name, PolicyName=one.name),
        lambda: iam.delete_role(RoleName=one.name),
    ]


def _delete_queue(aws: Aws, one: Leftover) -> list[Any]:
    sqs = aws.client("sqs")
    return [lambda: sqs.delete_queue(QueueUrl=f"{sqs.meta.endpoint_url}/{aws.account}/{one.name}")]


_DELETES = {
    "rule": _delete_rule,
    "function": lambda aws, one: [lambda: aws.client("lambda").delete_function(FunctionName=one.name)],
    "role": _delete_role,
    "queue": _delete_queue,
    # its resource policy goes with it
    "log group": lambda aws, one: [lambda: aws.client("logs").delete_log_group(logGroupName=one.name)],
}


def _rules(aws: Aws, prefix: str) -> list[Leftover]:
    events, found = aws.client("events"), []
    for bus in _buses(events):
        for page in events.get_paginator("list_rules").paginate(EventBusName=bus, NamePrefix=prefix):
            for one in page["Rules"]:
                tags = events.list_tags_for_resource(ResourceARN=one["Arn"])["Tags"]
                found.append(_leftover("rule", one["Name"], {tag["Key"]: tag["Value"] for tag in tags}, bus))
    return found


def _buses(events: Any) -> list[str]:
    """All event buses of the region; ListEventBuses has no paginator."""
    names, token = [], {}
    while True:
        page = events.list_event_buses(**token)
        names += [one["Name"] for one in page["EventBuses"]]
        if not page.get("NextToken"):
            return names or [DEFAULT_BUS]
        token = {"NextToken": page["NextToken"]}


def _functions(aws: Aws, prefix: str) -> list[Leftover]:
    functions = aws.client("lambda")
    names = [
        one["FunctionName"]
        for page in functions.get_paginator("list_functions").paginate()
        for one in page["Functions"]
    ]
    return [
        _leftover("function", name, functions.list_tags(Resource=arn_of(aws, "lambda", f"function:{name}"))["Tags"])
        for name in names
        if name.startswith(prefix)
    ]


def _roles(aws: Aws, prefix: str) -> list[Leftover]:
    iam = aws.client("iam")
    names = [
        one["RoleName"]
        for page in iam.get_paginator("list_roles").paginate(PathPrefix=ROLE_PATH)
        for one in page["Roles"]
    ]
    return [
        _leftover("role", name, {tag["Key"]: tag["Value"] for tag in iam.list_role_tags(RoleName=name)["Tags"]})
        for name in names
        if name.startswith(prefix)
    ]


def _queues(aws: Aws, prefix: str) -> list[Leftover]:
    sqs, found = aws.client("sqs"), []
    for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix):
        for url in page.get("QueueUrls", []):
            try:
                found.append(
                    _leftover("queue", url.rpartition("/")[2], sqs.list_queue_tags(QueueUrl=url).get("Tags", {}))
                )
            except Exception as error:  # a deleted queue stays listed for up to 60 s
                if not is_not_found(error):
                    raise
    return found


def _log_groups(aws: Aws, prefix: str) -> list[Leftover]:
    logs, found = aws.client("logs"), []
    for folder in ("/aws/lambda/", "/aws/events/"):
        for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=folder + prefix):
            for one in page["logGroups"]:
                tags = logs.list_tags_for_resource(resourceArn=one["arn"].removesuffix(":*"))["tags"]
                found.append(_leftover("log group", one["logGroupName"], tags))
    return found


def _leftover(kind: str, name: str, tags: dict[str, str], bus: str = "") -> Leftover:
    return Leftover(kind, name, bus, tags.get("runbook-run", ""), tags.get("runbook-expires", ""))
