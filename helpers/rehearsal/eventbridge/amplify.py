"""A small Amplify: apps whose deployments are asked for, or happen by themselves, and emit events."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

from helpers.rehearsal.cloud import ACCOUNT, REGION
from helpers.rehearsal.eventbridge import entries
from helpers.rehearsal.stricter import Answer, refuse, reply

APPS = ("foo", "bar", "baz")
BRANCHES = ("main", "feature-1", "broken")
DETAIL_TYPE = "Amplify Deployment Status Change"
# How long a deployment stays in each status.
STEP_S = 0.3
JOBS = re.compile(r"/apps/([^/]+)/branches/([^/]+)/jobs(?:/([^/]+))?")
APP = re.compile(r"/apps/([^/]+)/branches")


def event_of(app: str, branch: str, job: str, status: str) -> dict[str, Any]:
    """Return the event that Amplify emits when a deployment gets a status (without id, time and account).

    Source: https://docs.aws.amazon.com/amplify/latest/userguide/monitoring-with-eventbridge.html
    """
    return {
        "source": "aws.amplify",
        "detail-type": DETAIL_TYPE,
        "region": REGION,
        "resources": [f"arn:aws:amplify:{REGION}:{ACCOUNT}:apps/{app}/branches/{branch}/jobs/{job}"],
        "detail": {"appId": app, "branchName": branch, "jobId": job, "jobStatus": status},
    }


class Amplify:
    """The service: its jobs, and how often it deploys by itself."""

    def __init__(self) -> None:
        self.every_s = 0.0
        self._jobs: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._running: set[asyncio.Task[None]] = set()

    async def handle(self, method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        """Answer ListApps, ListBranches, StartJob and GetJob; refuse the rest."""
        if jobs := JOBS.fullmatch(path):
            app, branch, job = jobs.groups()
            if app not in APPS or branch not in BRANCHES:
                return refuse("NotFoundException", f"There is no branch {branch} of an app {app}.", 404)
            if method == "POST" and job is None:
                return reply({"jobSummary": self.start(app, branch)})
            if method == "GET" and (app, branch, job) in self._jobs:
                return reply({"job": {"summary": self._jobs[app, branch, job], "steps": []}})
            if method == "GET" and job:
                return refuse("NotFoundException", f"There is no job {job} of the branch {branch} of {app}.", 404)
        if method == "GET" and path == "/apps":
            return reply({"apps": [_app(name) for name in APPS]})
        if method == "GET" and (found := APP.fullmatch(path)):
            return reply({"branches": [_branch(found[1], name) for name in BRANCHES]})
        return refuse("BadRequestException", "The local cloud's Amplify knows ListApps, ListBranches, StartJob and GetJob.", 400)

    def start(self, app: str, branch: str) -> dict[str, Any]:
        """Start a deployment and return its summary; one of a branch called broken... fails."""
        job = str(next(self._numbers))
        summary = {
            "jobArn": f"arn:aws:amplify:{REGION}:{ACCOUNT}:apps/{app}/branches/{branch}/jobs/{job}",
            "jobId": job,
            "commitId": "HEAD",
            "commitMessage": "A rehearsal",
            "commitTime": int(time.time()),
            "startTime": int(time.time()),
            "status": "PENDING",
            "jobType": "RELEASE",
        }
        self._jobs[app, branch, job] = summary
        task = asyncio.get_running_loop().create_task(self._deploy(app, branch, summary))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return dict(summary)

    async def _deploy(self, app: str, branch: str, summary: dict[str, Any]) -> None:
        for status in ("STARTED", "RUNNING", "FAILED" if branch.startswith("broken") else "SUCCEED"):
            # The API has no STARTED: a job that has started is RUNNING there.
            summary["status"] = "RUNNING" if status == "STARTED" else status
            entries.emit([event_of(app, branch, summary["jobId"], status)])
            await asyncio.sleep(STEP_S)
        summary["endTime"] = int(time.time())

    async def deploy_by_itself(self) -> None:
        """Start a deployment every `every_s` seconds, of each app in turn, for ever; 0 for none."""
        for app, branch in _turns():
            waited = 0.0
            while not self.every_s or waited < self.every_s:
                await asyncio.sleep(1)
                waited += 1
            self.start(app, branch)


def _turns() -> Iterator[tuple[str, str]]:
    return itertools.cycle((app, branch) for branch in BRANCHES for app in APPS)


def _app(name: str) -> dict[str, Any]:
    arn = f"arn:aws:amplify:{REGION}:{ACCOUNT}:apps/{name}"
    domain = f"{name}.amplifyapp.com"
    named = {"appId": name, "appArn": arn, "name": name, "description": "", "repository": "", "defaultDomain": domain}
    made = {"createTime": 0, "updateTime": 0, "environmentVariables": {}, "enableBranchAutoBuild": True, "enableBasicAuth": False}
    return {**named, **made, "platform": "WEB"}


def _branch(app: str, name: str) -> dict[str, Any]:
    return {"branchArn": f"arn:aws:amplify:{REGION}:{ACCOUNT}:apps/{app}/branches/{name}", "branchName": name}
