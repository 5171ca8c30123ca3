"""A fleet on a cluster whose machines share nothing but a bucket: each worker and the coordinator have a cache folder of their own."""

from __future__ import annotations

import os
import signal
import sys

import boto3
import pytest

from helpers.aws import connect
from helpers.rehearsal import cloud as clouds
from helpers.runbook import shared_store
from tests.fleet.machines import Machines, call, until, versions, write_runbook
from tests.fleet.test_cluster import planned


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="a runbook finds its worker in /proc")
def test_workers_that_share_only_a_bucket_go_on_with_each_other_s_runs_and_every_effect_happens_once(tmp_path, runbook, monkeypatch):
    cloud = clouds.up(tmp_path / "cloud")
    try:
        for name, value in {**cloud.environment(), "NO_PROXY": "127.0.0.1", "RUNBOOK_RUNS": "s3://fleets/team", "RUNBOOK_LEASE_S": "3", "XDG_CACHE_HOME": str(tmp_path / "coordinator")}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="fleets", CreateBucketConfiguration={"LocationConstraint": clouds.REGION})
        ssm = connect().client("ssm")
        with Machines(tmp_path / "dask") as machines:
            for name in ("w1", "w2"):
                machines.worker(name, "--no-nanny", XDG_CACHE_HOME=str(tmp_path / name), RUNBOOK_LEASE_S="3")
            machines.until_joined("w1", "w2")
            file = write_runbook(tmp_path, "abc")
            (tmp_path / "blind-b").touch()  # which is between its effects when its worker is killed
            at, wait = tmp_path / "at-b", tmp_path / "wait-b"
            wait.touch()
            code = planned(runbook, file, "f1", machines.address)
            assert versions(ssm, "f1", 3) == [0] * 6
            applied = call("--plan", "f1", "--approve", code, "--max-concurrency", "1")
            try:
                first = int(until(lambda: at.exists() and at.read_text()))
                at.unlink()
                os.kill(first, signal.SIGKILL)
                second = int(until(lambda: at.exists() and at.read_text()))
                wait.unlink()
                out, err = applied.communicate(timeout=100)
            finally:
                applied.kill()
            assert applied.returncode == 0 and second != first, out + err
            assert versions(ssm, "f1", 3) == [1] * 6
        (index,) = (tmp_path / "coordinator").glob("aws-runbooks/*/f1/index.html")
        assert index.read_text().count("report.html") == 3
    finally:
        shared_store.opened.cache_clear()
        clouds.down(tmp_path / "cloud")
