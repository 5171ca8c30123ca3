"""The cloud is a process of its own: found again, shared, on the loopback only, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from helpers.rehearsal import cloud as clouds
from helpers.rehearsal.cloud import Cloud, CloudFailed

ROOT = Path(__file__).resolve().parents[2]


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def processes(cloud: Cloud) -> list[int]:
    status = cloud.status()
    nodes = [node["pid"] for group in status["groups"].values() for node in group["nodes"].values()]
    return [status["pid"], status["relay_pid"], *nodes]


def with_a_group(cloud: Cloud, until: Callable[..., Any]) -> Cloud:
    client = boto3.client(
        "elasticache",
        region_name=cloud.region,
        endpoint_url=cloud.endpoint,
        aws_access_key_id="rehearsal",
        aws_secret_access_key="rehearsal",
    )
    client.create_replication_group(
        ReplicationGroupId="sessions",
        ReplicationGroupDescription="a test",
        NumCacheClusters=2,
        Engine="redis",
        EngineVersion="6.2",
    )
    until(lambda: cloud.status()["groups"]["sessions"]["status"] == "available")
    return cloud


def test_a_cloud_and_all_its_processes_are_gone_after_down(tmp_path: Path, until: Callable[..., Any]) -> None:
    cloud = with_a_group(clouds.up(tmp_path), until)
    running = processes(cloud)
    assert len(running) == 4 and all(map(is_running, running))
    assert clouds.down(tmp_path)
    until(lambda: not any(map(is_running, running)), timeout_s=5)
    assert clouds.attach(tmp_path) is None
    assert clouds.status(tmp_path) == {"running": False}
    assert not (tmp_path / "cloud.json").exists()
    assert not clouds.down(tmp_path)


def test_servers_and_relay_end_when_the_cloud_is_killed_and_a_new_one_starts(
    tmp_path: Path, until: Callable[..., Any]
) -> None:
    cloud = with_a_group(clouds.up(tmp_path), until)
    running = processes(cloud)
    os.kill(cloud.pid, signal.SIGKILL)
    until(lambda: not any(map(is_running, running)), timeout_s=5)
    assert clouds.attach(tmp_path) is None
    assert clouds.up(tmp_path).pid != cloud.pid
    assert clouds.down(tmp_path)


def test_a_cloud_outlives_the_process_that_started_it_and_is_found_again(tmp_path: Path) -> None:
    script = (
        "import sys, os, signal; from helpers.rehearsal import cloud;"
        "print(cloud.up(sys.argv[1]).pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    found = clouds.attach(tmp_path)
    assert found is not None and found.pid == int(done.stdout)
    assert clouds.up(tmp_path) == found
    assert clouds.down(tmp_path)


def test_two_callers_at_once_share_one_cloud(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: clouds.up(tmp_path), range(2))
    assert first == second
    clouds.down(tmp_path)


def test_a_cloud_ends_by_itself_when_its_time_is_over(tmp_path: Path, until: Callable[..., Any]) -> None:
    cloud = clouds.up(tmp_path, max_hours=1 / 3600)
    until(lambda: not is_running(cloud.pid), timeout_s=10)


def test_a_cloud_without_its_relay_ends_instead_of_pretending(tmp_path: Path, until: Callable[..., Any]) -> None:
    cloud = clouds.up(tmp_path)
    os.kill(cloud.status()["relay_pid"], signal.SIGKILL)
    until(lambda: not is_running(cloud.pid), timeout_s=10)


def test_the_facts_file_is_private_and_says_where_the_cloud_is(cloud: Cloud) -> None:
    path = cloud.directory / "cloud.json"
    assert path.stat().st_mode & 0o077 == 0
    facts = json.loads(path.read_text())
    assert facts["endpoint"] == cloud.endpoint
    assert facts["region"] == "ap-northeast-1" and facts["account"] == "123456789012"


def test_nothing_of_the_cloud_listens_beyond_the_loopback(account: Any) -> None:
    group = account.create("inner")["NodeGroups"][0]
    endpoints = [group["PrimaryEndpoint"], group["ReaderEndpoint"], group["NodeGroupMembers"][0]["ReadEndpoint"]]
    ports = [int(account.cloud.endpoint.rsplit(":", 1)[1]), *(endpoint["Port"] for endpoint in endpoints)]
    outside = outer_address()
    for port in ports:
        socket.create_connection(("127.0.0.1", port), 2).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((outside, port), 2)


def outer_address() -> str:
    """Return an address of this machine that is not the loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has the loopback only")
        address = str(probe.getsockname()[0])
    return pytest.skip("this machine has the loopback only") if address.startswith("127.") else address


def test_the_environment_leads_an_sdk_to_the_cloud_and_away_from_profiles(cloud: Cloud) -> None:
    script = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**kept, **cloud.environment()}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "123456789012", done.stderr
    assert all(name.startswith("AWS_") or name == "SSL_CERT_FILE" for name in cloud.environment())


def test_a_control_request_needs_the_token(cloud: Cloud) -> None:
    stranger = Cloud(**{**vars(cloud), "token": "wrong"})
    with pytest.raises(CloudFailed, match="403"):
        stranger.settings(refuse_client_pause=True)
    assert cloud.settings() == {"refuse_client_pause": False, "fail_next": [], "deploy_every_s": 0}


def test_other_services_of_the_cloud_answer_too(account: Any) -> None:
    ssm = account.client("ssm")
    ssm.put_parameter(Name="/sessions/redis/endpoint", Value="127.0.0.1:1", Type="String")
    assert ssm.get_parameter(Name="/sessions/redis/endpoint")["Parameter"]["Value"] == "127.0.0.1:1"


def test_a_cloud_starts_within_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    clouds.up(tmp_path)
    assert time.monotonic() - started < 15
    clouds.down(tmp_path)
