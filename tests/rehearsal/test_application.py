"""The rehearsal's application as its own process, against real servers and the local cloud's SSM and S3."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.rehearsal import engines, scenario
from helpers.rehearsal.application import READ_ONLY_PARAMETER
from helpers.rehearsal.cloud import Cloud
from helpers.rehearsal.scenario import Access
from helpers.rehearsal.servers import Server
from tests.rehearsal.running import SESSIONS, Running

Until = Callable[..., Any]


@pytest.fixture
def application(cloud: Cloud, tmp_path: Path, until: Until) -> Iterator[Running]:
    running = Running(Access(cloud.environment()), tmp_path, until)
    yield running
    running.close()


def test_a_run_with_errors_but_without_loss_reports_none(application: Running) -> None:
    admin = application.server.admin()
    admin.client_kill_filter(_type="normal", skipme=True)
    admin.config_set("min-replicas-to-write", 1)
    refused = application.wait(lambda report: report["unacknowledged_writes"] > 3)
    admin.config_set("min-replicas-to-write", 0)
    application.wait(lambda report: report["acknowledged_writes"] > refused["acknowledged_writes"] + 200)
    left = application.end()
    assert any("NOREPLICAS" in text for text in left["errors"])
    assert (left["acknowledged_writes_lost"], left["stale_reads"], left["sessions_missing"]) == (0, 0, 0)
    assert left["sessions"] == SESSIONS
    assert left["reads"] > 20
    assert left["audited_endpoint"] == left["endpoint"] == f"127.0.0.1:{application.server.port}"


def test_a_pause_of_writes_is_measured(application: Running) -> None:
    application.server.client().execute_command("CLIENT", "PAUSE", 300, "WRITE")
    report = application.wait(lambda report: report["longest_write_gap_ms"] >= 290)
    assert report["write_gap_ms"] <= 450
    assert abs(report["gap_started"] - time.time() * 1000) < 10_000
    report = application.audited()
    assert report["longest_read_gap_ms"] < 290, "reads go on while writes are paused"
    inside = [n for at, n in report["timeline"] if report["gap_started"] + 10 <= at < report["gap_started"] + 280]
    assert len(inside) >= 25
    assert sum(inside) == 0
    assert sum(n for _, n in report["timeline"]) > 200
    assert (report["unacknowledged_writes"], report["acknowledged_writes_lost"]) == (0, 0)


def test_it_makes_no_write_before_the_read_only_time_is_over(application: Running) -> None:
    application.read_only_for(2.0)
    frozen = application.wait(lambda report: report["read_only"])
    offset = application.server.client().info("stats")["total_commands_processed"]
    written = application.server.client().info("commandstats")["cmdstat_hset"]["calls"]
    application.audited()
    assert application.server.client().info("commandstats")["cmdstat_hset"]["calls"] == written
    assert application.server.client().info("stats")["total_commands_processed"] > offset, "it goes on reading"
    report = application.wait(lambda report: report["acknowledged_writes"] > frozen["acknowledged_writes"])
    assert not report["read_only"]
    assert 1_500 < report["longest_write_gap_ms"] < 2_600
    assert report["acknowledged_writes_lost"] == 0


def test_it_moves_with_the_parameter_even_while_writes_are_paused(application: Running) -> None:
    """The careful switch: writes are frozen, the replica has everything, the parameter changes."""
    new = Server(engines.pair()[1], application.directory / "replica", replica_of=application.server)
    application.servers.append(new)
    application.until(lambda: new.client().info("replication")["master_link_status"] == "up")
    application.server.client().execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
    application.until(lambda: any("b" in one["flags"] for one in application.server.client().client_list()))  # a write is held back
    application.until(lambda: _in_step(application.server, new))
    new.admin().replicaof("no", "one")
    application.point_at(new)
    report = application.wait(lambda report: len(report["endpoints"]) == 2 and report["audits"])
    report = application.audited()
    assert report["audited_endpoint"] == report["endpoint"] == f"127.0.0.1:{new.port}"
    assert report["acknowledged_writes_lost"] == 0
    assert report["unacknowledged_writes"] == 1, "the write that was held back when the endpoint changed"
    assert report["errors"] == {"given up: the endpoint changed": 1}
    change = report["endpoints"][1]
    assert report["write_gap_ms"] == change["write_gap_ms"] < 2_000
    assert 0 <= change["first_acknowledged_write"] - change["since"] < 1_000


def _in_step(primary: Server, replica: Server) -> bool:
    wanted = primary.client().info("replication")["master_repl_offset"]
    return replica.client().info("replication")["slave_repl_offset"] == wanted


def test_the_classic_procedure_loses_what_was_written_after_the_backup(application: Running) -> None:
    before = application.wait(lambda report: report["acknowledged_writes"] > 400)
    application.server.admin().save()
    backup = Path(shutil.copyfile(application.server.rdb_path, application.directory / "backup.rdb"))
    application.wait(lambda report: report["acknowledged_writes"] > before["acknowledged_writes"] + 500)
    application.read_only_for(1.5)
    frozen = application.wait(lambda report: report["read_only"])
    application.point_at(application.another(rdb=backup))
    application.wait(lambda report: len(report["endpoints"]) == 2)
    first = application.audited()
    lost = first["acknowledged_writes_lost"]
    assert 400 < lost <= frozen["acknowledged_writes"] - before["acknowledged_writes"]
    assert first["sessions_missing"] > 0
    assert len(first["lost_keys"]) == 20
    # What the next writes hide stays counted, and nothing is counted twice.
    left = application.wait(lambda report: report["acknowledged_writes"] > frozen["acknowledged_writes"] + 400)
    assert left["acknowledged_writes_lost"] == lost
    assert application.end()["acknowledged_writes_lost"] == lost


def test_an_empty_server_means_that_everyone_is_logged_out(application: Running) -> None:
    application.read_only_for(30)
    frozen = application.wait(lambda report: report["read_only"])
    application.point_at(application.another())
    application.wait(lambda report: len(report["endpoints"]) == 2)
    report = application.audited()
    assert report["sessions_missing"] == SESSIONS
    # All but those of users who have logged out, whose sessions are rightly missing.
    assert 0.8 * frozen["acknowledged_writes"] < report["acknowledged_writes_lost"] <= frozen["acknowledged_writes"]


def test_a_second_application_of_the_same_directory_does_not_start(cloud: Cloud, tmp_path: Path, until: Until) -> None:
    access = Access(cloud.environment())
    pid = scenario.start_application(cloud.environment(), tmp_path, parameter="/nobody/endpoint")
    try:
        assert scenario.start_application(cloud.environment(), tmp_path, parameter="/nobody/endpoint") == pid
        until(lambda: (tmp_path / scenario.LOCK_FILE).exists() and (tmp_path / scenario.LOCK_FILE).read_text())
        command = [sys.executable, "-m", "helpers.rehearsal.application", "--bucket", "b", "--lock"]
        environment = scenario.application_environment(access.variables)
        second = subprocess.run([*command, str(tmp_path / scenario.LOCK_FILE)], env=environment, capture_output=True, timeout=60)
        assert second.returncode == 3
        assert scenario.application_pid(tmp_path) == pid
    finally:
        assert scenario.stop_application(tmp_path)
    assert scenario.application_pid(tmp_path) is None
    assert not scenario.stop_application(tmp_path)


def test_it_ends_when_its_cloud_is_gone(cloud: Cloud, tmp_path: Path) -> None:
    environment = {**cloud.environment(), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "helpers.rehearsal.application", "--bucket", "b", "--unreachable", "0.5"]
    ended = subprocess.run(command, env=scenario.application_environment(environment), capture_output=True, timeout=60)
    assert ended.returncode == 0
    assert b"unreachable" in ended.stderr


def test_it_leaves_its_report_when_it_is_interrupted(application: Running) -> None:
    application.process.send_signal(signal.SIGINT)
    assert application.process.wait(10) == 0
    left = json.loads(application.ledger.read_text())
    assert left["acknowledged_writes"] >= SESSIONS
    assert left == application.report()
    assert left["write_gap_ms"] == left["longest_write_gap_ms"], "its end is no gap"
    # Gaps of a few milliseconds are none, and there may have been no longer one.
    assert [size for _, size in left["gaps"]][:1] in ([], [left["longest_write_gap_ms"]])


def test_the_parameter_of_the_read_only_time_is_the_runbooks() -> None:
    assert READ_ONLY_PARAMETER == "/sessions/redis/read-only-until"
