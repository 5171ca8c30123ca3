"""Notifications: who is told what, and what happens when nobody can be told."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from helpers.aws.errors import RunbookError
from helpers.fleet import notify

TOPIC = "arn:aws:sns:eu-west-1:012345678901:operators"
BUS = "arn:aws:events:eu-west-1:012345678901:event-bus/default"
MESSAGE = notify.Message("f1", "failed", "apply", {"done": 3, "failed": 1}, 4, "1 failed, and 0 may")


@pytest.fixture
def server(monkeypatch):
    """What arrives at a webhook, or at an AWS endpoint that accepts all."""
    arrived: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            arrived.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            events = "AWSEvents" in self.headers.get("X-Amz-Target", "")
            body = b'{"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure"}]}' if events and len(arrived) > 1 else b'{"FailedEntryCount": 0, "Entries": []}' if events else b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{http.server_port}"
    for name, value in {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "SLACK_WEBHOOK_URL": f"{address}/services/T0/B0/secret"}.items():
        monkeypatch.setenv(name, value)
    yield arrived
    http.shutdown()
    http.server_close()


def test_a_plan_with_changes_waits_and_the_rest_ended_or_failed():
    told = {(mode, code): notify.event_of(mode, code) for mode in ("plan", "apply") for code in (0, 1, 2, 3, 4, 5)}
    assert told["plan", 2] == told["apply", 3] == "waits for approval" and told["plan", 0] == told["apply", 0] == "ended"
    assert {told[one] for one in (("plan", 4), ("apply", 1), ("apply", 5))} == {"failed"}


def test_a_topic_a_bus_and_a_channel_are_told_in_their_forms(server):
    assert notify.tell([BUS, TOPIC, "slack"], MESSAGE) == []
    (_, bus), (_, topic), (path, slack) = server
    sentence = "Fleet f1 failed: 3 done, 1 failed (mode apply, exit code 4); stopped: 1 failed, and 0 may."
    assert json.loads(json.loads(bus)["Entries"][0]["Detail"])["counts"] == {"done": 3, "failed": 1}
    assert "Action=Publish" in topic and "Fleet+f1+failed" in topic
    assert path == "/services/T0/B0/secret" and json.loads(slack) == {"text": sentence}


def test_who_cannot_be_told_is_named_and_the_secret_address_is_not(server, monkeypatch):
    assert notify.tell([BUS], MESSAGE) == []
    assert notify.tell([BUS], MESSAGE) == ["event-bus/default could not be told: PutEvents was refused with InternalFailure."]
    monkeypatch.setenv("SLACK_WEBHOOK_URL", "https://127.0.0.1:1/services/T0/B0/secret")
    (fault,) = notify.tell(["slack"], MESSAGE)
    assert fault.startswith("slack could not be told:") and "secret" not in fault


def test_a_place_that_is_none_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.delenv("SLACK_WEBHOOK_URL", raising=False)
    for place, sentence in (("slack", "SLACK_WEBHOOK_URL"), ("https://hooks.slack.com/services/T0/B0/secret", "not on the command line"), ("arn:aws:sqs:eu-west-1:012345678901:q", "SNS topic")):
        with pytest.raises(RunbookError, match=sentence) as told:
            notify.checked([place])
        assert "secret" not in str(told.value)
    assert notify.checked([TOPIC, BUS]) == (TOPIC, BUS)


def test_a_single_run_tells_when_it_waits_fails_or_ends_and_shows_no_error(tiny, runbook, server, monkeypatch):
    monkeypatch.setattr("helpers.runbook.parameters.names", lambda: {"tiny": tiny})  # as if it were in runbooks/
    run = ("run", tiny, "-p", "name=a", "--notify", TOPIC)
    assert runbook(*run, "--mode", "plan", "--run-id", "r1").code == 2
    assert "Subject=Run+r1+of+tiny+waits+for+approval&" in server[-1][1] and "planned+%28mode+plan%2C+exit+code+2%29" in server[-1][1]
    tiny.with_name("broken-a").write_text("The password hunter2 is wrong.")
    assert runbook(*run, "--mode", "apply", "--run-id", "r2").code == 1
    assert "Run+r2+of+tiny+failed" in server[-1][1] and "hunter2" not in server[-1][1]
    tiny.with_name("broken-a").unlink()
    assert runbook("resume", "r2", "--notify", "slack").code == 1  # its webhook is not https here: refused before anything runs
    assert runbook("resume", "r2", "--notify", TOPIC).code == 0
    assert "Run+r2+of+tiny+ended" in server[-1][1] and len(server) == 3


def test_a_fleet_that_waits_and_one_that_is_gone_on_with_tell_too(tiny, fleet_file, runbook, server):
    tiny.with_name("broken-b").write_text("It broke.")
    assert runbook("fleet", fleet_file("a", "b", "c"), "--mode", "plan", "--run-id", "f1", "--max-errors", "0", "--max-concurrency", "1").code == 4
    tiny.with_name("broken-b").unlink()
    assert runbook("resume", "f1", "--notify", TOPIC).code == 4 and "Fleet+f1+failed" in server[-1][1]
    assert runbook("fleet", "--retry-failed", "f1").code == 2
    assert runbook("fleet", "--plan", "f1", "--notify", TOPIC).code == 3
    assert "Fleet+f1+waits+for+approval" in server[-1][1] and len(server) == 2
