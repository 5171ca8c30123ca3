"""The upgrade on every kind of group that people have, with an application that writes all the time."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)

# the kind of group, and the form in which its application finds the endpoint
CASES = [
    ("alone", "/sessions/redis/endpoint"),
    ("cluster", "/sessions/redis/endpoint"),
    ("tls", "secretsmanager:sessions/redis/endpoint"),
    ("cluster_tls", "/sessions/redis/endpoint"),
    ("users", "appconfig:sessions/production/redis#endpoint"),
    ("replica", "route53:ZSESSIONS1/redis.sessions.internal"),
]


@pytest.mark.parametrize(("kind", "setting"), CASES, ids=[kind + ("" if setting.startswith("/") else f" by {setting.split(':')[0]}") for kind, setting in CASES])
def test_an_upgrade_sends_what_was_planned_and_loses_no_acknowledged_write(build: Any, kind: str, setting: str) -> None:
    with build(rehearse_on=kind, parameter=setting) as house:
        options = ("-p", f"switch_parameter={setting}")
        planned = house.plan("r", *options)
        saved = ("--plan", str(house.runs / "r" / "plan.json")) if kind == "cluster_tls" else ()  # which is planned once more
        done = house.apply("r", *options, *saved)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        assert house.sent("r") == planned
        house.assert_moved("r")
        metrics = house.result("r")["metrics"]
        assert (metrics["acknowledged_writes_lost"], metrics["acknowledged_writes"] > 100, metrics["write_gap_ms"] > 0) == (0, True, True)


@pytest.mark.parametrize("kind", ["cluster_tls", "alone"])
def test_a_roll_back_after_the_switch_carries_everything_back(build: Any, kind: str) -> None:
    with build(rehearse_on=kind) as house:
        before = house.endpoint()
        stopped = house.apply("b", approve="switch")
        assert stopped.returncode == 3, stopped.stdout[-3000:] + stopped.stderr
        assert house.endpoint() != before
        back = house.runbook("rollback", "b", "--approve", "rollback")
        assert back.returncode == 0, back.stdout[-3000:] + back.stderr
        report = house.audited()
        assert (house.endpoint(), report["endpoint"], report["acknowledged_writes_lost"], report["sessions_missing"]) == (before, before, 0, 0)
        assert house.groups() == ([] if kind == "alone" else ["sessions"])


def test_no_secret_is_in_anything_that_a_run_leaves(build: Any) -> None:
    with build(rehearse_on="tls") as house:
        assert house.apply("s", approve="").returncode == 3
        token = house.client("secretsmanager").get_secret_value(SecretId="sessions/redis/auth")["SecretString"]
        left = [path for path in house.runs.rglob("*") if path.is_file() and token in path.read_text(errors="replace")]
        assert (len(token) >= 16, left) == (True, [])
