"""Fleets on a Dask cluster: what is refused, what is delivered twice, who is killed, and what is left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

import helpers
from helpers.aws import connect
from helpers.aws.errors import RunbookError
from helpers.fleet import cluster, worker
from helpers.fleet.cluster import Cluster
from helpers.fleet.targets import Target
from helpers.runbook.execute import ExecutionResult
from helpers.runbook.journal import Journal
from tests.fleet.machines import Machines, call, until, versions, write_runbook

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")


def ledger(tiny: Path) -> list[str]:
    path = tiny.with_name("ledger")
    return sorted(path.read_text().splitlines()) if path.exists() else []


def listening(pid: int) -> list[str]:
    """The addresses on which a process accepts connections, as /proc/net/tcp has them."""
    inodes = {os.readlink(one)[8:-1] for one in Path(f"/proc/{pid}/fd").iterdir() if os.path.islink(one) and os.readlink(one).startswith("socket:[")}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


# -- in this process -----------------------------------------------------------------------------------


def test_a_fleet_on_a_cluster_in_this_process_is_planned_and_applied_as_on_threads(tiny, fleet_file, runbook):
    told = runbook("fleet", fleet_file("a", "b", "c"), "--mode", "plan", "--run-id", "f1", "--cluster", "local", "--max-concurrency", "2")
    assert told.code == 2 and "3 planned" in told.out and "on 1 worker with 2 threads" in told.out, told.err
    done = runbook("fleet", "--plan", "f1", "--approve", re.search(r"Code: (\w+)", told.err)[1])
    assert done.code == 0 and "on 1 worker" in done.out, done.err  # where it was planned
    assert ledger(tiny) == ["a switch", "b switch", "c switch"] and "a: done" in done.out and " s on local" in done.out
    assert worker._warm is None and not worker._running


@linux
def test_a_cluster_in_this_process_listens_nowhere():
    before = listening(os.getpid())
    with Cluster("local", 2) as joined:
        assert listening(os.getpid()) == before and joined.faults([], "plan") == []


def test_a_task_that_is_delivered_again_is_not_run_again_and_its_next_attempt_is(tiny, tmp_path):
    target = Target(1, 1, "tiny", tiny, {"name": "a"}, "a")
    (tmp_path / "runs" / "f1.001").mkdir(parents=True)
    tasks = [worker.Task(name, "s", "f1", target, "f1.001", "rehearse", worker.own_settings()) for name in ("first", "second")]

    def rehearse(path, values, directory, **options):
        with open(tmp_path / "ledger", "a") as book:
            book.write("once\n")
        return ExecutionResult("f1.001", directory, "failed", 1, "It broke.")

    first = worker.run(tasks[0], rehearse)
    assert (first.status, first.error) == ("failed", "It broke.") and worker.run(tasks[0], rehearse) == first and len(ledger(tiny)) == 1
    worker.run(tasks[1], rehearse)
    assert len(ledger(tiny)) == 2


def test_a_run_that_another_process_still_holds_is_waited_for_and_not_for_ever(tmp_path):
    held = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(RunbookError, match="another process.*has held it for 0 s"):
        worker.wait_until_free(tmp_path, 0.1)
    held.close()
    worker.wait_until_free(tmp_path, 0.1)
    (tmp_path / "journal.jsonl").write_text("{\n")
    with pytest.raises(RunbookError, match="is damaged"):
        worker.wait_until_free(tmp_path)


def test_a_worker_that_is_busy_under_other_settings_refuses_a_run(tiny, monkeypatch):
    other = {**worker.own_settings(), "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    with worker._adopted(worker.own_settings(), "f0.001"):
        ended = worker.run(worker.Task("t", "s", "f1", Target(1, 1, "tiny", tiny, {}), "f1.001", "plan", other))
    assert "runs a fleet with other settings: AWS_ENDPOINT_URL" in ended.error
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    assert "hidden" not in str(worker.own_settings())


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["tcp://", "tcp://host", "tcp://host:0", "tcp://host:99999", "http://host:80", "lokal"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(RunbookError, match="is no address of a cluster. Remedy: Write tcp://HOST:PORT"):
        cluster.checked(address)


def test_the_faults_of_the_file_and_of_the_cluster_are_one_list(tiny, runbook, monkeypatch):
    with socket.socket() as free:  # nobody listens there
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    file = tiny.with_name("fleet.yaml")
    file.write_text(f"runbook: {tiny}\ntargets: [a, a]\n")
    told = runbook("fleet", file, "--mode", "plan", "--cluster", address)
    assert told.code == 1 and "fleet.yaml has 2 faults; nothing was run." in told.err and not (tiny.parent / "runs").exists()
    assert f"No Dask scheduler answers at {address}" in told.err and "line 2: It is the target of line 2 again" in told.err
    file.write_text(f"runbook: {tiny}\ntargets: [a]\nwaves: 1\n")
    told = runbook("fleet", file, "--mode", "plan", "--cluster", "nowhere")
    assert "has 2 faults" in told.err and "--cluster nowhere is no address" in told.err and "line 3: The file has no waves" in told.err


def test_without_dask_its_install_is_named(tiny, fleet_file, runbook, monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    told = runbook("fleet", fleet_file("a"), "--cluster", "local")
    assert told.code == 1 and "Dask distributed, which is not installed. Remedy: Install the extra: `uv sync --extra cluster`" in told.err


def test_what_a_worker_has_otherwise_is_told():
    mine = {"versions": {"Python": "3.11", "boto3": "1"}, "runbooks": {"a.ipynb": "1", "b.ipynb": "1"}, "runs": {"nonce": "x"}, "places": {"region eu-west-1": "012345678901 in eu-west-1", "profile ops": "no such profile"}}
    assert list(cluster._differences(mine, mine, "tcp://h:1")) == []
    theirs = {"versions": {"Python": "3.12", "boto3": ""}, "runbooks": {"a.ipynb": "2", "b.ipynb": ""}, "runs": {"nonce": ""}, "places": {"region eu-west-1": "111111111111 in eu-west-1", "profile ops": "012345678901 in eu-west-1"}}
    told = list(cluster._differences(mine, theirs, "tcp://h:1"))
    for fault, start in zip(
        told,
        ("Python is 3.12 and not 3.11", "boto3 is missing and not 1", "a.ipynb is another one", "b.ipynb is not there", "The folder of the runs", "region eu-west-1 leads to 111111111111 in"),
        strict=True,
    ):
        assert fault.startswith(start) and "Remedy: " in fault


# -- on machines of its own ----------------------------------------------------------------------------


@pytest.fixture
def ssm(cloud, tmp_path, monkeypatch):
    """The command line is on the cloud, and so are its workers because it says so."""
    for name, value in {**cloud.environment(), "NO_PROXY": "127.0.0.1", "RUNBOOK_RUNS": str(tmp_path / "runs")}.items():
        monkeypatch.setenv(name, value)
    return connect().client("ssm")


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Three workers of two threads; tests leave one of them alive."""
    names = ("w1", "w2", "w3")
    with Machines(tmp_path_factory.mktemp("dask")) as made:
        for name in names:
            made.worker(name, "--no-nanny")
        made.until_joined(*names)
        yield made
    assert until(lambda: made.everything() == [], 20)


def planned(runbook, file: Path, fleet: str, address: str) -> str:
    """Plan a fleet; returns the code of its plan."""
    told = runbook("fleet", file, "--mode", "plan", "--run-id", fleet, "--cluster", address)
    assert told.code == 2, told.out + told.err
    return re.search(r"Code: (\w+)", told.err)[1]


@linux
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_and_then_the_coordinator_are_killed_in_the_middle_of_an_apply_and_every_effect_happens_once(ssm, machines, tmp_path, runbook):
    file = write_runbook(tmp_path, "abcdefgh")
    (tmp_path / "blind-c").touch()  # which is between its effects when it is killed
    at, wait = tmp_path / "at-c", tmp_path / "wait-c"
    wait.touch()
    code = planned(runbook, file, "f1", machines.address)
    assert versions(ssm, "f1", 8) == [0] * 16
    killed = call("--plan", "f1", "--approve", code, "--max-concurrency", "3")
    try:
        first = int(until(lambda: at.exists() and at.read_text()))
        at.unlink()
        os.kill(first, signal.SIGKILL)
        second = int(until(lambda: at.exists() and at.read_text()))
        assert second != first and killed.poll() is None
    finally:
        killed.kill()
        killed.communicate()
    done = versions(ssm, "f1", 8)
    assert done[4:6] == [1, 0] and max(done) == 1 and sum(done) < 16
    wait.unlink()  # the run goes on, on its worker, for a coordinator that has gone
    told = runbook("resume", "f1")
    assert told.code == 0 and "8 done" in told.out, told.out + told.err
    assert versions(ssm, "f1", 8) == [1] * 16


@linux
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_whose_workers_die_is_one_failed_target_and_ctrl_c_reaches_the_cells_that_run_on_workers(ssm, machines, tmp_path, runbook):
    code = planned(runbook, write_runbook(tmp_path, "abc"), "f2", machines.address)
    machines.allow_failures(0)
    (tmp_path / "kill-a").touch()
    (tmp_path / "wait-b").touch()
    process = call("--plan", "f2", "--approve", code, "--canary", "0", "--max-errors", "100%", "--max-concurrency", "1")
    try:
        until((tmp_path / "at-b").exists)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 4 and "1 failed, 1 interrupted, 1 not run" in out and "1 worker died running it, " in out, out + err
    assert versions(ssm, "f2", 3) == [1, 0, 1, 0, 0, 0]
    (tmp_path / "kill-a").unlink()
    (tmp_path / "wait-b").unlink()
    resumed = runbook("fleet", "--resume", "f2", "--canary", "0")
    assert "1 failed, 2 done" in resumed.out, resumed.out + resumed.err
    again = runbook("fleet", "--retry-failed", "f2")
    assert again.code == 0 and versions(ssm, "f2", 3) == [1] * 6, again.out + again.err


@linux
def test_workers_of_another_version_are_refused_and_nothing_runs(ssm, machines, tmp_path, runbook):
    copy = tmp_path / "other"
    shutil.copytree(Path(helpers.__file__).parent, copy / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "helpers" / "cli.py").write_text("# another one\n")
    with Machines(tmp_path / "dask") as others:
        file = write_runbook(tmp_path, "a")
        told = runbook("fleet", file, "--mode", "plan", "--run-id", "f4", "--cluster", others.address)
        assert told.code == 1 and f"The cluster at {others.address} has no workers. Remedy: Start some" in told.err
        others.worker("old", "--no-nanny", PYTHONPATH=str(copy))
        others.until_joined("old")
        told = runbook("fleet", file, "--mode", "plan", "--run-id", "f4", "--cluster", others.address)
        assert told.code == 1 and "Worker old: helpers is " in told.err and not (tmp_path / "runs" / "f4").exists(), told.err
    assert others.everything() == []
