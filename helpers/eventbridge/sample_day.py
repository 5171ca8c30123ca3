"""A made-up day of events, always the same: for the replay notebook and for trying patterns without an account."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

DAY = datetime(2026, 11, 2, tzinfo=UTC)
BREAKS = 14 * 60, 14 * 60 + 50  # minutes of the day between which most deployments to main fail
_APPS = ("d1a2shop", "d3c4blog", "d5e6admin", "d7f8docs")
_BRANCHES = ("main", "main", "develop", "feature/login", "release/1.2")


def lines(count: int = 20_000, seed: int = 7) -> list[bytes]:
    """`count` events as JSON lines, by time: Amplify deployments, EC2 state changes, S3 objects; busier in working hours."""
    pick = random.Random(seed)
    minutes = sorted(pick.choices(range(1440), [1.0 + 4.0 * (480 <= minute < 1140) for minute in range(1440)], k=count))
    return [json.dumps(_event(pick, minute), separators=(",", ":")).encode() for minute in minutes]


def _event(pick: random.Random, minute: int) -> dict[str, object]:
    when = DAY + timedelta(minutes=minute, seconds=pick.randrange(60))
    source, kind, detail = pick.choices([_amplify, _ec2, _s3], [5, 2, 3])[0](pick, minute)
    return {
        "version": "0",
        "id": f"{pick.getrandbits(64):016x}",
        "detail-type": kind,
        "source": source,
        "account": "123456789012",
        "time": f"{when:%Y-%m-%dT%H:%M:%SZ}",
        "region": pick.choice(["eu-west-1", "us-east-1"]),
        "resources": [],
        "detail": detail,
    }


def _amplify(pick: random.Random, minute: int) -> tuple[str, str, dict[str, object]]:
    branch = pick.choice(_BRANCHES)
    failing = 0.8 if branch == "main" and BREAKS[0] <= minute < BREAKS[1] else 0.05
    status = pick.choice(["STARTED", "FAILED" if pick.random() < failing else "SUCCEED"])
    detail = {"appId": pick.choice(_APPS), "branchName": branch, "jobId": str(pick.randrange(1, 999)), "jobStatus": status}
    return "aws.amplify", "Amplify Deployment Status Change", detail


def _ec2(pick: random.Random, minute: int) -> tuple[str, str, dict[str, object]]:
    return "aws.ec2", "EC2 Instance State-change Notification", {"instance-id": f"i-{pick.getrandbits(68):017x}", "state": pick.choice(["running", "stopped"])}


def _s3(pick: random.Random, minute: int) -> tuple[str, str, dict[str, object]]:
    return "aws.s3", "Object Created", {"bucket": {"name": pick.choice(["uploads", "logs"])}, "object": {"key": f"{pick.randrange(10**6)}.csv", "size": pick.randrange(1, 10**7)}}
