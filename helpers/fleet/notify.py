"""Tell somebody that a run or a fleet waits for approval, failed or ended: an SNS topic, an EventBridge bus, a Slack channel.

A message says how many and how, and where to look; no error texts, parameters or codes, so that no secret can be in one.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import boto3

from helpers.aws.errors import RunbookError, explain
from helpers.aws.session import RETRIES
from helpers.runbook.redact import redact

TOPIC = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):[0-9]{12}:[\w-]+(?:\.fifo)?")
BUS = re.compile(r"arn:aws[a-z-]*:events:([a-z0-9-]+):[0-9]{12}:event-bus/[\w./-]+")
SLACK, VARIABLE = "slack", "SLACK_WEBHOOK_URL"
SOURCE = "custom.runbooks"
TIMEOUT_S = 10


@dataclass(frozen=True)
class Message:
    """What is told: `event` is `waits for approval`, `failed` or `ended`; `counts` are runs by status, of one run its own. `runbook` is empty for a fleet."""

    run: str
    event: str
    mode: str
    counts: dict[str, int]
    exit_code: int
    stopped: str = ""
    runbook: str = ""

    @property
    def subject(self) -> str:
        """Who it is about, and what happened."""
        return f"Run {self.run} of {self.runbook} {self.event}" if self.runbook else f"Fleet {self.run} {self.event}"

    @property
    def sentence(self) -> str:
        """The message in words."""
        told = ", ".join(status if self.runbook else f"{count} {status}" for status, count in self.counts.items())
        return f"{self.subject}: {told} (mode {self.mode}, exit code {self.exit_code}){f'; stopped: {self.stopped}' if self.stopped else ''}."


def event_of(mode: str, exit_code: int) -> str:
    """What an exit code means to somebody who waits: a plan that has changes waits for approval."""
    if exit_code == 0:
        return "ended"
    return "waits for approval" if exit_code == 3 or mode == "plan" and exit_code == 2 else "failed"


def checked(places: Iterable[str]) -> tuple[str, ...]:
    """The places, where each can be told. Raises `RunbookError` for one that is none; a webhook's address is a secret and comes from the environment."""
    places = tuple(places)
    for place in places:
        if place == SLACK:
            if not os.environ.get(VARIABLE, "").startswith("https://"):
                raise RunbookError(f"--notify slack needs the webhook's address in the variable {VARIABLE}.", "Set it to the https:// address that Slack has given.")
        elif not TOPIC.fullmatch(place) and not BUS.fullmatch(place):
            raise RunbookError("--notify takes the ARN of an SNS topic or of an event bus, or slack.", f"Write a webhook's address into {VARIABLE}, not on the command line.")
    return places


def announce(places: Iterable[str], message: Message) -> None:
    """`tell`, and a line on stderr for each place that could not be told."""
    for fault in tell(places, message):
        print(f"runbook: {fault}", file=sys.stderr)


def tell(places: Iterable[str], message: Message) -> list[str]:
    """Send the message everywhere; returns a sentence for each place that could not be told, because nothing fails for that."""
    faults = []
    for place in places:
        try:
            _send(place, message)
        except Exception as error:
            faults.append(f"{place.rpartition(':')[2]} could not be told: {redact(_plain(error))}")
    return faults


def _send(place: str, message: Message) -> None:
    if place == SLACK:
        return _post(os.environ[VARIABLE], {"text": redact(message.sentence)})
    topic, bus = TOPIC.fullmatch(place), BUS.fullmatch(place)
    if topic:  # https://docs.aws.amazon.com/sns/latest/api/API_Publish.html: a subject has fewer than 100 characters
        client = boto3.client("sns", region_name=topic[1], config=RETRIES)
        client.publish(TopicArn=place, Subject=message.subject[:99], Message=redact(message.sentence))
    elif bus:
        entry = {"Source": SOURCE, "DetailType": "Runbook run" if message.runbook else "Runbook fleet", "Detail": redact(json.dumps(asdict(message))), "EventBusName": place}
        answer = boto3.client("events", region_name=bus[1], config=RETRIES).put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise RunbookError(f"PutEvents was refused with {answer['Entries'][0].get('ErrorCode')}.")
    return None


def _post(address: str, body: dict[str, Any]) -> None:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks"""
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):
        pass


def _plain(error: Exception) -> str:
    """The error in words, without the address of a webhook, which may be in it."""
    text = str(explain(error))
    return text.replace(os.environ.get(VARIABLE) or "\0", "the webhook")
