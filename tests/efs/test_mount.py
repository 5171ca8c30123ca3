"""The scripts that mount and unmount run in a real shell; only mount, umount and the kernel's tables are stand-ins."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from helpers.aws import RunbookError, calls
from helpers.aws.planned import PlannedWorld
from helpers.efs import hosts
from helpers.efs.hosts import Outcome, run_here
from helpers.efs.mount import (
    NFS_OPTIONS,
    Target,
    forget,
    fstab_lines,
    fstab_script,
    helper_command,
    keep,
    look,
    mount,
    mount_script,
    nfs_command,
    proof_script,
    prove,
    status_script,
    unmount,
    unmount_script,
)

ID = "fs-0123456789abcdef0"
POINT = "fsap-0123456789abcdef0"
PROMISE_S = 15.0  # far above the promised 3 s, for a busy machine, and far below what a hang takes
MOUNT = """#!/bin/sh
echo "$@" >> {here}/mounts
for last; do :; done
case "$*" in
*" efs "*) source=127.0.0.1:/ options=rw,port=20879; : > {here}/run/{id}.mnt.efs.20879; mkdir -p $last ;;
*) source={id}.efs.us-east-1.amazonaws.com:/ options=rw ;;
esac
echo "34 30 0:30 / $last rw - nfs4 $source $options,timeo=600" >> {here}/proc/self/mountinfo
"""
FAILS = "#!/bin/sh\necho 'mount.nfs4: access denied by server while mounting 127.0.0.1:/' >&2\nexit 32\n"
UMOUNT = """#!/bin/sh
echo "$@" >> {here}/umounts
case $1 in -*) ;; *) [ -e {here}/busy ] && {{ echo "umount: target is busy." >&2; exit 32; }}; [ -e {here}/hang ] && sleep 60 ;; esac
[ "$1" = -f ] && [ -e {here}/hang-forced ] && sleep 60
sed -i '/ nfs4 /d' {here}/proc/self/mountinfo
"""


class Machine:
    """A machine that can mount: its kernel's tables and its mount programs in a directory."""

    def __init__(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here, self.point = here, here / "mnt"
        for made in ("bin", "proc/self", "proc/net", "run", "etc", "mnt"):
            (here / made).mkdir(parents=True)
        (here / "proc/self/mountinfo").write_text("22 1 254:0 / / rw - ext4 /dev/root rw\n")
        (here / "proc/filesystems").write_text("nodev\tnfs4\n\text4\n")
        (here / "etc/fstab").write_text("/dev/root / ext4 defaults 0 1")
        self.listens(True)
        self.program("mount", MOUNT)
        self.program("umount", UMOUNT)
        self.program("id", "#!/bin/sh\necho 0\n")
        monkeypatch.setenv("PATH", f"{here / 'bin'}:{os.environ['PATH']}")

    def program(self, name: str, text: str) -> None:
        place = self.here / "bin" / name
        place.write_text(text.replace("{here}", str(self.here)).replace("{id}", ID).replace("{{", "{").replace("}}", "}"))
        place.chmod(0o755)

    def listens(self, does: bool) -> None:
        (self.here / "proc/net/tcp").write_text("  sl\n" + ("   0: 0100007F:518F 00000000:0000 0A 0000\n" if does else ""))

    def run(self, script: str, seconds: float) -> Outcome:
        """The runner: the real shell, with the tables of this machine."""
        for part in ("/proc/", "/etc/fstab", "/var/run/efs/"):
            script = script.replace(part, f"{self.here}{part}" if "run" not in part else f"{self.here}/run/")
        return run_here(script, seconds)

    def said(self, name: str) -> list[str]:
        file = self.here / name
        return file.read_text().splitlines() if file.exists() else []

    def target(self, **options: Any) -> Target:
        return Target(ID, str(self.point), "us-east-1", **options)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "PAUSE_S", 0.01)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def helped(machine: Machine) -> Machine:
    machine.program("mount.efs", "#!/bin/sh\n")
    return machine


def test_the_mount_helper_is_used_where_it_is_installed(helped: Machine) -> None:
    (row,) = mount(helped.target(), runner=helped.run).rows
    assert helped.said("mounts") == [f"-t efs -o tls {ID}:/ {helped.point}"]
    assert row.done and row.found == f"mount -t efs -o tls {ID}:/ {helped.point}"


def test_without_the_helper_the_documented_options_are_used_and_the_missing_encryption_is_said(machine: Machine) -> None:
    (row,) = mount(machine.target(), runner=machine.run).rows
    assert machine.said("mounts") == [f"-t nfs4 -o {NFS_OPTIONS} {ID}.efs.us-east-1.amazonaws.com:/ {machine.point}"]
    assert "not encrypted" in row.found


@pytest.mark.parametrize("options", [{"tls": True}, {"iam": True}, {"access_point": POINT}])
def test_a_mount_that_needs_tls_is_refused_without_the_helper(machine: Machine, options: dict[str, Any]) -> None:
    with pytest.raises(RunbookError, match="needs TLS") as caught:
        mount(machine.target(**options), runner=machine.run)
    assert "mount -t efs -o tls" in caught.value.remedy and "nfs4" not in caught.value.remedy
    assert machine.said("mounts") == []


def test_a_second_mount_finds_the_first(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    (row,) = mount(helped.target(), runner=helped.run).rows
    assert len(helped.said("mounts")) == 1
    assert row.found.startswith("mounted already")


def test_another_file_system_at_the_mount_point_is_not_covered(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    with pytest.raises(RunbookError, match="something else is mounted"):
        mount(Target("fs-0fffffffffffffff0", str(helped.point), "us-east-1"), runner=helped.run)
    assert len(helped.said("mounts")) == 1


def test_a_machine_without_an_nfs_client_refuses_and_shows_the_commands(machine: Machine) -> None:
    (machine.here / "proc/filesystems").write_text("\text4\n")
    machine.program("modprobe", "#!/bin/sh\nexit 1\n")
    with pytest.raises(RunbookError, match="This machine cannot mount: its kernel has no NFS client. Nothing was done") as caught:
        mount(machine.target(), runner=machine.run)
    assert f"sudo mount -t efs -o tls {ID}:/" in caught.value.remedy and "sudo mount -t nfs4" in caught.value.remedy
    assert machine.said("mounts") == []


def test_only_root_mounts(machine: Machine) -> None:
    machine.program("id", "#!/bin/sh\necho 1000\n")
    with pytest.raises(RunbookError, match="only root can mount"):
        mount(machine.target(), runner=machine.run)


def test_a_mount_that_fails_is_diagnosed(helped: Machine) -> None:
    helped.program("mount", FAILS)
    with pytest.raises(RunbookError, match="POLICY_DENIED: .*access denied by server") as caught:
        mount(helped.target(), runner=helped.run)
    assert "ClientMount" in caught.value.remedy


@pytest.mark.parametrize(
    "said",
    ["Mount attempt 1/3 failed due to timeout after 15 sec, wait 0 sec before next attempt.", "Failed to establish an initial connection to EFS. Error: Certificate is untrusted"],
    ids=["a timeout", "what efs-proxy says of two causes"],
)
def test_a_mount_that_hangs_is_explained_by_the_probe(helped: Machine, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    helped.program("mount", f"#!/bin/sh\necho '{said}' >&2\nexit 124\n")
    with socket.create_server(("127.0.0.1", 0)) as held:
        closed = held.getsockname()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", closed)])
    with pytest.raises(RunbookError, match="TCP_REFUSED: .*the probe says: .* refuses connections"):
        mount(helped.target(), runner=helped.run)


def test_the_helpers_options_carry_tls_iam_and_access_point() -> None:
    target = Target(ID, "/mnt/efs", "us-east-1", "/app", access_point=POINT, iam=True)
    assert helper_command(target) == ["mount", "-t", "efs", "-o", f"tls,iam,accesspoint={POINT}", f"{ID}:/app", "/mnt/efs"]


def test_the_plain_mount_goes_to_the_dns_name_of_the_region() -> None:
    assert nfs_command(Target(ID, "/mnt/efs", "cn-north-1"))[-2] == f"{ID}.efs.cn-north-1.amazonaws.com.cn:/"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"file_system": "fs-xyz"}, "no file system id"),
        ({"file_system": "fs-012345678"}, "no file system id"),
        ({"mount_point": "mnt"}, "no mount point"),
        ({"mount_point": "/"}, "no mount point"),
        ({"mount_point": "/mnt/a b"}, "no mount point"),
        ({"directory": "/a/../b"}, "no directory"),
        ({"directory": "/a;reboot"}, "no directory"),
        ({"region": "Frankfurt"}, "no region"),
        ({"access_point": "fsap-12"}, "no access point"),
        ({"iam": True, "tls": False}, "need TLS"),
    ],
)
def test_what_cannot_be_mounted_is_refused_before_anything_runs(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RunbookError, match=said):
        Target(**{"file_system": ID, "mount_point": "/mnt/efs", "region": "us-east-1", **wrong})


def test_a_mount_is_proven_by_a_file_that_comes_back(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    (row,) = prove(helped.target(), runner=helped.run).rows
    assert "1048576 bytes written, read back and equal" in row.found
    assert list(helped.point.iterdir()) == []


def test_a_directory_that_is_not_mounted_proves_nothing(helped: Machine) -> None:
    with pytest.raises(RunbookError, match="nothing is mounted"):
        prove(helped.target(), runner=helped.run)


def test_a_file_that_comes_back_changed_is_no_proof(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    helped.program("dd", '#!/bin/sh\nfor part; do case $part in of=*) echo changed > "${part#of=}" ;; esac; done\n')
    with pytest.raises(RunbookError, match="did not come back as it was written"):
        prove(helped.target(), runner=helped.run)


def test_the_line_of_fstab_waits_for_the_network() -> None:
    helper, plain = fstab_lines(Target(ID, "/mnt/efs", "us-east-1"))
    assert helper == f"{ID}:/ /mnt/efs efs _netdev,noresvport,tls 0 0"
    assert plain == f"{ID}.efs.us-east-1.amazonaws.com:/ /mnt/efs nfs4 {NFS_OPTIONS},_netdev 0 0"


def test_the_line_of_fstab_is_added_once_and_taken_out_again(helped: Machine) -> None:
    before = helped.said("etc/fstab")
    keep(helped.target(), runner=helped.run)
    keep(helped.target(), runner=helped.run)
    assert helped.said("etc/fstab") == [*before, fstab_lines(helped.target())[0]]
    forget(helped.target(), runner=helped.run)
    assert helped.said("etc/fstab") == before


def test_a_living_mount_is_unmounted_plainly(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    (row,) = unmount(str(helped.point), runner=helped.run).rows
    assert (row.found, helped.said("umounts")) == ("unmounted", [str(helped.point)])


def test_a_dead_tunnel_is_unmounted_by_force_and_not_waited_for(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    helped.listens(False)
    (helped.here / "hang").touch()
    started = time.monotonic()
    (row,) = unmount(str(helped.point), runner=helped.run).rows
    assert time.monotonic() - started < PROMISE_S
    assert helped.said("umounts") == [f"-f {helped.point}"]
    assert "by force" in row.found


def test_where_force_hangs_too_the_mount_is_taken_out_of_sight(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    helped.listens(False)
    (helped.here / "hang-forced").touch()
    unmount(str(helped.point), runner=helped.run)
    assert helped.said("umounts") == [f"-f {helped.point}", f"-l {helped.point}"]


def test_a_busy_mount_point_stays_and_the_way_out_is_said(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    (helped.here / "busy").touch()
    with pytest.raises(RunbookError, match="fuser -vm.*target is busy"):
        unmount(str(helped.point), runner=helped.run)
    assert unmount(str(helped.point), force=True, runner=helped.run).rows[0].done


def test_unmounting_what_is_not_mounted_does_nothing(machine: Machine) -> None:
    (row,) = unmount(str(machine.point), runner=machine.run).rows
    assert (row.found, machine.said("umounts")) == ("nothing is mounted", [])


def test_the_figures_of_a_living_mount_are_told(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    (row,) = look(str(helped.point), runner=helped.run).rows
    assert row.done
    assert re.fullmatch(r"127\.0\.0\.1:/, [\d.]+ GiB used of \d+ GiB", row.found)


def test_a_dead_tunnel_is_told_without_asking_the_mount_point(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    helped.listens(False)
    helped.program("stat", "#!/bin/sh\nsleep 60\n")
    (row,) = look(str(helped.point), runner=helped.run).rows
    assert row.done is False
    assert "tunnel on port 20879 is dead" in row.found


def test_a_file_system_that_does_not_answer_is_given_up(helped: Machine) -> None:
    mount(helped.target(), runner=helped.run)
    helped.program("stat", "#!/bin/sh\nexec sleep 60\n")
    (row,) = look(str(helped.point), runner=helped.run).rows
    assert "does not answer in 2 s" in row.found


def test_looking_where_nothing_is_mounted_says_so(machine: Machine) -> None:
    assert look(str(machine.point), runner=machine.run).rows[0].found == "nothing is mounted"


def test_a_script_that_hangs_is_ended_with_its_children() -> None:
    started = time.monotonic()
    outcome = run_here("echo begun; sleep 60", 0.5)
    assert (outcome.exit_code, outcome.stdout) == (124, "begun\n")
    assert time.monotonic() - started < 30


class Ssm:
    """Run Command with a machine behind every instance id, which knows of a command only when asked a second time."""

    def __init__(self, machines: dict[str, Machine]) -> None:
        self.machines, self.asked, self.early, self._done = machines, [], [], {}

    def send_command(self, *, InstanceIds: Sequence[str], **rest: Any) -> dict[str, Any]:  # noqa: N803
        if unknown := set(InstanceIds) - set(self.machines):
            raise ClientError({"Error": {"Code": "InvalidInstanceId", "Message": str(unknown)}}, "SendCommand")
        self.asked.append((list(InstanceIds), rest))
        (script,) = rest["Parameters"]["commands"]
        self._done = {name: self.machines[name].run(script, 30) for name in InstanceIds}
        return {"Command": {"CommandId": "0123"}}

    def get_command_invocation(self, *, CommandId: str, InstanceId: str) -> dict[str, Any]:  # noqa: N803
        if InstanceId not in self.early:
            self.early.append(InstanceId)
            raise ClientError({"Error": {"Code": "InvocationDoesNotExist", "Message": ""}}, "GetCommandInvocation")
        one = self._done[InstanceId]
        status = "Failed" if one.exit_code else "Success"
        return {"Status": status, "ResponseCode": one.exit_code, "StandardOutputContent": one.stdout, "StandardErrorContent": one.stderr}


def test_hosts_are_mounted_through_run_command(helped: Machine) -> None:
    ssm = Ssm({"i-1": helped, "i-2": helped})
    found = mount(helped.target(), ["i-1", "i-2"], ssm=ssm)
    assert [row.host for row in found.rows] == ["i-1", "i-2"]
    assert list(found.table()["outcome"]) == ["pass", "pass"]
    assert ssm.asked[0][1]["DocumentName"] == "AWS-RunShellScript"
    assert ssm.early == ["i-1", "i-2"]


def test_a_host_that_fails_is_named_with_its_diagnosis(helped: Machine) -> None:
    helped.program("mount", FAILS)
    with pytest.raises(RunbookError, match="i-1: POLICY_DENIED"):
        mount(helped.target(), ["i-1"], ssm=Ssm({"i-1": helped}))


def test_a_host_that_ssm_does_not_know_is_told(helped: Machine) -> None:
    with pytest.raises(RunbookError, match="SSM does not reach all of i-9") as caught:
        mount(helped.target(), ["i-9"], ssm=Ssm({}))
    assert "AmazonSSMManagedInstanceCore" in caught.value.remedy


def test_a_success_without_a_word_of_the_script_counts_as_nothing_done(helped: Machine) -> None:
    with pytest.raises(RunbookError, match="it did not run"):
        mount(helped.target(), runner=lambda script, seconds: Outcome("i-1", 0, "", "", "Success"))
    with pytest.raises(RunbookError, match="it did not run"):
        unmount(str(helped.point), runner=lambda script, seconds: Outcome("i-1", 0, "", "", "Success"))


def test_hosts_without_a_client_are_refused(helped: Machine) -> None:
    with pytest.raises(RunbookError, match="no SSM client"):
        mount(helped.target(), ["i-1"])


def test_a_plan_lists_the_mount_and_runs_nothing(helped: Machine) -> None:
    seen: list[calls.Call] = []
    calls.watch(calls.Watch(seen.append, plan=PlannedWorld()))
    try:
        found = mount(helped.target(), runner=helped.run)
    finally:
        calls.watch(None)
    assert list(found.table()["outcome"]) == ["planned"]
    assert [(call.operation, call.resource, call.sent) for call in seen] == [("Mount", "this machine", False)]
    assert helped.said("mounts") == []


def test_the_scripts_are_posix(helped: Machine) -> None:
    target = helped.target()
    scripts = [mount_script(target), proof_script(target, "ab"), fstab_script(target), fstab_script(target, remove=True), unmount_script("/mnt"), status_script("/mnt")]
    assert all(subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0 for script in scripts)
