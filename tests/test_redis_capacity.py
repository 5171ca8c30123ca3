"""The capacity notebook of Redis on a group of the local cloud, with real servers, four weeks of metrics and a backup in S3."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest

from helpers.aws.errors import RunbookError
from helpers.elasticache import capacity
from helpers.elasticache.backup_keys import read_keys
from helpers.elasticache.capacity.source import Source
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import scenario

PATH = Path(__file__).resolve().parents[1] / "notebooks" / "redis_capacity.ipynb"
BACKUP = "s3://sessions-backup/sessions-capacity-0001.rdb"
FIGURES = 8


def executed(folder: Path, environment: dict[str, str], *parameters: str) -> list[nbformat.NotebookNode]:
    command = [sys.executable, "-m", "papermill", str(PATH), str(folder / "out.ipynb"), "--no-progress-bar", "-k", "python3", *parameters]
    done = subprocess.run(command, capture_output=True, text=True, timeout=390, cwd=PATH.parents[1], env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [cell for cell in nbformat.read(folder / "out.ipynb", as_version=4).cells if cell.cell_type == "code"]


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RUNBOOK_"))}


def printed(cells: list[nbformat.NotebookNode]) -> list[str]:
    return [output.text for cell in cells for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"]


def test_its_outputs_hold_no_id_of_a_session():
    text = re.sub(r"[A-Za-z0-9+/=\\n]{500,}", "", json.dumps([cell.outputs for cell in nbformat.read(PATH, as_version=4).cells if cell.cell_type == "code"]))
    assert "session:" in text and re.findall(r"session:[0-9a-f]{5,}", text) == []


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The variables of a local cloud with the scenario of this notebook."""
    folder = tmp_path_factory.mktemp("cloud")
    cloud = clouds.up(folder)
    try:
        scenario.redis_capacity(cloud, keys=2000)
        yield {**clean(), **cloud.environment(), "NO_PROXY": "127.0.0.1"}
    finally:
        scenario.stop_applications(folder)
        clouds.down(folder)


@pytest.fixture
def source(environment, monkeypatch) -> Source:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return capacity.open_source(False, "sessions")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_group_of_the_local_cloud_is_reported_on_with_its_backup(environment, tmp_path):
    cells = executed(tmp_path, environment, "-p", "sample", "False", "-p", "backup", BACKUP)
    told = " ".join("".join(printed(cells)).split())
    assert "1 shard, 2 nodes cache.r6g.large (2 vCPUs)" in told and "account 123456789012" in told
    assert re.search(r"sessions used 6\.\d of 9\.8 GiB at its peak", told)
    assert "cache.r6g.large fits" in told
    assert "keys, about" in told and "saved" in told
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == FIGURES


@pytest.mark.timeout(240)
def test_the_facts_of_the_group_are_those_of_the_service(source):
    cluster = source.cluster
    assert (cluster.name, cluster.type.name, cluster.reserved, cluster.policy) == ("sessions", "cache.r6g.large", 0.25, "volatile-lru")
    assert [(one.id, one.role) for one in cluster.nodes] == [("sessions-001", "primary"), ("sessions-002", "replica")]
    assert "cache.r7g.2xlarge" in cluster.allowed
    assert "us-east-1, because ap-northeast-1 is not in it" in str(source.prices)


@pytest.mark.timeout(240)
def test_four_weeks_are_read_a_maximum_is_of_a_minute_and_a_sum_of_the_hour(source):
    history = source.history(28)
    assert history.silent() == [] and history.days == 28
    values = {name: each[:-1] for name, each in history.values.items()}  # an hour may have begun since the cloud was seeded
    assert (values["bytes_out"] > 20 * values["peak_out"]).all()
    lag = values["lag"]
    assert lag[:, 1].max() == 2.5 and np.isnan(lag[:, 0]).all()  # a primary has none


@pytest.mark.timeout(240)
def test_the_backup_in_s3_is_read_like_the_file_that_it_is(source, tmp_path):
    body = source.aws.client("s3").get_object(Bucket="sessions-backup", Key=BACKUP.rsplit("/", 1)[1])["Body"].read()
    there, here = source.backup(BACKUP), read_keys([("x", lambda: io.BytesIO(body))])
    assert (there.keys, there.memory, there.ttls) == (here.keys, here.memory, here.ttls)
    assert there.keys > 2000 and there.size <= len(body)
    assert source.backup() is None


@pytest.mark.timeout(240)
def test_a_group_or_a_backup_that_is_not_there_is_told_in_a_sentence(source):
    with pytest.raises(RunbookError, match="There is no replication group 'nobody'"):
        capacity.open_source(False, "nobody")
    with pytest.raises(RunbookError, match=r"There is no file s3://sessions-backup/other\.rdb"):
        source.backup("s3://sessions-backup/other.rdb")
