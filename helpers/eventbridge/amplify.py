"""The Amplify example: the events that two apps' deployments emit, a success and a failure each."""

from __future__ import annotations

import json

APPS = ("foo", "bar")
STATUSES = ("SUCCEED", "FAILED")


def deployment_events(account: str, region: str) -> list[str]:
    """Events as JSON text, four of them.

    Source: https://docs.aws.amazon.com/amplify/latest/userguide/monitoring-with-eventbridge.html
    """
    return [
        _event(account, region, app, status, number)
        for number, (app, status) in enumerate(((app, status) for app in APPS for status in STATUSES), 1)
    ]


def _event(account: str, region: str, app: str, status: str, number: int) -> str:
    detail = {"appId": app, "branchName": "main", "jobId": str(number), "jobStatus": status}
    about = [f"arn:aws:amplify:{region}:{account}:apps/{app}/branches/main"]
    event = {
        "version": "0",
        "id": f"00000000-0000-4000-8000-{number:012}",
        "detail-type": "Amplify Deployment Status Change",
        "source": "aws.amplify",
    }
    return json.dumps(
        {
            **event,
            "account": account,
            "time": "2026-11-24T00:00:00Z",
            "region": region,
            "resources": about,
            "detail": detail,
        }
    )
